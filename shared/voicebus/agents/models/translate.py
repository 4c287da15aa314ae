"""What each server event of the protocol means to who listens to a model: wire to `RealtimeModelEvent`, nothing else.

Pure and tolerant: an odd item, role or field yields fewer events, never an exception (parity 2.32, 0.5). What depends
on what went before is the engine's: `audio_interrupted`, and which audio may be heard.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from voicebus.agents.error_details import RealtimeModelErrorDetails
from voicebus.agents.items import (
    AssistantAudio,
    AssistantMessageItem,
    AssistantText,
    InputAudio,
    InputImage,
    InputText,
    RealtimeItem,
    RealtimeToolCallItem,
    SystemMessageItem,
    UserMessageItem,
)
from voicebus.agents.models.events import (
    RealtimeModelAudioDoneEvent,
    RealtimeModelAudioEvent,
    RealtimeModelCachedTokensDetails,
    RealtimeModelErrorEvent,
    RealtimeModelEvent,
    RealtimeModelInputAudioTimeoutTriggeredEvent,
    RealtimeModelInputAudioTranscriptionCompletedEvent,
    RealtimeModelInputTokensDetails,
    RealtimeModelItemDeletedEvent,
    RealtimeModelItemUpdatedEvent,
    RealtimeModelOutputTextDeltaEvent,
    RealtimeModelOutputTokensDetails,
    RealtimeModelToolCallEvent,
    RealtimeModelTranscriptDeltaEvent,
    RealtimeModelTurnEndedEvent,
    RealtimeModelTurnStartedEvent,
    RealtimeModelUsageEvent,
)
from voicebus.agents.usage import Usage
from voicebus.engine import wire
from voicebus.engine.dialects import translate
from voicebus.runtime.frames import AudioDelta, TextDelta

Event = Mapping[str, Any]

_Part = InputText | InputAudio | InputImage | AssistantText | AssistantAudio

# Parts by the names of GA, and by those that items of Voicebus have.
_PARTS: Final[Mapping[str, Mapping[str, type[_Part]]]] = {
    "system": {"input_text": InputText, "text": InputText},
    "user": {
        "input_text": InputText,
        "text": InputText,
        "input_audio": InputAudio,
        "audio": InputAudio,
        "input_image": InputImage,
    },
    "assistant": {
        "output_text": AssistantText,
        "text": AssistantText,
        "output_audio": AssistantAudio,
        "audio": AssistantAudio,
    },
}
_TRANSCRIPT_DELTA: Final = "response.output_audio_transcript.delta"
_STATUSES: Final = frozenset({"in_progress", "completed", "incomplete"})


def semantic_events(event: Event) -> list[RealtimeModelEvent]:
    """What follows the `raw_server_event` of `event`; nothing for audio deltas (`audio_event`) and unknown types."""
    kind = wire.text(event, "type")
    handler = _HANDLERS.get(kind)
    if handler is not None and kind != "error":
        return handler(event)  # which takes older content as it is
    return [meaning for present in translate(event) for meaning in _meaning(present)]


def _meaning(event: Event) -> list[RealtimeModelEvent]:
    handler = _HANDLERS.get(wire.text(event, "type"))
    return [] if handler is None else handler(event)


def audio_event(delta: AudioDelta) -> RealtimeModelAudioEvent:
    return RealtimeModelAudioEvent(delta.samples, delta.response_id, delta.item_id, delta.content_index)


def text_event(delta: TextDelta) -> RealtimeModelTranscriptDeltaEvent | RealtimeModelOutputTextDeltaEvent:
    """What a delta of the protocol's present version means: its type is one of two."""
    spoken = delta.type == _TRANSCRIPT_DELTA
    kind = RealtimeModelTranscriptDeltaEvent if spoken else RealtimeModelOutputTextDeltaEvent
    return kind(delta.item_id, delta.delta, delta.response_id)


def item_of(item: Event, previous_item_id: str | None = None) -> RealtimeItem | None:
    """An item of the wire as programs see it, or None where it has no such form (an odd role, no id, MCP items)."""
    item_id = wire.text(item, "id")
    if not item_id:
        return None
    if wire.text(item, "type") == "function_call":
        return _call_item(item, item_id, previous_item_id)
    role = wire.text(item, "role")
    if wire.text(item, "type") not in ("message", "") or role not in _PARTS:
        return None
    content = [part for given in wire.mappings(item, "content") if (part := _part(role, given)) is not None]
    known: dict[str, Any] = {"item_id": item_id, "previous_item_id": previous_item_id, "content": content}
    status = wire.text(item, "status")
    if role != "assistant":
        # No field of these two, but kept, as all that a server adds.
        given = {"status": status} if status else {}
        return SystemMessageItem(**known, **given) if role == "system" else UserMessageItem(**known, **given)
    return AssistantMessageItem(**known, status=status if status in _STATUSES else "in_progress")


def _call_item(item: Event, item_id: str, previous_item_id: str | None) -> RealtimeItem:
    return RealtimeToolCallItem(
        item_id=item_id,
        previous_item_id=previous_item_id,
        call_id=wire.text(item, "call_id") or None,
        status="in_progress",
        arguments=wire.text(item, "arguments"),
        name=wire.text(item, "name"),
    )


