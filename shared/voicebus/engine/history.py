"""The conversation's items in order, as the JSON of the native face (parity G and K). Audio is not kept.

What is kept is bounded, whatever a model sends: texts are cut, and the oldest items fall out of this view of the
conversation (not out of the model's). A call of an hour has some hundred items and less than 100 000 characters.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any, Final

from voicebus.engine import wire
from voicebus.engine.bounds import REMEMBERED, Recent, trim
from voicebus.engine.outbox import Outbox

_CONTENT: Final[Mapping[str, str]] = {"output_text": "text", "output_audio": "audio"}
_IMAGE: Final = "input_image"
_MAX_ITEMS: Final = 1000
# Of one text, and of all items together (images are text here, too); the newest item is kept at any size.
_MAX_TEXT: Final = 200_000
_MAX_CHARS: Final = 16_000_000
_MAX_PARTS: Final = 64
_MAX_NAME: Final = 256


def _content(part: Mapping[str, Any]) -> dict[str, Any]:
    kind = wire.text(part, "type")
    kind = _CONTENT.get(kind, kind)
    if kind in ("audio", "input_audio"):
        transcript = part.get("transcript")
        known = transcript[:_MAX_TEXT] if isinstance(transcript, str) else None
        return {"type": kind, "audio": None, "transcript": known}
    if kind == _IMAGE:
        url, detail = wire.text(part, "image_url"), wire.text(part, "detail")
        return {"type": kind, "image_url": url or None, "detail": detail or None}
    return {"type": kind[:_MAX_NAME], "text": wire.text(part, "text")[:_MAX_TEXT]}


def _merge_content(old: list[dict[str, Any]], new: list[dict[str, Any]], role: str) -> list[dict[str, Any]]:
    """Fill what an update leaves empty from what is known, and keep a user's images that it leaves out (parity 115)."""
    images = {part["image_url"]: part for part in old if part["type"] == _IMAGE}
    # An update that leaves images out counts the other parts without them.
    words = iter([part for part in old if part["type"] != _IMAGE])
    told = [
        _filled(part, images.pop(part["image_url"], {}) if part["type"] == _IMAGE else next(words, {})) for part in new
    ]
    left_out = list(images.values()) if role == "user" else []
    return (left_out + told)[:_MAX_PARTS] or old


