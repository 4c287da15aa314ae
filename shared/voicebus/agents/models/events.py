"""What a `RealtimeModel` tells its listeners. One dataclass per thing that can arrive, told apart by `type`.

Every listener is told the same one, so they are frozen, and made as quickly as if they were not.
"""

from typing import Any, Literal

from voicebus.agents.frozen import quickly_frozen
from voicebus.agents.items import RealtimeItem
from voicebus.agents.usage import Usage

RealtimeConnectionStatus = Literal["connecting", "connected", "disconnected"]


@quickly_frozen
class RealtimeModelErrorEvent:
    """The server reported an error; the connection goes on. `error` is the server's own object, its fields by key and
    as attributes; a model of the program's own may give anything.
    """

    error: Any
    type: Literal["error"] = "error"


@quickly_frozen
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


@quickly_frozen
class RealtimeModelAudioInterruptedEvent:
    """What is being played of this part must stop."""

    item_id: str
    content_index: int
    type: Literal["audio_interrupted"] = "audio_interrupted"


@quickly_frozen
class RealtimeModelAudioDoneEvent:
    """No more samples of this part will come."""

    item_id: str
    content_index: int
    type: Literal["audio_done"] = "audio_done"


@quickly_frozen
class RealtimeModelInputAudioTranscriptionCompletedEvent:
    """The words of what the user said in an item are known."""

    item_id: str
    transcript: str
    type: Literal["input_audio_transcription_completed"] = "input_audio_transcription_completed"


@quickly_frozen
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


@quickly_frozen
class RealtimeModelItemUpdatedEvent:
    """An item is new, or known better."""

    item: RealtimeItem
    type: Literal["item_updated"] = "item_updated"


@quickly_frozen
class RealtimeModelItemDeletedEvent:
    """An item is no longer in the model's conversation."""

    item_id: str
    type: Literal["item_deleted"] = "item_deleted"


@quickly_frozen
class RealtimeModelConnectionStatusEvent:
    """The connection to the model has come or gone."""

    status: RealtimeConnectionStatus
    type: Literal["connection_status"] = "connection_status"


@quickly_frozen
class RealtimeModelEndOfStreamEvent:
    """The server closed the connection in order; nothing more comes."""

    type: Literal["end_of_stream"] = "end_of_stream"


@quickly_frozen
class RealtimeModelTurnStartedEvent:
    """The model begins a response."""

    type: Literal["turn_started"] = "turn_started"
    response_id: str | None = None


@quickly_frozen
class RealtimeModelCachedTokensDetails:
    """Tokens that were read from the provider's cache, by what they were; None where it does not say."""

    text_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


@quickly_frozen
class RealtimeModelInputTokensDetails:
    """Tokens that went in, by what they were; None where the provider does not say."""

    text_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None
    cached_tokens: int | None = None
    cached_tokens_details: RealtimeModelCachedTokensDetails | None = None


@quickly_frozen
class RealtimeModelOutputTokensDetails:
    """Tokens that came out, by what they were; None where the provider does not say."""

    text_tokens: int | None = None
    audio_tokens: int | None = None


@quickly_frozen
class RealtimeModelUsageEvent:
    """A response's tokens; comes before its `turn_ended`."""

    usage: Usage
    input_tokens_details: RealtimeModelInputTokensDetails | None = None
    output_tokens_details: RealtimeModelOutputTokensDetails | None = None
    type: Literal["usage"] = "usage"


@quickly_frozen
class RealtimeModelTurnEndedEvent:
    """The model has ended a response, whatever became of it."""

    type: Literal["turn_ended"] = "turn_ended"
    response_id: str | None = None


@quickly_frozen
class RealtimeModelOtherEvent:
    """Something of a vendor's own."""

    data: Any
    type: Literal["other"] = "other"


@quickly_frozen
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