def _part(role: str, given: Event) -> _Part | None:
    form = _PARTS[role].get(wire.text(given, "type"))
    if form is None:
        return None
    fields = {name: value for name, value in given.items() if name not in form.model_fields}
    for name in form.model_fields.keys() - {"type"}:
        value = given.get(name)
        fields[name] = value if isinstance(value, str) else None
    return form.model_validate(fields)


# --- one function per kind of event ------------------------------------------------------------------


def _error(event: Event) -> list[RealtimeModelEvent]:
    error = event.get("error", event)
    return [RealtimeModelErrorEvent(RealtimeModelErrorDetails(error) if isinstance(error, Mapping) else error)]


def _turn_started(event: Event) -> list[RealtimeModelEvent]:
    return [RealtimeModelTurnStartedEvent(response_id=wire.text(wire.mapping(event, "response"), "id") or None)]


def _turn_ended(event: Event) -> list[RealtimeModelEvent]:
    response = wire.mapping(event, "response")
    ended = RealtimeModelTurnEndedEvent(response_id=wire.text(response, "id") or None)
    usage = wire.mapping(response, "usage")
    return [_usage(usage), ended] if usage else [ended]


def _usage(usage: Event) -> RealtimeModelUsageEvent:
    given, made = wire.mapping(usage, "input_token_details"), wire.mapping(usage, "output_token_details")
    cached = wire.mapping(given, "cached_tokens_details")
    return RealtimeModelUsageEvent(
        Usage.of(usage),
        RealtimeModelInputTokensDetails(
            **{name: _count(given, name) for name in ("text_tokens", "audio_tokens", "image_tokens", "cached_tokens")},
            cached_tokens_details=RealtimeModelCachedTokensDetails(
                **{name: _count(cached, name) for name in ("text_tokens", "audio_tokens", "image_tokens")}
            )
            if cached
            else None,
        )
        if given
        else None,
        RealtimeModelOutputTokensDetails(_count(made, "text_tokens"), _count(made, "audio_tokens")) if made else None,
    )


def _count(source: Event, name: str) -> int | None:
    value = source.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _response_item_added(event: Event) -> list[RealtimeModelEvent]:
    # A call is known only once it is done: before, its arguments are not (parity 2.3).
    item = wire.mapping(event, "item")
    return [] if wire.text(item, "type") == "function_call" else _updated(item, None)


def _response_item_done(event: Event) -> list[RealtimeModelEvent]:
    item = wire.mapping(event, "item")
    if wire.text(item, "type") != "function_call":
        return _updated(item, None)
    if wire.text(item, "status") not in ("completed", ""):
        return []
    call = RealtimeModelToolCallEvent(
        name=wire.text(item, "name"),
        call_id=wire.text(item, "call_id"),
        arguments=wire.text(item, "arguments"),
        id=wire.text(item, "id") or None,
    )
    return [*_updated(item, None), call]


def _item_added(event: Event) -> list[RealtimeModelEvent]:
    item = wire.mapping(event, "item")
    if wire.text(item, "type") == "function_call":
        return []
    return _updated(item, wire.text(event, "previous_item_id") or None)


def _updated(item: Event, previous_item_id: str | None) -> list[RealtimeModelEvent]:
    known = item_of(item, previous_item_id)
    return [] if known is None else [RealtimeModelItemUpdatedEvent(known)]


def _item_deleted(event: Event) -> list[RealtimeModelEvent]:
    return [RealtimeModelItemDeletedEvent(wire.text(event, "item_id"))]


def _transcription_completed(event: Event) -> list[RealtimeModelEvent]:
    item_id, transcript = wire.text(event, "item_id"), wire.text(event, "transcript")
    return [RealtimeModelInputAudioTranscriptionCompletedEvent(item_id, transcript)]


def _timeout_triggered(event: Event) -> list[RealtimeModelEvent]:
    start, end = wire.index(event, "audio_start_ms"), wire.index(event, "audio_end_ms")
    return [RealtimeModelInputAudioTimeoutTriggeredEvent(wire.text(event, "item_id"), start, end)]


def _transcript_delta(event: Event) -> list[RealtimeModelEvent]:
    item_id, response_id = wire.text(event, "item_id"), wire.text(event, "response_id")
    return [RealtimeModelTranscriptDeltaEvent(item_id, wire.text(event, "delta"), response_id)]


def _text_delta(event: Event) -> list[RealtimeModelEvent]:
    item_id, response_id = wire.text(event, "item_id"), wire.text(event, "response_id")
    return [RealtimeModelOutputTextDeltaEvent(item_id, wire.text(event, "delta"), response_id)]


def _audio_done(event: Event) -> list[RealtimeModelEvent]:
    return [RealtimeModelAudioDoneEvent(wire.text(event, "item_id"), wire.index(event, "content_index"))]


_HANDLERS: Final[Mapping[str, Callable[[Event], list[RealtimeModelEvent]]]] = {
    "error": _error,
    "response.created": _turn_started,
    "response.done": _turn_ended,
    "response.output_item.added": _response_item_added,
    "response.output_item.done": _response_item_done,
    "response.output_audio.done": _audio_done,
    _TRANSCRIPT_DELTA: _transcript_delta,
    "response.output_text.delta": _text_delta,
    "conversation.item.added": _item_added,
    "conversation.item.retrieved": lambda event: _updated(wire.mapping(event, "item"), None),
    "conversation.item.deleted": _item_deleted,
    "conversation.item.input_audio_transcription.completed": _transcription_completed,
    "input_audio_buffer.timeout_triggered": _timeout_triggered,
}
