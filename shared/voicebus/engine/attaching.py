"""What became of a call while nobody was attached to it (WebRTC, SIP): asked of the model before anything else is.

The conversation went on at the model's side, and its events were told to nobody here. Two questions are answered
there: what has become of an item whose id is known (`conversation.item.retrieve`), and which item is the last one,
which the echo of an item tells that is made for it and deleted at once. So what was being said is known to its end, and
a function call that was made last is run. What stands before an item that is not known cannot be asked for. Before a
call it can be found out all the same, since a call can be made anew as it was: it is taken out, the item that is the
last one then is asked for, and so on, and all are put back where they stood. So every call of a response is run.
Where that response still goes on nothing is taken out: its `response.done` tells of its calls (`modelside.py`).

Until that is answered, or for `PATIENCE` seconds, no response is asked for.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from voicebus.engine import wire
from voicebus.engine.bounds import Recent
from voicebus.engine.outputs import SendModel
from voicebus.engine.parts import Parts

Event = Mapping[str, Any]

ATTACH_TIMER: Final = "attach"
PATIENCE: Final = 5.0

# So many calls of one response are looked for.
_MAX_CALLS: Final = 64
_OF_A_CALL: Final = ("id", "type", "name", "call_id", "arguments")

_ADDED: Final = frozenset({"conversation.item.added", "conversation.item.created"})
_RETRIEVED: Final = "conversation.item.retrieved"
ANSWERED: Final = _ADDED | {"conversation.item.done", "conversation.item.deleted", _RETRIEVED, "error"}
"""Events that may answer what was asked here."""


class Attaching:
    """Asks once a socket is attached; call `settle` after each input. `apply` brings an event as the model would."""

    def __init__(self, parts: Parts, apply: Callable[[Event], None]) -> None:
        self._p = parts
        self._apply = apply
        self._answers: deque[Event] = deque()
        self._is_asking = False
        self._probe = ""
        self._probes = Recent()
        # Items that were asked for, by the event that did.
        self._asked: dict[str, str] = {}
        # Whether the last item is still to be told; and what was found out about the response that runs.
        self._awaits_last = False
        self._goes_on = self._has_answered = False
        self._status = "completed"
        # The item that is the last one, as far as is known, and what stands before it: None where that is not known.
        self._last = ""
        self._before: str | None = None
        # Calls that are taken out, the newest first, and those that were put back.
        self._calls: list[Event] = []
        self._out: set[str] = set()
        self._back = Recent()
        # When something was last heard of the response that runs.
        self._heard_at: float | None = None

    def begin(self) -> None:
        """A socket is attached."""
        p = self._p
        self._asked.clear()
        self._answers.clear()
        self._is_asking = True
        self._last, self._before = "", None
        self._calls.clear()
        self._out.clear()
        active = p.turns.responses.active
        self._heard_at = None if active is None else active.last_event
        self._goes_on = self._has_answered = False
        self._status = "completed"
        self._ask_last()
        for item in p.history.json():
            if item["type"] == "message" and item["role"] == "assistant" and item.get("status") == "in_progress":
                self._retrieve(item["item_id"])

    def _ask_last(self) -> None:
        """Ask which item is the last one, with one that is made for it."""
        self._awaits_last = True
        self._probe = self._p.out.mint()
        self._probes.add(self._probe)
        content = [{"type": "input_text", "text": "."}]
        probe = {"id": self._probe, "type": "message", "role": "system", "content": content}
        self._send({"event_id": self._probe, "type": "conversation.item.create", "item": probe})
        self._p.out.set_timer(ATTACH_TIMER, PATIENCE)

    def heard(self, kind: str, event: Event) -> bool:
        """An event of the model, of `ANSWERED`: whether it answers what was asked here, and nothing else."""
        if not self._probe:
            return False  # nothing was ever asked
        if kind == "error":
            ours = self._event_of(wire.mapping(event, "error"))
        elif kind == "conversation.item.deleted":
            item_id = wire.text(event, "item_id")
            is_ours = item_id in self._probes or item_id in self._out
            self._out.discard(item_id)
            return is_ours
        else:
            item_id = wire.text(wire.mapping(event, "item"), "id")
            if kind == _RETRIEVED:
                ours = self._event_for(item_id)
            else:
                ours = item_id if item_id in self._probes or item_id in self._back else ""
        if ours and self._is_asking:
            self._answers.append({**event, "event_id": ours})
        return bool(ours)

    def _event_of(self, error: Event) -> str:
        """Which of ours an error is about; not all name the event."""
        event_id = wire.text(error, "event_id")
        if event_id:
            return event_id if event_id in self._asked or event_id in self._probes else ""
        message = wire.text(error, "message")
        return next((ours for ours, item_id in self._asked.items() if item_id in message), "")

    def _event_for(self, item_id: str) -> str:
        return next((ours for ours, asked in self._asked.items() if asked == item_id), "")

    def settle(self) -> None:
        if not self._is_asking:
            return
        while self._answers:
            self._answer(self._answers.popleft())
        if not self._awaits_last and not self._asked:
            self._finish()
        self._p.transcript.flush()

    def overdue(self) -> None:
        """The model does not answer: go on with what is known."""
        if self._is_asking:
            self._goes_on |= not self._calls
            self._finish()

    def _answer(self, event: Event) -> None:
        kind, ours = wire.text(event, "type"), wire.text(event, "event_id")
        if kind == _RETRIEVED:
            del self._asked[ours]
            self._found(wire.mapping(event, "item"))
        elif kind == "error":
            self._asked.pop(ours, None)
            self._awaits_last = self._awaits_last and ours != self._probe
        elif kind in _ADDED and ours == self._probe:
            self._awaits_last = False
            self._send({"type": "conversation.item.delete", "item_id": ours})
            self._before = last = wire.text(event, "previous_item_id")
            known = {*self._asked.values(), *(wire.text(call, "id") for call in self._calls)}
            if last and last not in known and self._p.history.item(last) is None:
                self._last = last
                self._retrieve(last)

    def _found(self, item: Event) -> None:
        """An item as the model knows it."""
        kind, role, status = (wire.text(item, key) for key in ("type", "role", "status"))
        if kind == "function_call_output":
            return
        if kind == "message" and role != "assistant":
            self._apply({"type": "conversation.item.added", "item": item})
            self._apply({"type": "conversation.item.done", "item": item})
            spoken = any(wire.text(part, "type") == "input_audio" for part in wire.mappings(item, "content"))
            self._p.turns.awaited |= spoken and self._p.settings.answers_by_itself
            return
        self._has_answered = True
        active = self._p.turns.responses.active
        is_unseen = wire.is_made_call(item) and wire.text(item, "call_id") not in self._p.calls.known
        if is_unseen and wire.text(item, "id") == self._last:
            if active is None or active.last_event == self._heard_at:
                self._look_behind(item)
                return
            self._goes_on = True
        if status == "in_progress":
            self._goes_on = True  # and its own events tell the rest
            if active is not None:
                self._apply({"type": "response.output_item.added", "response_id": active.id, "item": item})
            return
        if status == "incomplete":
            self._status = "cancelled"
        self._finished(item)

    def _look_behind(self, call: Event) -> None:
        """This call is the last item: is there another one before it?"""
        self._calls.append(call)
        if len(self._calls) < _MAX_CALLS:
            item_id = wire.text(call, "id")
            self._out.add(item_id)
            self._send({"type": "conversation.item.delete", "item_id": item_id})
            self._ask_last()

    def _put_back(self) -> None:
        """The calls that were taken out stand where they stood, and are run."""
        calls, self._calls = self._calls[::-1], []
        before = self._before
        for call in calls:
            self._back.add(wire.text(call, "id"))
            item = {name: call[name] for name in _OF_A_CALL if name in call}
            place = {} if before is None else {"previous_item_id": before or "root"}
            self._send({"type": "conversation.item.create", **place, "item": item})
            before = wire.text(call, "id")
        for call in calls:
            self._finished(call)

    def _finished(self, item: Event) -> None:
        """An item of the response that runs, or of one that nobody was told of."""
        active = self._p.turns.responses.active
        response_id = active.id if active is not None else self._p.out.mint()
        self._apply({"type": "response.output_item.done", "response_id": response_id, "item": item})

    def _finish(self) -> None:
        """All is known that will be: what is over is closed, and what waited may be asked."""
        self._is_asking = False
        self._put_back()
        p, active = self._p, self._p.turns.responses.active
        p.out.cancel_timer(ATTACH_TIMER)
        if self._has_answered:
            p.turns.answered_unseen()
            if active is not None and not self._goes_on:
                done = {"id": active.model_id or active.id, "status": self._status, "output": []}
                self._apply({"type": "response.done", "response": done})
        p.turns.connected(optional=True)

    def _retrieve(self, item_id: str) -> None:
        event_id = self._p.out.mint()
        self._asked[event_id] = item_id
        self._send({"event_id": event_id, "type": "conversation.item.retrieve", "item_id": item_id})

    def _send(self, event: Event) -> None:
        """Past the uplink, which would keep it for the next socket."""
        event_id = wire.text(event, "event_id") or self._p.out.mint()
        self._probes.add(event_id)
        self._p.out.add(SendModel({"event_id": event_id, **event}))
