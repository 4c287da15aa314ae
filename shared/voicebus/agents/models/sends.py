"""What a `RealtimeModel` is told to do. One dataclass per thing that can be sent."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

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


@dataclass
class RealtimeModelSendRawMessage:
    """Send a client event as it stands; one that is none is refused with an `error` event."""

    message: RealtimeModelRawClientMessage


@dataclass
class RealtimeModelSendUserInput:
    """Add a user message and have it answered."""

    user_input: RealtimeModelUserInput


@dataclass
class RealtimeModelSendAudio:
    """Append samples in the session's input format; `commit` ends a manual turn."""

    audio: bytes
    commit: bool = False


@dataclass
class RealtimeModelSendToolOutput:
    """Answer a call; `start_response` has the model go on, once nothing runs any more."""

    tool_call: RealtimeModelToolCallEvent
    output: str
    start_response: bool


@dataclass
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


@dataclass
class RealtimeModelSendSessionUpdate:
    """Change the session's settings; what is absent stays."""

    session_settings: "RealtimeSessionModelSettings"


RealtimeModelSendEvent = (
    RealtimeModelSendRawMessage
    | RealtimeModelSendUserInput
    | RealtimeModelSendAudio
    | RealtimeModelSendToolOutput
    | RealtimeModelSendInterrupt
    | RealtimeModelSendSessionUpdate
)
