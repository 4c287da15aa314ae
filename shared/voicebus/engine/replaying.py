"""A conversation told to another socket: contract section 8 (Replay), protocol section 10, rules 10 to 12.

First the whole session with turn detection off, then the items in order, each behind its predecessor and under the id
that it had, then turn detection as it was. The model confirms in order, so that the answer to the last `session.update`
tells that everything before it was taken or refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from voicebus.engine import wire
from voicebus.engine.bounds import REMEMBERED, trim
from voicebus.engine.history import History
from voicebus.engine.itemids import ItemIds
from voicebus.engine.outbox import Outbox
from voicebus.engine.outputs import SendModel
from voicebus.engine.settings import detecting, detection_of, merge
from voicebus.engine.transcript import NOT_TRANSCRIBED, Transcript
from voicebus.engine.uplink import Uplink

Event = Mapping[str, Any]

ANSWERS: Final = frozenset({"session.updated", "conversation.item.deleted", "error"})
"""Events of a socket that may answer what it was told again."""

_OUTPUT: Final = "function_call_output"
# The answers of a model to what was put behind an item that it has refused.
_NO_PREVIOUS: Final = "item_create_invalid_previous_item_id"
# Of so many items that were told a refusal is known: more than a conversation has.
_MAX_CREATING: Final = 2 * REMEMBERED
# How often items are told once more that were refused for their place alone.
_ROUNDS: Final = 2


@dataclass(frozen=True, slots=True)
class Item:
    """One item as it is told again. `speech`: the user's words are not known, so their samples are sent if kept."""

    id: str
    wire: Event
    speech: bool = False


class Conversation:
    """The conversation as any socket is to know it: history as heard, and what the history does not show.

    `hide` keeps an item that is made here from history and client.
    """

    def __init__(
        self, history: History, transcript: Transcript, uplink: Uplink, out: Outbox, hide: Callable[[str], None]
    ) -> None:
        self._history = history
        self._transcript = transcript
        self._uplink = uplink
        self._out = out
        self._hide = hide
        self.silent: set[str] = set()
        """What was said that no socket takes as samples."""
        self.left_out: set[str] = set()
        """Items that no socket takes."""

    def items(self) -> tuple[list[Item], dict[str, tuple[str, Item]]]:
        """All items in order, and by their call ids the calls that are left out, as they have no output yet."""
        items: list[Item] = []
        calls: dict[str, tuple[str, Item]] = {}
        for shown in self._history.json():
            items += self._message(shown) if shown["type"] == "message" else self._call(shown, calls)
        for item_id in self._uplink.unadded:
            if self._history.item(item_id) is None:
                items.append(self._speech(item_id))
        for item_id, (previous, made) in self._uplink.extras.items():
            self._put_in(items, calls, Item(item_id, made), previous)
        if self.left_out:
            items = [item for item in items if item.id not in self.left_out]
        return items, calls

    def _put_in(self, items: list[Item], calls: dict[str, tuple[str, Item]], item: Item, previous: str | None) -> None:
        """An item that the history does not show goes where it stood; an output behind its call."""
        call_id = wire.text(item.wire, "call_id")
        if wire.text(item.wire, "type") == _OUTPUT:
            known = calls.pop(call_id, None)
            if known is not None:
                before, call = known
                place = next((i + 1 for i, one in enumerate(items) if one.id == before), len(items))
                items[place:place] = [call, item]
            return
        if wire.text(item.wire, "type") == "function_call":
            calls[call_id] = (previous or "", item)
            return
        place = next((i + 1 for i, one in enumerate(items) if one.id == previous), len(items))
        items.insert(0 if previous is None else place, item)

    def _call(self, shown: Mapping[str, Any], calls: dict[str, tuple[str, Item]]) -> list[Item]:
        call = {key: shown[key] for key in ("type", "call_id", "name", "arguments")}
        made = Item(shown["item_id"], {"id": shown["item_id"], **call})
        if shown["output"] is None:
            calls[shown["call_id"]] = (shown["previous_item_id"] or "", made)
            return []
        output_id = self._history.output_of(shown["call_id"])
        if output_id is None:
            output_id = self._out.mint()
            self._hide(output_id)
            self._history.answered(shown["call_id"], output_id)
        output = {"id": output_id, "type": _OUTPUT, "call_id": shown["call_id"], "output": shown["output"]}
        return [made, Item(output_id, output)]

    def _message(self, shown: Mapping[str, Any]) -> list[Item]:
        item_id, role = shown["item_id"], shown["role"]
        if role not in ("user", "assistant", "system"):
            return []
        content: list[Event] = []
        if role == "assistant":
            heard = self._transcript.heard(item_id)
            texts = (part.get("transcript") or part.get("text") or "" for part in shown["content"])
            text = " ".join(text for text in texts if text) if heard is None else heard
            content = [{"type": "output_text", "text": text}] if text else []
        else:
            for part in shown["content"]:
                if part["type"] == "input_audio" and part["transcript"] in (None, NOT_TRANSCRIBED):
                    return [self._speech(item_id)]
                if part["type"] == "input_image" and part["image_url"]:
                    content.append({key: value for key, value in part.items() if value is not None})
                elif text := part.get("transcript") or part.get("text"):
                    content.append({"type": "input_text", "text": text})
        if not content:
            return []
        return [Item(item_id, {"id": item_id, "type": "message", "role": role, "content": content})]

    def _speech(self, item_id: str) -> Item:
        content = [{"type": "input_text", "text": NOT_TRANSCRIBED}]
        made = {"id": item_id, "type": "message", "role": "user", "content": content}
        return Item(item_id, made, speech=item_id not in self.silent)


