"""The conversation's items in order, as the JSON of the native face (parity G and K). Audio is not kept."""

from collections.abc import Mapping
from typing import Any, Final

from voicebus.engine import wire
from voicebus.engine.outbox import Outbox

_CONTENT: Final[Mapping[str, str]] = {"output_text": "text", "output_audio": "audio"}


def _content(part: Mapping[str, Any]) -> dict[str, Any]:
    kind = wire.text(part, "type")
    kind = _CONTENT.get(kind, kind)
    if kind in ("audio", "input_audio"):
        transcript = part.get("transcript")
        return {"type": kind, "audio": None, "transcript": transcript if isinstance(transcript, str) else None}
    if kind == "input_image":
        return {"type": kind, "image_url": part.get("image_url"), "detail": part.get("detail")}
    return {"type": kind, "text": wire.text(part, "text")}


def _merge_content(old: list[dict[str, Any]], new: list[dict[str, Any]], role: str) -> list[dict[str, Any]]:
    """Fill what an update leaves empty from what is known (parity 115)."""
    merged = []
    for index, part in enumerate(new):
        before = old[index] if index < len(old) and old[index]["type"] == part["type"] else {}
        merged.append({key: part[key] if part[key] not in (None, "") else before.get(key, part[key]) for key in part})
    if role == "user" and not any(part["type"] == "input_image" for part in new):
        merged = [part for part in old if part["type"] == "input_image"] + merged
    return merged or old


class History:
    """Items by id, in conversation order. Methods tell whether something changed; the session makes events of it.

    An item is replaced when it changes, never changed in place: what went out in an event stays as it was.
    """

    def __init__(self) -> None:
        self._items: dict[str, dict[str, Any]] = {}
        self._order: list[str] = []
        self._hidden: set[str] = set()

    def hide(self, item_id: str) -> None:
        """The session makes this item itself; it is no part of the conversation that people see."""
        self._hidden.add(item_id)

    def is_hidden(self, item_id: str) -> bool:
        return item_id in self._hidden

    def publish(self, out: Outbox) -> None:
        """`history_updated` with everything; made only where somebody hears it."""
        if out.is_native:
            out.emit("history_updated", history=self.json())

    def json(self) -> list[dict[str, Any]]:
        return [self._items[item_id] for item_id in self._order]

    def item(self, item_id: str) -> dict[str, Any] | None:
        return self._items.get(item_id)

    def put(self, item: Mapping[str, Any], previous: str | None) -> bool | None:
        """Take a wire item over: True for a new one, False for a changed one, None where nothing changed."""
        item_id, kind = wire.text(item, "id"), wire.text(item, "type")
        if not item_id or item_id in self._hidden or kind not in ("message", "function_call"):
            return None
        old = self._items.get(item_id)
        new = self._message(item, old) if kind == "message" else self._call(item, old)
        if old is not None:
            new["previous_item_id"] = old["previous_item_id"]
            # A completed item stays completed, whatever is told about it later.
            if old["status"] == "completed" or not new["status"]:
                new["status"] = old["status"]
            self._items[item_id] = new
            return False if new != old else None
        new["previous_item_id"] = previous
        new["status"] = new["status"] or "completed"
        self._items[item_id] = new
        place = self._order.index(previous) + 1 if previous in self._items else len(self._order)
        self._order.insert(place, item_id)
        return True

    def append(self, item_id: str, content_index: int, kind: str, delta: str) -> None:
        """A delta of an assistant's `text` or `audio` part: changes the item silently (parity 117)."""
        item = self._items.get(item_id)
        if item is None or item["type"] != "message":
            return
        content: list[dict[str, Any]] = list(item["content"])
        if content_index == len(content):
            content.append(_content({"type": kind}))
        if 0 <= content_index < len(content) and content[content_index]["type"] == kind:
            field = "transcript" if kind == "audio" else "text"
            part = content[content_index]
            content[content_index] = {**part, field: (part[field] or "") + delta}
            self._items[item_id] = {**item, "content": content}

    def transcribe(self, item_id: str, transcript: str) -> bool:
        """A user's transcript is complete; True where the item was not known (parity 116)."""
        item = self._items.get(item_id)
        if item is None:
            self.put(
                {
                    "id": item_id,
                    "type": "message",
                    "role": "user",
                    "status": "completed",
                    "content": [{"type": "input_text", "text": transcript}],
                },
                None,
            )
            return True
        if item["type"] == "message":
            content = [
                {**part, "transcript": transcript} if part["type"] == "input_audio" else part
                for part in item["content"]
            ]
            self._items[item_id] = {**item, "content": content, "status": "completed"}
        return False

    def answer(self, item_id: str, output: str) -> bool:
        """A call's output is known: call and result are one item (parity 75). False where there is no such call."""
        item = self._items.get(item_id)
        if item is None or item["type"] != "function_call":
            return False
        self._items[item_id] = {**item, "output": output, "status": "completed"}
        return True

    def remove(self, item_id: str) -> bool:
        if item_id not in self._items:
            return False
        del self._items[item_id]
        self._order.remove(item_id)
        return True

    def _message(self, item: Mapping[str, Any], old: Mapping[str, Any] | None) -> dict[str, Any]:
        role = wire.text(item, "role") or (old["role"] if old is not None and old["type"] == "message" else "")
        content = [_content(part) for part in wire.mappings(item, "content")]
        if old is not None and old["type"] == "message" and old["role"] == role:
            content = _merge_content(old["content"], content, role)
        return {
            "item_id": item["id"],
            "previous_item_id": None,
            "type": "message",
            "role": role,
            "status": wire.text(item, "status"),
            "content": content,
        }

    def _call(self, item: Mapping[str, Any], old: Mapping[str, Any] | None) -> dict[str, Any]:
        known = old if old is not None and old["type"] == "function_call" else None
        return {
            "item_id": item["id"],
            "previous_item_id": None,
            "type": "function_call",
            "call_id": wire.text(item, "call_id") or (known["call_id"] if known else ""),
            "name": wire.text(item, "name") or (known["name"] if known else ""),
            "arguments": wire.text(item, "arguments") or (known["arguments"] if known else ""),
            # The one item is complete when its output is there, not when the model has finished the call.
            "status": "in_progress",
            "output": known["output"] if known else None,
        }
