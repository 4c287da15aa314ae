"""What an entry of a session's inbox means to its engine: replies of workers, and commands of other processes."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from msgspec.structs import replace
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from voicebus.contracts.commands import SESSION_COMMAND, SessionCommand
from voicebus.contracts.envelope import Entry
from voicebus.contracts.guardrails import GUARDRAIL_VERDICT, GuardrailVerdict
from voicebus.contracts.journal import DecidedBy
from voicebus.contracts.tools import TOOL_PROGRESS, TOOL_RESULT, TOOL_STARTED, ToolProgress, ToolResult, ToolStarted
from voicebus.engine.inputs import (
    Approve,
    CommitAudio,
    End,
    Input,
    Interrupt,
    Playback,
    Reject,
    SendMessage,
    ToolProgressArrived,
    ToolResultArrived,
    ToolStartedArrived,
    VerdictArrived,
)
from voicebus.errors import ContractError

# Entries may be delivered twice; a command is carried out once, among the last so many.
_REMEMBERED: Final = 1_000


@dataclass(frozen=True, slots=True)
class TakeOver:
    """An agent is to take over, by name: what it is has to be resolved first."""

    agent: str


@dataclass(frozen=True, slots=True)
class Consent:
    """The caller agrees to be recorded, or does not."""

    given: bool


class Commands:
    """Reads one session's inbox; remembers which commands it has read."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, None] = OrderedDict()

    def read(self, entry: Entry) -> Input | TakeOver | Consent | None:
        """The input that `entry` brings; None for a command that came before.

        Raises:
            ContractError: no session reads such an entry, or it is malformed; for the inbox to dead-letter it.
        """
        if entry.type == TOOL_RESULT:
            return ToolResultArrived(ToolResult.of(entry).bounded())
        if entry.type == GUARDRAIL_VERDICT:
            return VerdictArrived(GuardrailVerdict.of(entry))
        if entry.type == TOOL_STARTED:
            return ToolStartedArrived(ToolStarted.of(entry))
        if entry.type == TOOL_PROGRESS:
            return ToolProgressArrived(ToolProgress.of(entry))
        if entry.type == SESSION_COMMAND:
            return self._command(SessionCommand.of(entry))
        raise ContractError(f"no session reads entries of type {entry.type!r}", reason="unexpected_type")

    def forget(self, entry: Entry) -> None:
        """The command in `entry` was refused: it counts anew should it come again."""
        self._seen.pop(SessionCommand.of(entry).command_id, None)

    def _command(self, command: SessionCommand) -> Input | TakeOver | Consent | None:
        read = _COMMANDS.get(command.command)
        if read is None:
            raise ContractError(f"no session obeys {command.command[:64]!r} from afar", reason="unexpected_type")
        try:
            event = read(command.arguments)
            if isinstance(event, Approve | Reject):
                event = replace(event, by=command.by or DecidedBy(via="stream"))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ContractError(f"{command.command}: {where}: {first['msg']}", reason="malformed") from error
        if command.command_id in self._seen:
            return None
        self._seen[command.command_id] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return event


class _Arguments(BaseModel):
    """Of a command; further ones are those of later versions."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Approve(_Arguments):
    call_id: str = Field(min_length=1)
    always: bool = False


class _Reject(_Approve):
    message: str | None = None


class _End(_Arguments):
    reason: str = Field("ended", pattern="^[a-z_]{1,40}$")


class _UpdateAgent(_Arguments):
    agent: str = Field(min_length=1)


class _Record(_Arguments):
    consent: bool


class _Playback(_Arguments):
    item_id: str = Field(min_length=1)
    content_index: int = Field(0, ge=0)
    played_ms: float = Field(ge=0, allow_inf_nan=False)


class _SendMessage(_Arguments):
    text: str | None = None
    content: list[dict[str, Any]] | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> "_SendMessage":
        if (self.text is None) == (self.content is None):
            raise ValueError("either text or content")
        return self

    def parts(self) -> list[dict[str, Any]]:
        return self.content if self.content is not None else [{"type": "input_text", "text": self.text}]


def _approve(arguments: Mapping[str, Any]) -> Input:
    given = _Approve.model_validate(arguments)
    return Approve(given.call_id, given.always)


def _reject(arguments: Mapping[str, Any]) -> Input:
    given = _Reject.model_validate(arguments)
    return Reject(given.call_id, given.always, given.message)


def _playback(arguments: Mapping[str, Any]) -> Input:
    given = _Playback.model_validate(arguments)
    return Playback(given.item_id, given.content_index, given.played_ms)


_COMMANDS: Final[Mapping[str, Callable[[Mapping[str, Any]], Input | TakeOver | Consent]]] = {
    "approve": _approve,
    "reject": _reject,
    "interrupt": lambda _: Interrupt(),
    "commit": lambda _: CommitAudio(),
    "playback": _playback,
    "update_agent": lambda arguments: TakeOver(_UpdateAgent.model_validate(arguments).agent),
    "send_message": lambda arguments: SendMessage(_SendMessage.model_validate(arguments).parts()),
    "record": lambda arguments: Consent(_Record.model_validate(arguments).consent),
    "end": lambda arguments: End(_End.model_validate(arguments).reason),
}
