"""Commands to a session from another process, through its gateway's inbox, and their answers (contract section 2)."""

from typing import Any, ClassVar, Final

from pydantic import ConfigDict, Field

from voicebus.contracts.envelope import Message
from voicebus.contracts.journal import DecidedBy

SESSION_COMMAND: Final = "session.command"
SESSION_ANSWER: Final = "session.answer"
SESSION_TAKEN: Final = "session.taken"

YIELD: Final = "yield"
"""The command by which a gateway (`gateway`) asks a session's owner, which stops, to give the session up at a turn
boundary; acknowledged once all is written.
"""


class SessionCommand(Message):
    """`command` and the further fields are those of the native face (contract section 3).

    `reply_to`: where a `SessionAnswer` is awaited, None where nobody waits. `by`: on whose behalf, for the record.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="allow")

    command_id: str
    command: str
    reply_to: str | None = None
    by: DecidedBy | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


RESEND: Final = "resend"
"""The archiver's command to a session's owner, beside those of the native face; its arguments are `Resend`."""


class Resend(Message):
    """Append the recorded events of [`from`, `to`] to the event stream again: they are missing in the archive."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore", serialize_by_alias=True)

    first: int = Field(alias="from", ge=1)
    last: int = Field(alias="to", ge=1)


class CommandFailure(Message):
    """`code` is the one that the native face answers with."""

    code: str
    message: str


class SessionAnswer(Message):
    """The session's owner has carried the command out, or could not."""

    command_id: str
    error: CommandFailure | None = None


class SessionTaken(Message):
    """To the owner that a session had: `gateway` owns it now, at the entry's epoch."""

    gateway: str