class Replay:
    """What one socket has been told of the conversation.

    `spare`: it is not the one in use (yet). `is_refused`: it does not take the session's settings.
    """

    def __init__(self, out: Outbox, *, spare: bool = False) -> None:
        self._out = out
        self.spare = spare
        self.ids: ItemIds = ItemIds()
        self.is_refused: bool = False
        self.told: list[Item] = []
        self._creating: dict[str, Item] = {}
        self._refused: list[Item] = []
        self._left_out: set[str] = set()
        self._rounds = _ROUNDS
        self._unconfirmed = 0
        self._updates: list[str] = []
        self._anew: set[str] = set()
        self._session: Event = {}

    def serves(self, out: Outbox) -> None:
        """The session that goes on with this socket decides here, on the spare one still."""
        self._out = out

    @property
    def is_confirmed(self) -> bool:
        """Whether the socket has answered everything."""
        return self._unconfirmed == 0

    def begin(self, session: Event, items: Sequence[Item]) -> None:
        """Tell a new socket everything."""
        self._session = session
        self._update(merge(session, detecting(None)))
        self.bring(items)
        self._restore()

    def _restore(self) -> None:
        self._update({"type": "realtime", **detecting(detection_of(self._session))})

    def _update(self, session: Event) -> None:
        self._unconfirmed += 1
        self._updates.append(self._out.mint())
        self._send({"type": "session.update", "event_id": self._updates[-1], "session": session})

    def bring(self, items: Sequence[Item]) -> None:
        """Make what the socket knows `items`: what comes behind the first difference is deleted and told again."""
        items = [item for item in items if item.id not in self._left_out]
        same = 0
        while same < min(len(items), len(self.told)) and items[same] == self.told[same]:
            same += 1
        self._anew |= {item.id for item in self.told[same:]} & {item.id for item in items[same:]}
        for item in self.told[same:]:
            self._send({"type": "conversation.item.delete", "item_id": item.id})
        previous = items[same - 1].id if same else "root"
        for item in items[same:]:
            previous = self._create(item, previous)
        self.told = items

    def refresh(self, session: Event) -> None:
        """Tell the session's settings once more, should they be others now."""
        if session != self._session:
            self._session = session
            self._update(session)

    def replace(self, item_id: str, item: Item | None) -> None:
        """An item that was told is another one now, or (None) none at all."""
        place = next((place for place, one in enumerate(self.told) if one.id == item_id), None)
        if place is None:
            return
        self._send({"type": "conversation.item.delete", "item_id": item_id})
        del self.told[place]
        if item is not None:
            self._anew.add(item_id)
            self._create(item, self.told[place - 1].id if place else "root")
            self.told.insert(place, item)

    def _create(self, item: Item, previous: str) -> str:
        event_id = self._out.mint()
        self._creating[event_id] = item
        trim(self._creating, _MAX_CREATING)
        event = {
            "type": "conversation.item.create",
            "event_id": event_id,
            "previous_item_id": previous,
            "item": item.wire,
        }
        self._send(event, speech=item.id if item.speech else None)
        return item.id

    def _send(self, event: Event, *, speech: str | None = None) -> None:
        self._out.add(SendModel(self.ids.outgoing(event), spare=self.spare, speech=speech))

    # --- what the socket says -------------------------------------------------------------------------

    def heard(self, kind: str, event: Event) -> bool:
        """An event of this socket, of `ANSWERS`: whether it answers nothing but the replay."""
        if kind == "session.updated" and self._unconfirmed:
            if self._unconfirmed == 1 and self._refused:
                self._again()
            self._unconfirmed -= 1
            return True
        if kind == "conversation.item.deleted" and wire.text(event, "item_id") in self._anew:
            self._anew.discard(wire.text(event, "item_id"))
            return True
        if kind == "error":
            return self._fails(wire.mapping(event, "error"))
        return False

    def _fails(self, error: Event) -> bool:
        """An item was refused: it is left out, unless only what stood before it was missing."""
        if wire.text(error, "event_id") in self._updates:
            self.is_refused = True
            return True
        item = self._creating.pop(wire.text(error, "event_id"), None)
        if item is None:
            return False
        self._refused.append(item)
        if wire.text(error, "code") != _NO_PREVIOUS or not self._rounds:
            self._left_out.add(item.id)
            message = wire.text(error, "message") or "the model gave no reason"
            self._out.error("replay_item_refused", f"An item could not be told again: {message}", "model")
        return True

    def _again(self) -> None:
        """Tell once more what was refused only since another item was."""
        wanted = self.told
        self.told = [item for item in self.told if item not in self._refused]
        self._refused.clear()
        self._rounds -= 1
        self.bring(wanted)
        self._restore()
