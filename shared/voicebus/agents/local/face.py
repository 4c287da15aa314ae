"""What a session in process shows, and in which order.

Order is the point (parity 2.1, 2.2, 137): what the model layer derives from a server event is shown as a raw event
directly before the session's event that comes of it, what came of nothing at the end.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, Protocol

from pydantic import ValidationError

from voicebus.agents import events as shown
from voicebus.agents.error_details import RealtimeErrorDetails
from voicebus.agents.events import RealtimeSessionEvent
from voicebus.agents.items import RealtimeItem, RealtimeToolCallItem, read_item
from voicebus.agents.local.broadcast import Broadcast
from voicebus.agents.local.folded import EVENTS, FoldedAudio, FoldedText
from voicebus.agents.local.showing import Showing
from voicebus.agents.local.weighing import weight
from voicebus.agents.models import events as model
from voicebus.agents.models.events import RealtimeModelEvent
from voicebus.agents.models.translate import audio_event
from voicebus.contracts.envelope import Message
from voicebus.contracts.journal import ErrorRecorded, EventType
from voicebus.engine.outputs import ForwardAudio
from voicebus.errors import ModelLinkError, VoicebusError
from voicebus.runtime.frames import AudioDelta, TextDelta, event_of
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

_ITEM_CHANGES: Final = frozenset(
    {
        model.RealtimeModelItemUpdatedEvent,
        model.RealtimeModelItemDeletedEvent,
        model.RealtimeModelInputAudioTranscriptionCompletedEvent,
    }
)

# Which event of the model layer a session's event comes of.
_CAUSES: Final[Mapping[str, frozenset[type]]] = {
    "agent_start": frozenset({model.RealtimeModelTurnStartedEvent}),
    "agent_end": frozenset({model.RealtimeModelTurnEndedEvent}),
    "history_added": _ITEM_CHANGES,
    "history_updated": _ITEM_CHANGES,
    "tool_start": frozenset({model.RealtimeModelToolCallEvent}),
    "tool_approval_required": frozenset({model.RealtimeModelToolCallEvent}),
    "audio_start": frozenset({model.RealtimeModelAudioEvent}),
    "audio": frozenset({model.RealtimeModelAudioEvent}),
    "audio_end": frozenset({model.RealtimeModelAudioDoneEvent}),
    "transcript_delta": frozenset({model.RealtimeModelTranscriptDeltaEvent, model.RealtimeModelOutputTextDeltaEvent}),
    "error": frozenset({model.RealtimeModelErrorEvent}),
    "input_audio_timeout_triggered": frozenset({model.RealtimeModelInputAudioTimeoutTriggeredEvent}),
}

# Text that an event keeps alive beside the frame it came of: what has been said so far, not what was added.
_TEXTS: Final[Mapping[type, Callable[[Any], str]]] = {
    shown.RealtimeTranscriptDelta: attrgetter("text"),
    shown.RealtimeAgentEndEvent: attrgetter("output"),
    shown.RealtimeToolStart: attrgetter("arguments"),
    shown.RealtimeToolEnd: attrgetter("arguments"),
    shown.RealtimeToolApprovalRequired: attrgetter("arguments"),
    shown.RealtimeToolProgress: attrgetter("text"),
    shown.RealtimeGuardrailTripped: attrgetter("message"),
    shown.RealtimeInputGuardrailTripped: attrgetter("message"),
}

_OF_HISTORY: Final = frozenset({"history_added", "history_updated"})
_HISTORY_EVENTS: Final = (shown.RealtimeHistoryAdded, shown.RealtimeHistoryUpdated)

# Bytes of a place in a list.
_PLACE: Final = 8

# Items at the end of a history among which nearly all changes are.
_LATEST: Final = 8

# Items that no history shows (any more) and that are remembered still, beside as many as there are.
_SPARE: Final = 64

# A server that closes with one of these has ended the conversation in order.
CLEAN_CLOSE: Final = frozenset({1000, 1001, 1005})


class ModelListeners(Protocol):
    """Who listens to the model beside the session."""

    @property
    def listeners(self) -> Sequence[object]:
        """They themselves, also those to come."""
        ...

    def publish(self, event: RealtimeModelEvent) -> None: ...


class EventFace:
    """Implements `ClientFace` for a program: has events made by `showing`, and gives them to `broadcast`, in order.

    `listeners` hear what the model layer derives; None where the model tells them itself.
    """

    def __init__(self, broadcast: Broadcast, showing: Showing, *, listeners: ModelListeners | None) -> None:
        self._broadcast = broadcast
        self._showing = showing
        self._info = showing.info
        self._listeners = listeners
        # Nearly always nobody, so that each event is spared the way to them.
        self._heard_by = () if listeners is None else listeners.listeners
        self._seq = 0
        self._size = 0
        self._expected: list[RealtimeModelEvent] = []
        # Audio of which nothing has been shown yet.
        self._delta: AudioDelta | None = None
        self._item: RealtimeItem | None = None
        self._error: Any = None
        self._answering: str | None = None
        self._failure: Exception | None = None
        self._left_in_order = False
        self._first: list[RealtimeSessionEvent] | None = None
        self._items: dict[int, tuple[Mapping[str, Any], RealtimeItem | None]] = {}
        # The history that was shown last, and what was made of each of its items.
        self._shown: list[Mapping[str, Any]] = []
        self._made_of: list[RealtimeItem | None] = []
        # Whether any item ever had no form, so that what was made is to be looked through.
        self._formless = False
        # Bytes of the items that were made since an event was last given to the broadcast.
        self._made_bytes = 0
        self._last_error: ErrorRecorded | None = None
        self.model_session_id: str | None = None
        self.is_disconnected: bool = False

    # --- from the model's side ------------------------------------------------------------------------

    def begin(self, size: int) -> None:
        """Something came from the model, as so many bytes; events made of it weigh that much."""
        self._size = size

    def raw(self, event: RealtimeModelEvent) -> None:
        """Show what the model layer says, now."""
        self._broadcast.put(shown.RealtimeRawModelEvent(event, self._info, "raw_model_event", self._seq), self._size)
        if self._heard_by and self._listeners is not None:
            self._listeners.publish(event)

    def expect_audio(self, delta: AudioDelta, size: int) -> None:
        """This came from the model, as so many bytes; it is shown with the audio or whatever else comes of it."""
        self._size = size
        if self._heard_by:
            self._expect_unfolded(delta)
        else:
            self._delta = delta

    def sounded(self, where: ForwardAudio, delta: AudioDelta, size: int, seq: int) -> bool:
        """Show audio of which nothing else comes, while nothing is expected; False where somebody listens beside."""
        if self._heard_by:
            return False
        self._seq = seq
        self._broadcast.put(FoldedAudio(where, delta, self._info, seq), size)
        return True

    def said(self, delta: TextDelta, text: str, size: int, seq: int) -> bool:
        """Show a `transcript_delta` of which nothing else comes; `text` is all of its item. False as of `sounded`."""
        if self._heard_by:
            return False
        self._seq = seq
        # Its last event alone keeps `text` alive.
        self._broadcast.put(FoldedText(delta, text, self._info, seq), size + sys.getsizeof(text) // EVENTS)
        return True

    def _expect_unfolded(self, delta: AudioDelta) -> None:
        self._delta = None
        self.raw(model.RealtimeModelRawServerEvent(event_of(delta)))
        self._expected.append(audio_event(delta))

    def expect(self, events: Sequence[RealtimeModelEvent]) -> None:
        """These are to be shown each before what comes of it, or at the latest with `settle`."""
        self._expected.extend(events)

    def expect_item(self, item: RealtimeItem | None) -> None:
        """Should the history change, it is because of this item; where it does not, nobody is told."""
        self._item = item

    def failed_with(self, error: Any) -> None:
        """The error that the model reported, as the next `error` event is to show it."""
        self._error = error

    def answers(self, call_id: str) -> None:
        """What follows may answer this call, which is then shown as the model layer's item (parity 2.2)."""
        self._answering = call_id

    def settle(self) -> None:
        """Everything that came of the last input has been shown."""
        if self._delta is not None:
            self._expect_unfolded(self._delta)
        if self._expected:
            for event in self._expected:
                self.raw(event)
            self._expected.clear()
        self._error = self._answering = self._item = None
        self._size = 0

    def lost(self, failure: Exception | None) -> None:
        """The model's connection is gone: iteration will end with `failure`, or in order."""
        self._failure = failure
        self._left_in_order = failure is None

    def hold_first(self) -> None:
        """The session's first event waits for `release_first`: for what a model says while it connects (parity 2.1)."""
        self._first = []

    def release_first(self) -> None:
        first, self._first = self._first, None
        for event in first or ():
            self._put(event)

    # --- ClientFace -----------------------------------------------------------------------------------

    def ready(self) -> None:
        """Programs may speak from the start: what they say is in order with the settings."""

    def record(self, seq: int, kind: EventType, at_ms: int, data: Message) -> None:
        self._seq = seq
        if self._delta is not None:
            self._expect_unfolded(self._delta)
        if self._expected:
            self._release(kind)
        if kind is EventType.ERROR:
            self._error_recorded(data)  # type: ignore[arg-type]
        elif (event := self._showing.recorded(kind, data, seq)) is not None:
            self._put(event)

    def emit(self, kind: str, seq: int, at_ms: int, data: Mapping[str, Any]) -> None:
        self._seq = seq
        if self._delta is not None:
            self._expect_unfolded(self._delta)
        if self._expected:
            self._release(kind)
        if kind in _OF_HISTORY:
            self._history_changed(kind, data)
            return
        if kind == "audio_interrupted":
            self._interrupted(data)
        event = self._showing.emitted(kind, data, seq)
        if event is not None:
            self._put(event)

    def server_event(self, event: Mapping[str, Any]) -> None:
        """Of the OpenAI face."""

    def audio(self, where: ForwardAudio, delta: AudioDelta, seq: int) -> None:
        self._seq = seq
        if self._delta is delta:
            self._delta = None
            self._broadcast.put(FoldedAudio(where, delta, self._info, seq), self._size)
            return
        cause = self._release("audio") if self._expected else None
        audio = cause if type(cause) is model.RealtimeModelAudioEvent else audio_event(delta)
        event = shown.RealtimeAudio(audio, where.item_id, where.content_index, self._info, "audio", seq)
        self._broadcast.put(event, self._size)

    def close(self, code: int, reason: str) -> None:
        self.settle()
        error = self._last_error
        if reason == "model_lost" and self._failure is None and not self._left_in_order and error is not None:
            self._failure = ModelLinkError(error.message, code=error.code)
        if reason == "error" and self._failure is None:
            self._failure = VoicebusError("The session failed; its last `error` event says of what.")
        self._broadcast.end(self._failure)

    # --- events ---------------------------------------------------------------------------------------

    def dropped(self, count: int) -> RealtimeSessionEvent:
        """What a consumer is told that was too slow."""
        message = f"{count} events were dropped, since nobody read them; raw events first, then audio."
        details = RealtimeErrorDetails(message, "events_dropped", "session_error", count=count)
        return shown.RealtimeError(details, self._info, seq=self._seq)

    def items(self, history: Sequence[Mapping[str, Any]]) -> list[RealtimeItem]:
        """Items as programs see them; each is made once, as the engine replaces those that change."""
        shown, made = self._shown, self._made_of
        self._let_fall_out(history)
        del shown[len(history) :], made[len(history) :]
        self._take_over(history, max(0, len(shown) - _LATEST))
        if shown != history:
            self._take_over(history, 0)
        return list(filter(None, made)) if self._formless else made.copy()  # type: ignore[return-value]

    def _take_over(self, history: Sequence[Mapping[str, Any]], start: int) -> None:
        """What is shown is as the history from this place on."""
        shown, made = self._shown, self._made_of
        for place in range(start, len(history)):
            item = history[place]
            if place == len(shown):
                shown.append(item)
                made.append(self._made(item))
            elif shown[place] is not item:
                shown[place], made[place] = item, self._made(item)

    def _let_fall_out(self, history: Sequence[Mapping[str, Any]]) -> None:
        """A history that is full loses its oldest items: all others are where they were, so many places further on."""
        shown = self._shown
        if shown and history and shown[0] is not history[0]:
            for gone in range(1, min(_LATEST, len(shown))):
                if shown[gone] is history[0]:
                    del shown[:gone], self._made_of[:gone]
                    return

    def _made(self, item: Mapping[str, Any]) -> RealtimeItem | None:
        known = self._items.get(id(item))
        if known is None:
            # The item itself is kept, too: its id is not given to another one as long as it is.
            known = self._items[id(item)] = (item, _read(item))
            self._formless = self._formless or known[1] is None
            self._made_bytes += weight(item)
            if len(self._items) > 2 * len(self._shown) + _SPARE:
                self._forget()
        return known[1]

    def _forget(self) -> None:
        """Keep what the history shows, and the newest items, which it may show next."""
        kept = {id(item) for item in self._shown} | set(list(self._items)[-_SPARE // 2 :])
        self._items = {key: known for key, known in self._items.items() if key in kept}

    def _put(self, event: RealtimeSessionEvent) -> None:
        size = self._size
        if (text := _TEXTS.get(type(event))) is not None:
            size += sys.getsizeof(text(event))
        elif isinstance(event, _HISTORY_EVENTS):
            # Items that are the same in the event before weigh there.
            size += self._made_bytes
            self._made_bytes = 0
            if isinstance(event, shown.RealtimeHistoryUpdated):
                size += _PLACE * len(event.history)
        self._broadcast.put(event, size)

    def _release(self, kind: str) -> RealtimeModelEvent | None:
        """Show what is expected, up to the cause of an event of `kind`; returns that, None where it is not there."""
        causes = _CAUSES.get(kind)
        if causes is None:
            return None
        expected = self._expected
        for index, event in enumerate(expected):
            if type(event) in causes:
                for _ in range(index + 1):
                    self.raw(expected.pop(0))
                return event
        return None

    def _history_changed(self, kind: str, data: Mapping[str, Any]) -> None:
        if self._item is not None:
            self.raw(model.RealtimeModelItemUpdatedEvent(self._item))
            self._item = None
        if kind == "history_added":
            self._history_added(data["item"])
        else:
            self._history_updated(data["history"])

    def _history_added(self, item: Mapping[str, Any]) -> None:
        made = self._made(item)
        if made is not None:
            self._put(shown.RealtimeHistoryAdded(made, self._info, seq=self._seq))

    def _history_updated(self, items: Sequence[Mapping[str, Any]]) -> None:
        history = self.items(items)
        if self._answering is not None:
            self._show_answered(history)
        event = shown.RealtimeHistoryUpdated(history, self._info, seq=self._seq)
        if self._first is not None and not self._first:
            self._first.append(event)
        else:
            self._put(event)

    def _show_answered(self, history: Sequence[RealtimeItem]) -> None:
        for item in reversed(history):
            if isinstance(item, RealtimeToolCallItem) and item.call_id == self._answering:
                if item.output is not None:
                    self.raw(model.RealtimeModelItemUpdatedEvent(item))
                    self._answering = None
                return

    def _interrupted(self, data: Mapping[str, Any]) -> None:
        if self._listeners is not None:
            event = model.RealtimeModelAudioInterruptedEvent(data["item_id"], data["content_index"])
            self._put(shown.RealtimeRawModelEvent(event, self._info, seq=self._seq))
            # Told also where nobody listens: it resets what the program has played.
            self._listeners.publish(event)

    def _error_recorded(self, data: ErrorRecorded) -> None:
        if self._left_in_order and data.code == "model_lost":
            return  # a model that ends in order has done nothing wrong (parity 125)
        self._last_error = data
        error, self._error = self._error, None
        if error is None:
            error = RealtimeErrorDetails(data.message, data.code, f"{data.source}_error")
        elif isinstance(error, Mapping):
            error = RealtimeErrorDetails.of(error)
        self._put(shown.RealtimeError(error, self._info, seq=self._seq))


def read_items(history: Sequence[Mapping[str, Any]]) -> list[RealtimeItem]:
    """Items as programs see them; those without such a form are left out."""
    return [made for item in history if (made := _read(item)) is not None]


def _read(item: Mapping[str, Any]) -> RealtimeItem | None:
    """The item, or None where it has no form that programs know (parity 2.32: that ends nothing)."""
    try:
        return read_item(item)
    except ValidationError as error:
        log.debug("an item without a form", item_type=item.get("type"), errors=error.error_count())
        return None
