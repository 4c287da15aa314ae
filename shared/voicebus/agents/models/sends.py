"""What a `RealtimeModel` is told to do. One dataclass per thing that can be sent.

Each is frozen, and raises `UserError` for a field of the wrong type, which it names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from voicebus.agents import checking
from voicebus.agents.models.events import RealtimeModelToolCallEvent

if TYPE_CHECKING:
    from voicebus.agents.config import RealtimeSessionModelSettings


class RealtimeModelRawClientMessage(TypedDict):
    """A client event of the protocol: its `type`, and every other field of it in `other_data`."""

    type: str
    other_data: NotRequired[dict[str, Any]]


class RealtimeModelInputTextContent(TypedDict):
    """A part of a message: text."""

    type: Literal["input_text"]
    text: str


class RealtimeModelInputImageContent(TypedDict):
    """`image_url` is a `data:` or `https:` address; `detail` is `auto`, `low` or `high`."""

    type: Literal["input_image"]
    image_url: str
    detail: NotRequired[str]


class RealtimeModelUserInputMessage(TypedDict):
    """A message of the user, in parts."""

    type: Literal["message"]
    role: Literal["user"]
    content: list[RealtimeModelInputTextContent | RealtimeModelInputImageContent]


RealtimeModelUserInput = str | RealtimeModelUserInputMessage


@dataclass(frozen=True)
class RealtimeModelSendRawMessage:
    """Send a client event as it stands; one that is none is refused with an `error` event."""

    message: RealtimeModelRawClientMessage

    def __post_init__(self) -> None:
        checking.mapping("RealtimeModelSendRawMessage", "message", self.message)


@dataclass(frozen=True)
class RealtimeModelSendUserInput:
    """Add a user message and have it answered."""

    user_input: RealtimeModelUserInput

    def __post_init__(self) -> None:
        if not isinstance(self.user_input, str | Mapping):
            checking.refuse("RealtimeModelSendUserInput", "user_input", "text or a message", self.user_input)


@dataclass(frozen=True)
class RealtimeModelSendAudio:
    """Append samples in the session's input format; `commit` ends a manual turn."""

    audio: bytes
    commit: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.audio, bytes | bytearray | memoryview):
            checking.refuse("RealtimeModelSendAudio", "audio", "bytes", self.audio)
        checking.flag("RealtimeModelSendAudio", "commit", self.commit)


@dataclass(frozen=True)
class RealtimeModelSendToolOutput:
    """Answer a call; `start_response` has the model go on, once nothing runs any more."""

    tool_call: RealtimeModelToolCallEvent
    output: str
    start_response: bool

    def __post_init__(self) -> None:
        where = "RealtimeModelSendToolOutput"
        checking.instance(where, "tool_call", self.tool_call, RealtimeModelToolCallEvent)
        checking.text(where, "output", self.output)
        checking.flag(where, "start_response", self.start_response)


@dataclass(frozen=True)
class RealtimeModelSendInterrupt:
    """Stop what is being said: cancel the response and truncate what was not heard.

    `response_id` limits it to one response. `cancel_response_only` leaves playback alone (a text answer),
    `playback_only` leaves the response alone. `force_response_cancel` is accepted as others know it; a response that
    runs is always cancelled (parity 0.2).
    """

    force_response_cancel: bool = False
    response_id: str | None = None
    cancel_response_only: bool = False
    playback_only: bool = False

    def __post_init__(self) -> None:
        where = "RealtimeModelSendInterrupt"
        checking.text(where, "response_id", self.response_id, optional=True)
        for name in ("force_response_cancel", "cancel_response_only", "playback_only"):
            checking.flag(where, name, getattr(self, name))


@dataclass(frozen=True)
class RealtimeModelSendSessionUpdate:
    """Change the session's settings; what is absent stays."""

    session_settings: "RealtimeSessionModelSettings"

    def __post_init__(self) -> None:
        checking.mapping("RealtimeModelSendSessionUpdate", "session_settings", self.session_settings)


RealtimeModelSendEvent = (
    RealtimeModelSendRawMessage
    | RealtimeModelSendUserInput
    | RealtimeModelSendAudio
    | RealtimeModelSendToolOutput
    | RealtimeModelSendInterrupt
    | RealtimeModelSendSessionUpdate
)
