"""Guardrails of mode `hold`: nothing that a response says is known to anybody before it was judged whole.

What is held is the model's input itself. It is kept by the driver (`HoldInput`) and brought again (`ReturnInputs`), in
order, once the first of what is kept may be known; only then does the session hear of it, and so does everybody else:
history, record, raw events, either face. Rules:

1. Held are all events that can tell something of a message item: its audio, its parts, its end, and the response's
   end. The item's announcement passes without content, calls pass as they are.
2. An input may be known when everything that its parts have said so far, by any event, has passed a final check. One
   that came behind another waits for it: what is heard keeps its order.
3. What a part says is all that its events say: where they disagree, each version is judged.
   Where the guardrails have a window (`window.py`), a spoken part's beginning may be known before its end has come.
4. Audio without a transcript cannot be judged; the guardrails' policy `on_unavailable` decides at its item's end.
   What comes of a response that has ended may be the last of its item, which is judged as it is then.
5. A stopped response has nothing more to tell: of its parts nothing is left, of its items that there was one.
6. What is kept is bounded; beyond `_MAX_KEPT`, or more text, items or parts than are kept of a response, the response
   that says so much is stopped (fails closed).
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from voicebus.engine import wire
from voicebus.engine.config import AgentSpec
from voicebus.engine.guarding import Guard, Passed, Trip
from voicebus.engine.heldparts import Held, HeldPart, Kept
from voicebus.engine.inputs import ModelAudio, ModelEvent
from voicebus.engine.outbox import Outbox
from voicebus.engine.outputs import ConcealInput, HoldInput, ReturnInputs
from voicebus.engine.responses import Response
from voicebus.engine.transcript import Transcript
from voicebus.engine.turns import Turns
from voicebus.engine.window import Pace

Event = Mapping[str, Any]

# Bytes of audio and characters of events kept at once: nearly six minutes of 24 kHz PCM.
_MAX_KEPT: Final = 16 * 1024 * 1024
# Responses and items remembered after their end, for what may still be told of them.
_MAX_RESPONSES: Final = 64
_MAX_ITEMS: Final = 1024

_ANNOUNCEMENTS: Final = frozenset({"response.output_item.added", "conversation.item.added"})
_TELLS_NOTHING: Final = frozenset({"response.created", "conversation.item.deleted", "conversation.item.truncated"})
_CALLS: Final = ("response.function_call_arguments.", "response.mcp_")


class Holding:
    """Stands before everything that hears of the model.

    `found` carries out what a held response trips over, `silence` mutes one that has ended unheard.
    """

    def __init__(
        self,
        out: Outbox,
        turns: Turns,
        guard: Guard,
        transcript: Transcript,
        agent: Callable[[], AgentSpec],
        bytes_per_ms: Callable[[], int],
        format_: Callable[[], str],
    ) -> None:
        self._out = out
        self._bytes_per_ms = bytes_per_ms
        self._format = format_
        self._agent = agent
        self._turns = turns
        self._guard = guard
        self._transcript = transcript
        self._responses: dict[str, Held] = {}
        self._items: dict[str, Held] = {}
        self._kept: deque[Kept] = deque()
        self._returning: deque[Kept] = deque()
        self._size = 0
        self._pace = Pace()
        self.found: Callable[[Trip], None] = lambda trip: None
        self.silence: Callable[[Response], object] = lambda response: None

    # --- the way in -----------------------------------------------------------------------------------

    def admit(self, item: ModelEvent | ModelAudio) -> ModelEvent | ModelAudio | None:
        """What of `item` may be known now; None where nothing may, or ever will be."""
        if self._returning:
            return self._readmit(item, self._returning.popleft())
        if not (self._responses or self._agent().holds):
            return item
        if isinstance(item, ModelEvent) and wire.text(item.event, "type") in _ANNOUNCEMENTS:
            return self._announced(item)
        kept = self._claim(item)
        if kept is None:
            return item
        kept.held.response.last_event = self._out.now
        if kept.held.response.muted or (isinstance(item, ModelAudio) and not self._kept and kept.was_judged):
            return self._let_go(item, kept)
        self._keep(kept)
        if kept.item_id is None:
            kept.held.response.over = True
        self._hear(kept, item)
        if kept.item_id is not None and not kept.held.response.active:
            self._ended(kept.held, kept.item_id)
        self._bring_back()
        return None

    def _readmit(self, item: ModelEvent | ModelAudio, kept: Kept) -> ModelEvent | ModelAudio | None:
        self._size -= kept.size
        return self._let_go(item, kept)

    def _keep(self, kept: Kept) -> None:
        self._out.add(HoldInput())
        self._kept.append(kept)
        self._size += kept.size

    def _let_go(self, item: ModelEvent | ModelAudio, kept: Kept) -> ModelEvent | ModelAudio | None:
        if kept.was_judged:
            if isinstance(item, ModelAudio):
                kept.held.part(item.item_id, item.content_index).told = True
            return item
        event = None if isinstance(item, ModelAudio) or kept.content_index is not None else self._emptied(item, kept)
        self._out.add(ConcealInput(event))
        return None if event is None else ModelEvent(event)

    def _bring_back(self) -> None:
        """Have the first of what is kept brought again, as far as it may be known or never will be."""
        count = 0
        while self._kept and (self._kept[0].was_judged or self._kept[0].held.response.muted):
            self._returning.append(self._kept.popleft())
            count += 1
        if count:
            self._out.add(ReturnInputs(count))

    # --- verdicts and ends ----------------------------------------------------------------------------

    def passed(self, passed: Passed) -> None:
        """A check has let pass what an item said."""
        held = self._responses.get(passed.response.id)
        parts = sorted(held.parts.get(passed.item_id, {}).items()) if held is not None else []
        if len(parts) == 1 and parts[0][1].text.startswith(passed.text):
            parts[0][1].checked = max(parts[0][1].checked, len(passed.text))
        if not passed.final:
            parts = []
        for count in range(len(parts), 0, -1):
            judged = [part for _, part in parts[:count]]
            if " ".join(part.text for part in judged if part.text) == passed.text:
                for part in judged:
                    part.passed = part.text
                break
        self._bring_back()

    def waiting(self) -> list[Response]:
        """The responses of which something is kept."""
        return list({id(kept.held): kept.held.response for kept in self._kept}.values())

    def drop(self, response: Response) -> list[tuple[str, int]]:
        """`response` was stopped (muted): returns the parts of it whose audio nobody will hear."""
        held = self._responses.get(response.id)
        if held is None:
            return []
        self._withhold(held)
        for parts in held.parts.values():
            for part in parts.values():
                self._stopped(part)
        mine = [kept for kept in self._kept if kept.held is held and kept.sounds]
        self._bring_back()
        unheard = dict.fromkeys((kept.item_id or "", kept.content_index or 0) for kept in mine)
        return [(item_id, index) for item_id, index in unheard if not held.part(item_id, index).told]

    def is_over(self, response: Response) -> bool:
        """Whether only a verdict is missing for `response` to end."""
        return response.over and response.active

    def end(self) -> None:
        """The session ends: what was never judged stays unheard."""
        for response in self.waiting():
            self._withhold(self._responses[response.id])
        self._kept.clear()
        self._returning.clear()

    def _withhold(self, held: Held) -> None:
        for item_id, parts in held.parts.items():
            if not all(part.may_be_known for part in parts.values()):
                texts = {index: part.text for index, part in parts.items()}
                self._transcript.withheld(item_id, held.response, texts)

    # --- what it is about -----------------------------------------------------------------------------

    def _held_by(self, response_id: str) -> Held | None:
        if not self._agent().holds and response_id and response_id not in self._turns.responses.by_id:
            return None
        response = self._turns.responses.spoken_in(response_id)
        if response is None or not response.agent.holds:
            return None
        held = self._responses.get(response.id)
        if held is None:
            held = self._responses[response.id] = Held(response, self._pace)
            for old in list(self._responses)[:-_MAX_RESPONSES]:
                if not self._responses[old].response.active:
                    del self._responses[old]
        return held

    def _own(self, item_id: str, held: Held) -> None:
        self._items[item_id] = held
        while len(self._items) > _MAX_ITEMS:
            del self._items[next(iter(self._items))]

    def _claim(self, item: ModelEvent | ModelAudio) -> Kept | None:
        """What an input is about; None where it tells nothing that is held."""
        if isinstance(item, ModelAudio):
            held = self._held_by(item.response_id)
            if held is None:
                return None
            self._own(item.item_id, held)
            at_ms = held.part(item.item_id, item.content_index).window.audio_ms + item.size / self._bytes_per_ms()
            return Kept(held, item.item_id, item.content_index, item.size, sounds=True, at_ms=at_ms)
        event, kind = item.event, wire.text(item.event, "type")
        if kind in _TELLS_NOTHING or kind.startswith(_CALLS):
            return None
        whole = wire.mapping(event, "item")
        if whole and wire.text(whole, "type") != "message":
            return None
        held = self._holder(event, kind)
        if held is None:
            return None
        size = wire.size(event)
        if kind == "response.done":
            return Kept(held, None, None, size)
        item_id = wire.text(event, "item_id") or wire.text(whole, "id")
        self._own(item_id, held)
        if whole:
            return Kept(held, item_id, None, size)
        index = wire.index(event, "content_index")
        before = None if kind.endswith(".done") else held.part(item_id, index).window.audio_ms
        return Kept(held, item_id, index, size, at_ms=before)

    def _holder(self, event: Event, kind: str) -> Held | None:
        if kind == "response.done":
            return self._held_by(wire.text(wire.mapping(event, "response"), "id"))
        if kind.startswith("response."):
            return self._held_by(wire.text(event, "response_id"))
        if kind.startswith("conversation.item."):
            item = wire.mapping(event, "item")
            known = self._items.get(wire.text(item, "id"))
            if known is not None or wire.text(item, "role") != "assistant" or kind == "conversation.item.retrieved":
                return known
            active = self._turns.responses.active
            return self._held_by(active.id) if active is not None else None
        return None

    def _announced(self, item: ModelEvent) -> ModelEvent:
        """An item begins: that may be known, but not what it holds already."""
        whole = wire.mapping(item.event, "item")
        held = (
            self._holder(item.event, wire.text(item.event, "type")) if wire.text(whole, "type") == "message" else None
        )
        if held is None:
            return item
        self._own(wire.text(whole, "id"), held)
        if not whole.get("content"):
            return item
        emptied = {**item.event, "item": {**whole, "content": []}}
        self._out.add(ConcealInput(emptied))
        return ModelEvent(emptied)

    # --- what it says ---------------------------------------------------------------------------------

    def _hear(self, kept: Kept, item: ModelEvent | ModelAudio) -> None:
        """Take in what an input says, and have it judged."""
        held = kept.held
        if isinstance(item, ModelAudio):
            part = held.part(item.item_id, item.content_index)
            part.sounds = True
            speech = 1.0 if part.window.ms is None else part.loudness.share(item.samples, self._format())
            self._watch(part.window.sounded(item.size / self._bytes_per_ms(), speech))
        else:
            self._read(kept, item.event)
        if self._size > _MAX_KEPT and not held.response.muted:
            message = f"More than {_MAX_KEPT} bytes of an answer waited to be judged; it was given up."
            self._out.error("hold_overflow", message, "guardrail")
            self.found(Trip(held.response, kept.item_id or ""))
        if held.overflows:
            trip = self._guard.overflowed(held.response, kept.item_id or "")
            if trip is not None:
                self.found(trip)

    def _read(self, kept: Kept, event: Event) -> None:
        held, kind = kept.held, wire.text(event, "type")
        if kept.item_id is None:
            payload = wire.mapping(event, "response")
            if wire.text(payload, "status") == "cancelled":
                # It was stopped before this was heard, so that this is not to be heard any more.
                self.silence(held.response)
                return
            for whole in wire.mappings(payload, "output"):
                self._read_item(held, whole)
            for item_id in list(held.parts):
                self._ended(held, item_id)
        elif kept.content_index is None:
            self._read_item(held, wire.mapping(event, "item"))
            self._ended(held, kept.item_id)
        elif kind.endswith(".delta"):
            part = held.part(kept.item_id, kept.content_index)
            self._watch(held.said(part, wire.text(event, "delta")))
            self._guard.held_text(held.response, kept.item_id, held.text(kept.item_id))
        else:
            said = wire.mapping(event, "part") or event
            self._says(held, held.part(kept.item_id, kept.content_index), said)
            if kind.endswith(".done"):
                self._ask(held, kept.item_id)

    def _read_item(self, held: Held, whole: Event) -> None:
        if wire.text(whole, "type") == "message":
            for index, content in enumerate(wire.mappings(whole, "content")):
                self._says(held, held.part(wire.text(whole, "id"), index), content)

    def _watch(self, breaks: bool) -> None:
        """Count a window that is broken now."""
        if breaks:
            self._out.observe("hold_window_broken")

    def _says(self, held: Held, part: HeldPart, content: Event) -> None:
        """A part's whole text, as one of its events has it."""
        text = wire.text(content, "transcript") or wire.text(content, "text")
        if text not in part.text:
            self._watch(held.said(part, f" {text}" if part.text else text))

    def _ask(self, held: Held, item_id: str) -> None:
        text = held.text(item_id)
        if text and held.asked.get(item_id) != text:
            held.asked[item_id] = text
            self._guard.held_final(held.response, item_id, text)

    def _ended(self, held: Held, item_id: str) -> None:
        """Nothing more comes of the item's parts."""
        self._ask(held, item_id)
        for part in list(held.parts.get(item_id, {}).values()):
            self._measure(part)
            if part.text or part.allowed or held.response.muted:
                continue
            if part.sounds:
                trip = self._guard.unjudged(held.response, item_id, "the model sent no transcript of its audio")
                if trip is not None:
                    self.found(trip)
                    return
            part.allowed = True

    def _measure(self, part: HeldPart) -> None:
        lag_ms = None if part.measured else part.window.complete()
        if lag_ms is not None:
            part.measured = True
            self._out.observe("transcript_lag", lag_ms / 1000)
            self._watch(part.window.was_broken(lag_ms))

    def _stopped(self, part: HeldPart) -> None:
        if not part.measured:
            part.measured = True
            self._watch(part.window.stops())

    def _emptied(self, item: ModelEvent, kept: Kept) -> Event:
        """An item's or a response's end, without what it says."""
        event = item.event
        if kept.item_id is not None:
            return {**event, "item": _emptied_item(wire.mapping(event, "item"))}
        payload = dict(wire.mapping(event, "response"))
        if kept.held.response.tripped and wire.text(payload, "status") == "completed":
            payload["status"] = "incomplete"
            payload["status_details"] = {"type": "incomplete", "reason": "content_filter"}
        payload["output"] = [
            whole if self._may_be_known(kept.held, whole) else _emptied_item(whole)
            for whole in wire.mappings(payload, "output")
        ]
        return {**event, "response": payload}

    @staticmethod
    def _may_be_known(held: Held, whole: Event) -> bool:
        if wire.text(whole, "type") != "message":
            return True
        if held.overflows:
            return False
        parts = held.parts.get(wire.text(whole, "id"), {})
        return bool(parts) and all(part.may_be_known for part in parts.values())


def _emptied_item(item: Event) -> dict[str, Any]:
    return {**item, "status": "incomplete", "content": []}
