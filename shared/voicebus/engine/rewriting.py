"""How a history that the program wants is made of the one that there is (parity 138): the fewest deletes and creates.

Items are given as the native face shows them. Equal ones that stand in the same order stay untouched. What was heard or
said as audio is created again as its text: samples are not kept, and a model takes no assistant's audio (protocol
10.11). A call is created with its output, since the model takes neither alone.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from voicebus.engine import wire
from voicebus.engine.bounds import Recent, trim
from voicebus.engine.history import History
from voicebus.engine.outbox import Outbox

# Creates whose refusal would still be noticed; the model answers them in order, so that few are open at once.
_MAX_OPEN: Final = 256


class Rewriter:
    """Replaces the conversation's items. `hide` makes an item one of the session's own."""

    def __init__(self, out: Outbox, history: History, hide: Callable[[str], None]) -> None:
        self._out = out
        self._history = history
        self._hide = hide
        self._creating: dict[str, str] = {}
        self._anew = Recent(_MAX_OPEN)

    def replace(self, items: Sequence[Mapping[str, Any]]) -> bool:
        """Make the history `items`, here and at the model; False where it was that before."""
        wanted = self._readable(items)
        current = self._history.json()
        kept = _kept(current, wanted)
        ids = {item["item_id"] for item in wanted}
        for item in current:
            if item["item_id"] not in kept:
                self._delete(item)
                if item["item_id"] in ids:
                    self._anew.add(item["item_id"])
        previous: str | None = None
        for item in wanted:
            item_id = item["item_id"]
            if item_id not in kept:
                self._create(item, previous)
            previous = item_id
            if item["type"] == "function_call":
                previous = self._history.output_of(item["call_id"]) or item_id
        held = {item["item_id"]: item for item in current}
        changed = self._history.reset([held[one["item_id"]] if one["item_id"] in kept else one for one in wanted])
        if changed:
            self._history.publish(self._out)
        return changed

    def is_anew(self, item_id: str) -> bool:
        """Whether the model's word that this item is deleted, asked once, tells of one that has been created again."""
        expected = item_id in self._anew
        self._anew.discard(item_id)
        return expected

    def refused(self, event_id: str) -> None:
        """The model refused something: if it was to create one of these items, it is none of the history."""
        item_id = self._creating.pop(event_id, None)
        if item_id is not None and self._history.remove(item_id):
            self._history.publish(self._out)

    def _readable(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The items that can be created, as the history keeps them; each of the others is an error."""
        readable: dict[str, dict[str, Any]] = {}
        for number, item in enumerate(items):
            shown = self._history.shown({**item, "id": wire.text(item, "item_id") or self._out.mint()})
            twice = shown["item_id"] in readable
            why = f"its id {shown['item_id']!r} stands there twice" if twice else self._unfit(shown)
            if why is None:
                readable[shown["item_id"]] = shown
            else:
                message = f"Item {number} of the history was left out: {why}."
                self._out.error("history_item_refused", message, "client")
        return list(readable.values())

    def _unfit(self, item: Mapping[str, Any]) -> str | None:
        """Why the model could not be given this item."""
        if item["type"] == "message":
            if item["role"] not in ("user", "assistant", "system"):
                return f"a message has no role {item['role']!r}"
            return None if _wire_content(item) else "nothing in it can be sent"
        if item["type"] != "function_call":
            return f"items of type {item['type']!r} cannot be created"
        if not item["call_id"] or not item["name"]:
            return "a call needs a call_id and a name"
        is_running = self._history.item(item["item_id"]) is not None
        return None if is_running or item["output"] is not None else f"call {item['call_id']!r} has no output"

    def _delete(self, item: Mapping[str, Any]) -> None:
        output = None
        if item["type"] == "function_call":
            output = self._history.output_of(item["call_id"])
            self._out.uplink.retract_output(item["call_id"])
        for item_id in (item["item_id"], output):
            if item_id is not None:
                self._out.send({"type": "conversation.item.delete", "item_id": item_id})

    def _create(self, item: Mapping[str, Any], previous: str | None) -> None:
        self._send(item["item_id"], _wire_item(item), previous)
        if item["type"] == "function_call" and item["output"] is not None:
            output_id = self._out.mint()
            self._hide(output_id)
            output = {"type": "function_call_output", "call_id": item["call_id"], "output": item["output"]}
            self._history.answered(item["call_id"], output_id)
            self._send(output_id, output, item["item_id"])

    def _send(self, item_id: str, item: Mapping[str, Any], previous: str | None) -> None:
        event_id = self._out.mint()
        self._creating[event_id] = item_id
        trim(self._creating, _MAX_OPEN)
        self._out.send(
            {
                "type": "conversation.item.create",
                "event_id": event_id,
                "previous_item_id": previous or "root",
                "item": {"id": item_id, **item},
            }
        )


def _wire_item(item: Mapping[str, Any]) -> dict[str, Any]:
    if item["type"] == "message":
        return {"type": "message", "role": item["role"], "content": _wire_content(item)}
    return {key: item[key] for key in ("type", "call_id", "name", "arguments")}


def _wire_content(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What of a message can be told to a model: its texts, the words of its audio, its images."""
    kind = "output_text" if item["role"] == "assistant" else "input_text"
    content: list[dict[str, Any]] = []
    for part in item["content"]:
        if part["type"] == "input_image" and part["image_url"]:
            content.append({key: value for key, value in part.items() if value is not None})
        elif text := part.get("transcript") or part.get("text"):
            content.append({"type": kind, "text": text})
    return content


def _meaning(item: Mapping[str, Any]) -> Any:
    """What makes two items equal: not their states, and not whether words were spoken or written."""
    if item["type"] == "message":
        return item["role"], _wire_content(item)
    return item["call_id"], item["name"], item["arguments"], item["output"]


def _kept(current: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]]) -> set[str]:
    """Ids of the items that stay: the longest row of equal ones that stand in the same order."""
    known = {item["item_id"]: (place, item) for place, item in enumerate(current)}
    ends: list[int] = []  # the smallest place that a row of each length ends with
    rows: list[int] = []
    equal: list[tuple[int, str]] = []
    for item in wanted:
        place, old = known.get(item["item_id"], (-1, None))
        if old is not None and old["type"] == item["type"] and _meaning(old) == _meaning(item):
            length = bisect_left(ends, place)
            ends[length : length + 1] = [place]
            rows.append(length)
            equal.append((place, item["item_id"]))
    kept, length = set(), len(ends) - 1
    for (_, item_id), row in zip(reversed(equal), reversed(rows), strict=True):
        if row == length:
            kept.add(item_id)
            length -= 1
    return kept
