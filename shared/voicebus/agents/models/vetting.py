"""What an event of a custom model must be made of, so that one that is not harms nothing else of the call."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from voicebus.agents.models import events
from voicebus.agents.models.kinds import kind_of
from voicebus.agents.usage import Usage

_SAMPLES: Final = (bytes, bytearray, memoryview)
_MAYBE_TEXT: Final = (str, type(None))
_Kinds = type | tuple[type, ...]

_DELTA: Final[Mapping[str, _Kinds]] = {"item_id": str, "delta": str, "response_id": str}
_PART: Final[Mapping[str, _Kinds]] = {"item_id": str, "content_index": int}

# Whoever adds a field that is read adds it here; what carries anything (`error`, `data`) is not listed.
_FIELDS: Final[Mapping[type, Mapping[str, _Kinds]]] = {
    events.RealtimeModelToolCallEvent: {
        "name": str,
        "call_id": str,
        "arguments": str,
        "id": _MAYBE_TEXT,
        "previous_item_id": _MAYBE_TEXT,
    },
    events.RealtimeModelAudioEvent: {"data": _SAMPLES, "response_id": str, **_PART},
    events.RealtimeModelAudioInterruptedEvent: _PART,
    events.RealtimeModelAudioDoneEvent: _PART,
    events.RealtimeModelInputAudioTimeoutTriggeredEvent: {"item_id": str, "audio_start_ms": int, "audio_end_ms": int},
    events.RealtimeModelInputAudioTranscriptionCompletedEvent: {"item_id": str, "transcript": str},
    events.RealtimeModelTranscriptDeltaEvent: _DELTA,
    events.RealtimeModelOutputTextDeltaEvent: _DELTA,
    events.RealtimeModelItemUpdatedEvent: {"item": BaseModel},
    events.RealtimeModelItemDeletedEvent: {"item_id": str},
    events.RealtimeModelTurnStartedEvent: {"response_id": _MAYBE_TEXT},
    events.RealtimeModelTurnEndedEvent: {"response_id": _MAYBE_TEXT},
    events.RealtimeModelUsageEvent: {"usage": Usage},
    events.RealtimeModelExceptionEvent: {"exception": BaseException},
}


def complaint(event: Any) -> str | None:
    """What is wrong with an event of a model, in a sentence that names the field; None where nothing is."""
    fields = _FIELDS.get(kind_of(event, _FIELDS))
    if fields is None:
        return (
            None if isinstance(event, events.RealtimeModelEvent) else f"{type(event).__name__} is no event of a model"
        )
    for name, kinds in fields.items():
        value = getattr(event, name)
        if not isinstance(value, kinds) or isinstance(value, bool):
            return f"{type(event).__name__}: {name} cannot be a {type(value).__name__}"
    return None
