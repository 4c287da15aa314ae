"""Commands of the native face (contract section 3): their shapes, and what is wrong with one that has another."""

from collections.abc import Sequence
from typing import Any

import msgspec

from voicebus.agents.saying import is_image_address
from voicebus.runtime.frames import check_values, parse_event


class _Command(msgspec.Struct, tag_field="type"):
    """`again`: the client has sent this command before, on a connection that it lost before there was an answer."""

    id: str | None = None
    again: bool = False


class SendMessage(_Command, tag="send_message"):
    text: str | None = None
    content: list[dict[str, Any]] | None = None

    def parts(self) -> Sequence[dict[str, Any]]:
        """The protocol's input parts.

        Raises:
            ValueError: neither text nor content, or a part that is neither text nor image.
        """
        if (self.text is None) == (self.content is None):
            raise ValueError("send_message needs either text or content")
        if self.text is not None:
            return [{"type": "input_text", "text": self.text}]
        for part in self.content or []:
            field = {"input_text": "text", "input_image": "image_url"}.get(str(part.get("type")))
            if field is None or not isinstance(part.get(field), str):
                raise ValueError("a part of content is {type: input_text, text} or {type: input_image, image_url}")
            if field == "image_url" and not is_image_address(part[field]):
                raise ValueError("image_url must be a data: or https: address")
        return self.content or []


class Audio(_Command, tag="audio", kw_only=True):
    data: str


class Commit(_Command, tag="commit"):
    pass


class Interrupt(_Command, tag="interrupt"):
    pass


class Playback(_Command, tag="playback", kw_only=True):
    item_id: str
    content_index: int = 0
    played_ms: float


class Decision(_Command, kw_only=True):
    call_id: str
    always: bool = False


class Approve(Decision, tag="approve"):
    pass


class Reject(Decision, tag="reject"):
    message: str | None = None


class UpdateAgent(_Command, tag="update_agent", kw_only=True):
    agent: str


class Mute(_Command, tag="mute", kw_only=True):
    muted: bool


class Record(_Command, tag="record", kw_only=True):
    consent: bool


class End(_Command, tag="end"):
    pass


Command = (
    SendMessage | Audio | Commit | Interrupt | Playback | Approve | Reject | UpdateAgent | Mute | Record | End
)  # fmt: skip

_decode = msgspec.json.Decoder(Command).decode


class CommandError(ValueError):
    """A frame that is no command. `id` is the client's, where it gave one."""

    def __init__(self, code: str, message: str, id: str | None = None) -> None:  # noqa: A002 - the wire's name
        super().__init__(message)
        self.code = code
        self.id = id


def read_command(frame: bytes) -> Command:
    """Read one command.

    Raises:
        CommandError: `invalid_json`, `invalid_event` (no type), `unknown_command` or `invalid_value`.
    """
    try:
        check_values(frame)
    except ValueError as error:
        raise CommandError("invalid_json", str(error)) from error
    try:
        command: Command = _decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _explain(frame, error) from error
    return command


def id_of(frame: bytes) -> str | None:
    """The client's id of a command, if it gave one, whatever else is wrong with it."""
    try:
        return read_command(frame).id
    except CommandError as error:
        return error.id


def _explain(frame: bytes, error: Exception) -> CommandError:
    try:
        event = parse_event(frame)
    except ValueError as broken:
        return CommandError("invalid_json", str(broken))
    given = event.get("id")
    given = given if isinstance(given, str) else None
    kind = event.get("type")
    if not isinstance(kind, str):
        return CommandError("invalid_event", "the command has no type", given)
    if "$.type" in str(error):
        return CommandError("unknown_command", f"there is no command {kind[:64]!r}", given)
    return CommandError("invalid_value", f"{kind}: {error}", given)