def _filled(part: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    if before.get("type") != part["type"]:
        # Told again as sound, but without the words: they were told as text.
        wordless = "transcript" in part and not part["transcript"] and before.get("text")
        return {**part, "transcript": before["text"]} if wordless else part
    return {key: before.get(key, value) if value in (None, "") else value for key, value in part.items()}


def _size(item: Mapping[str, Any]) -> int:
    """How many characters are kept of an item."""
    size = 0
    for part in [item] if item["type"] == "function_call" else item["content"]:
        for value in part.values():
            if isinstance(value, str):
                size += len(value)
    return size


class History:
    """Items by id, in conversation order. Methods tell whether something changed; the session makes events of it.

    An item is replaced when it changes, never changed in place: what went out in an event stays as it was.
    """

    def __init__(self, *, keeps: bool = False) -> None:
        self._items: dict[str, dict[str, Any]] = {}
        # Their ids in order, and the items in the same order.
        self._order: list[str] = []
        self._shown: list[dict[str, Any]] = []
        self._sizes: dict[str, int] = {}
        self._size = 0
        self._hidden = Recent()
        self._outputs: dict[str, str] = {}
        # What is being said: deltas of one part, put together when somebody looks at the items.
        self._saying: tuple[str, int, str] | None = None
        self._deltas: list[str] = []
        self._unread = 0
        # Whose item, or whose place, has changed since `take_changed`; what is being said changes silently. None where
        # nobody asks.
        self._changed: set[str] | None = set() if keeps else None

    def restore(self, items: Sequence[dict[str, Any]]) -> None:
        """These are the items, as another owner of the session has kept them."""
        for item in items:
            self._insert(len(self._order), item)

    @property
    def saying(self) -> str | None:
        """The item of which something was said that nobody has looked at."""
        return None if self._saying is None else self._saying[0]

    def take_changed(self) -> set[str]:
        """The ids of items that are new, gone or others since this was asked last."""
        changed = self._changed or set()
        if changed:
            self._changed = set()
        return changed

    def before(self, item_id: str) -> str | None:
        """The item in front of this one, None for the first."""
        place = self._order.index(item_id)
        return self._order[place - 1] if place else None

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
        self._put_together()
        return self._shown.copy()

    def knows(self, item_id: str) -> bool:
        return item_id in self._items

    def item(self, item_id: str) -> dict[str, Any] | None:
        self._put_together()
        return self._items.get(item_id)

    def put(self, item: Mapping[str, Any], previous: str | None) -> bool | None:
        """Take a wire item over: True for a new one, False for a changed one, None where nothing changed."""
        item_id, kind = wire.text(item, "id"), wire.text(item, "type")
        if not item_id or item_id in self._hidden or kind not in ("message", "function_call"):
            return None
        self._put_together()
        old = self._items.get(item_id)
        new = self._message(item, old) if kind == "message" else self._call(item, old)
        if old is not None:
            new["previous_item_id"] = old["previous_item_id"]
            # What has ended stays so, whatever is told about it later.
            if "status" in old and (old["status"] == "completed" or new.get("status") in ("", "in_progress")):
                new["status"] = old["status"]
            self._replace(new)
            return False if new != old else None
        new["previous_item_id"] = previous
        if "status" in new:
            new["status"] = new["status"] or "completed"
        self._insert(self._order.index(previous) + 1 if previous in self._items else len(self._order), new)
        return True

    def last_behind(self, item_id: str, among: Container[str]) -> str:
        """The last of the items `among` that follow this one with no other between, or this one.

        "" is the front, for which some servers say so of every item: it counts only where there are no others at all.
        """
        if item_id and item_id not in self._items:
            return item_id
        last, place = item_id, self._order.index(item_id) + 1 if item_id else 0
        while place < len(self._order) and self._order[place] in among:
            last = self._order[place]
            place += 1
        return last if item_id or place == len(self._order) else ""

    def shown(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """An item under its `id`, as the history would keep it; of a call its `output` as well."""
        kind = wire.text(item, "type")
        if kind == "message":
            message = self._message(item, None)
            return {**message, "status": "completed"} if "status" in message else message
        if kind == "function_call":
            output = item.get("output")
            call = self._call(item, None)
            return {**call, "status": "completed", "output": output if isinstance(output, str) else None}
        return {"item_id": item["id"], "type": kind[:_MAX_NAME]}

    def reset(self, items: Sequence[dict[str, Any]]) -> bool:
        """These are the items now; False where they were before."""
        before = self.json()
        for item_id in self._order:
            self._mark(item_id)
        self._items, self._sizes, self._size = {}, {}, 0
        self._order, self._shown = [], []
        previous: str | None = None
        for item in items:
            self._insert(len(self._order), item if item in before else {**item, "previous_item_id": previous})
            previous = item["item_id"]
        return self._shown != before

    def answered(self, call_id: str, item_id: str) -> None:
        """The output of this call is an item of its own at the model."""
        if len(call_id) <= _MAX_NAME:
            self._outputs[call_id] = item_id
            trim(self._outputs, REMEMBERED)

    def has_output(self, call_id: str) -> bool:
        """Whether the call of this id is shown with its output."""
        self._put_together()
        return any(
            item["type"] == "function_call" and item["call_id"] == call_id and item["output"] is not None
            for item in reversed(self._items.values())  # nearly always one of the last
        )

    def output_of(self, call_id: str) -> str | None:
        """The model's item that holds the output of this call."""
        return self._outputs.get(call_id)

    def _insert(self, place: int, item: dict[str, Any]) -> None:
        self._order.insert(place, item["item_id"])
        self._shown.insert(place, item)
        self._moved(place + 1)
        self._keep(item)

    def _replace(self, item: dict[str, Any]) -> None:
        item_id = item["item_id"]
        is_last = self._order[-1] == item_id  # as nearly always
        self._shown[-1 if is_last else self._order.index(item_id)] = item
        self._keep(item)

    def _keep(self, item: dict[str, Any]) -> None:
        """Store an item that has its place in the order, and make room for it."""
        item_id, size = item["item_id"], _size(item)
        self._items[item_id] = item
        self._mark(item_id)
        self._size += size - self._sizes.get(item_id, 0)
        self._sizes[item_id] = size
        while len(self._order) > _MAX_ITEMS or (self._size > _MAX_CHARS and len(self._order) > 1):
            self.remove(next(old for old in self._order if old != item_id))

    def append(self, item_id: str, content_index: int, kind: str, delta: str) -> None:
        """A delta of an assistant's `text` or `audio` part: changes the item silently (parity 117)."""
        if item_id not in self._items:
            return
        saying = item_id, content_index, kind
        if saying != self._saying or self._unread > _MAX_TEXT:
            self._put_together()
            self._saying = saying
        self._deltas.append(delta)
        # Each counts as one more than its length, so that empty ones do not pile up either.
        self._unread += len(delta) + 1

    def _put_together(self) -> None:
        if self._saying is None:
            return
        (item_id, content_index, kind), self._saying = self._saying, None
        delta = "".join(self._deltas)
        self._deltas.clear()
        self._unread = 0
        item = self._items.get(item_id)
        if item is None or item["type"] != "message":
            return
        content: list[dict[str, Any]] = list(item["content"])
        if content_index == len(content) < _MAX_PARTS:
            content.append(_content({"type": kind}))
        if 0 <= content_index < len(content) and content[content_index]["type"] == kind:
            field = "transcript" if kind == "audio" else "text"
            part = content[content_index]
            text = part[field] or ""
            delta = delta[: max(0, _MAX_TEXT - len(text))]
            content[content_index] = {**part, field: text + delta}
            self._replace({**item, "content": content})

    def transcribe(self, item_id: str, transcript: str) -> bool:
        """A user's transcript is complete; True where the item was not known (parity 116)."""
        item = self.item(item_id)
        if item is None:
            self.put(
                {
                    "id": item_id,
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": transcript}],
                },
                None,
            )
            return True
        if item["type"] == "message":
            transcript = transcript[:_MAX_TEXT]
            content = [
                {**part, "transcript": transcript} if part["type"] == "input_audio" else part
                for part in item["content"]
            ]
            self._replace({**item, "content": content, "status": "completed"})
        return False

    def answer(self, item_id: str, output: str) -> bool:
        """A call's output is known: call and result are one item (parity 75). False where there is no such call."""
        item = self.item(item_id)
        if item is None or item["type"] != "function_call":
            return False
        self._replace({**item, "output": output, "status": "completed"})
        return True

    def remove(self, item_id: str) -> bool:
        self._put_together()
        if item_id not in self._items:
            return False
        del self._items[item_id]
        place = self._order.index(item_id)
        del self._order[place], self._shown[place]
        self._mark(item_id)
        self._moved(place)
        self._size -= self._sizes.pop(item_id, 0)
        return True

    def _moved(self, place: int) -> None:
        """Another item stands in front of the one at this place."""
        if place < len(self._order):
            self._mark(self._order[place])

    def _mark(self, item_id: str) -> None:
        if self._changed is not None:
            self._changed.add(item_id)

    def _message(self, item: Mapping[str, Any], old: Mapping[str, Any] | None) -> dict[str, Any]:
        role = wire.text(item, "role") or (old["role"] if old is not None and old["type"] == "message" else "")
        content = [_content(part) for part in wire.mappings(item, "content")[:_MAX_PARTS]]
        if old is not None and old["type"] == "message" and old["role"] == role:
            content = _merge_content(old["content"], content, role)
        message = {"item_id": item["id"], "previous_item_id": None, "type": "message", "role": role[:_MAX_NAME]}
        status = wire.text(item, "status")[:_MAX_NAME]
        if status or role == "assistant":  # what others say is there as a whole: not every model gives it a status
            message["status"] = status
        return {**message, "content": content}

    def _call(self, item: Mapping[str, Any], old: Mapping[str, Any] | None) -> dict[str, Any]:
        known = old if old is not None and old["type"] == "function_call" else None
        output = known["output"] if known else None
        if isinstance(item.get("output"), str):  # a model of the program's own may tell of it so
            output = item["output"][:_MAX_TEXT]
        return {
            "item_id": item["id"],
            "previous_item_id": None,
            "type": "function_call",
            "call_id": wire.text(item, "call_id")[:_MAX_NAME] or (known["call_id"] if known else ""),
            "name": wire.text(item, "name")[:_MAX_NAME] or (known["name"] if known else ""),
            "arguments": wire.text(item, "arguments")[:_MAX_TEXT] or (known["arguments"] if known else ""),
            # The one item is complete when its output is there, not when the model has finished the call.
            "status": "in_progress" if output is None else "completed",
            "output": output,
        }
