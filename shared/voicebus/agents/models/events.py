"""What a `RealtimeModel` tells its listeners. One dataclass per thing that can arrive, told apart by `type`.

Every listener is told the same one, so they are frozen; samples, words and raw events, of which there are dozens for
each second of speech, are made as quickly as if they were not.
"""

from dataclasses import dataclass
from typing import Any, Literal

from voicebus.agents.frozen import quickly_frozen
from voicebus.agents.items import RealtimeItem
from voicebus.agents.usage import Usage

RealtimeConnectionStatus = Literal["connecting", "connected", "disconnected"]


@dataclass(frozen=True)
class RealtimeModelErrorEvent:
    """The server reported an error; the connection goes on. `error` is the server's own object, its fields by key and
    as attributes; a model of the program's own may give anything.
    """

    error: Any
    type: Literal["error"] = "error"


@dataclass(frozen=True)
class RealtimeModelToolCallEvent:
    """The model has finished a call. `arguments` is its JSON text, `id` the call's item."""

    name: str
    call_id: str
    arguments: str
    id: str | None = None
    previous_item_id: str | None = None
    type: Literal["function_call"] = "function_call"


@quickly_frozen
class RealtimeModelAudioEvent:
    """`data` are samples in the session's output format."""

    data: bytes
    response_id: str
    item_id: str
    content_index: int
    type: Literal["audio"] = "audio"


@dataclass(frozen=True)
class RealtimeModelAudioInterruptedEvent:
    """What is being played of this part must stop."""

    item_id: str
    content_index: int
    type: Literal["audio_interrupted"] = "audio_interrupted"


@dataclass(frozen=True)
class RealtimeModelAudioDoneEvent:
    """No more samples of this part will come."""

    item_id: str
    content_index: int
    type: Literal["audio_done"] = "audio_done"


@dataclass(frozen=True)
class RealtimeModelInputAudioTranscriptionCompletedEvent:
    """The words of what the user said in an item are known."""

    item_id: str
    transcript: str
    type: Literal["input_audio_transcription_completed"] = "input_audio_transcription_completed"


@dataclass(frozen=True)
class RealtimeModelInputAudioTimeoutTriggeredEvent:
    """Nothing was heard for the configured time; positions in ms of the input audio."""

    item_id: str
    audio_start_ms: int
    audio_end_ms: int
    type: Literal["input_audio_timeout_triggered"] = "input_audio_timeout_triggered"


@quickly_frozen
class RealtimeModelTranscriptDeltaEvent:
    """A piece of the transcript of spoken audio."""

    item_id: str
    delta: str
    response_id: str
    type: Literal["transcript_delta"] = "transcript_delta"


@quickly_frozen
class RealtimeModelOutputTextDeltaEvent:
    """A piece of a text answer."""

    item_id: str
    delta: str
    response_id: str
    type: Literal["output_text_delta"] = "output_text_delta"


@dataclass(frozen=True)
class RealtimeModelItemUpdatedEvent:
    """An item is new, or known better."""

    item: RealtimeItem
    type: Literal["item_updated"] = "item_updated"


@dataclass(frozen=True)
class RealtimeModelItemDeletedEvent:
    """An item is no longer in the model's conversation."""

    item_id: str
    type: Literal["item_deleted"] = "item_deleted"


@dataclass(frozen=True)
class RealtimeModelConnectionStatusEvent:
    """The connection to the model has come or gone."""

    status: RealtimeConnectionStatus
    type: Literal["connection_status"] = "connection_status"


@dataclass(frozen=True)
class RealtimeModelEndOfStreamEvent:
    """The server closed the connection in order; nothing more comes."""

    type: Literal["end_of_stream"] = "end_of_stream"


@dataclass(frozen=True)
class RealtimeModelTurnStartedEvent:
    """The model begins a response."""

    type: Literal["turn_started"] = "turn_started"
    response_id: str | None = None


@dataclass(frozen=True)
class RealtimeModelCachedTokensDetails:
    """Tokens that were read from the provider's cache, by what they were; None where it does not say."""

    text_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


@dataclass(frozen=True)
class RealtimeModelInputTokensDetails:
    """Tokens that went in, by what they were; None where the provider does not say."""

    text_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None
    cached_tokens: int | None = None
    cached_tokens_details: RealtimeModelCachedTokensDetails | None = None


@dataclass(frozen=True)
class RealtimeModelOutputTokensDetails:
    """Tokens that came out, by what they were; None where the provider does not say."""

    text_tokens: int | None = None
    audio_tokens: int | None = None


@dataclass(frozen=True)
class RealtimeModelUsageEvent:
    """A response's tokens; comes before its `turn_ended`."""

    usage: Usage
    input_tokens_details: RealtimeModelInputTokensDetails | None = None
    output_tokens_details: RealtimeModelOutputTokensDetails | None = None
    type: Literal["usage"] = "usage"


@dataclass(frozen=True)
class RealtimeModelTurnEndedEvent:
    """The model has ended a response, whatever became of it."""

    type: Literal["turn_ended"] = "turn_ended"
    response_id: str | None = None


@dataclass(frozen=True)
class RealtimeModelOtherEvent:
    """Something of a vendor's own."""

    data: Any
    type: Literal["other"] = "other"


@dataclass(frozen=True)
class RealtimeModelExceptionEvent:
    """The transport failed: the connection is of no more use."""

    exception: Exception
    context: str | None = None
    type: Literal["exception"] = "exception"


@quickly_frozen
class RealtimeModelRawServerEvent:
    """A server event as it came; whatever it means follows as events of its own."""

    data: Any
    type: Literal["raw_server_event"] = "raw_server_event"


RealtimeModelEvent = (
    RealtimeModelErrorEvent
    | RealtimeModelToolCallEvent
    | RealtimeModelAudioEvent
    | RealtimeModelAudioInterruptedEvent
    | RealtimeModelAudioDoneEvent
    | RealtimeModelInputAudioTimeoutTriggeredEvent
    | RealtimeModelInputAudioTranscriptionCompletedEvent
    | RealtimeModelTranscriptDeltaEvent
    | RealtimeModelOutputTextDeltaEvent
    | RealtimeModelItemUpdatedEvent
    | RealtimeModelItemDeletedEvent
    | RealtimeModelConnectionStatusEvent
    | RealtimeModelEndOfStreamEvent
    | RealtimeModelTurnStartedEvent
    | RealtimeModelUsageEvent
    | RealtimeModelTurnEndedEvent
    | RealtimeModelOtherEvent
    | RealtimeModelExceptionEvent
    | RealtimeModelRawServerEvent
)
