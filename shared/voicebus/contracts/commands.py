"""Commands to a session from another process, through its gateway's inbox (contract section 2)."""

from typing import Any, Final

from pydantic import ConfigDict

from voicebus.contracts.envelope import Message

SESSION_COMMAND: Final = "session.command"


class SessionCommand(Message):
    """`command` and the further fields are those of the native face (contract section 3)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    command_id: str
    command: str

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})
