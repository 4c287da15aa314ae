"""What a model owes of a response that is cut off: the events that would have closed what it has begun.

They are those of a response that was cancelled (protocol 3.4), so that history, record and client end up as after one.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from msgspec import Struct

from voicebus.engine import wire
from voicebus.engine.bounds import trim
from voicebus.engine.responses import MAX_TEXT_PARTS, Response

Event = Mapping[str, Any]

# Responses of which something is open at once; a conversation has one, and some beside it.
_MAX_RESPONSES: Final = 64

_DONE: Final[Mapping[str, tuple[str, ...]]] = {
    "audio": ("response.output_audio.done", "response.output_audio_transcript.done"),
    "text": ("response.output_text.done",),
}


class _Item(Struct):
    """An item that has begun. `parts` are its open parts by index: their kinds, and the events that ended them."""

    index: int
    wire: Event
    parts: dict[int, tuple[str, set[str]]] = {}
    kinds: dict[int, str] = {}

    @property
    def is_told(self) -> bool:
        """Whether the model has said all of it, and only the events that close it are missing."""
        return bool(self.kinds) and all(ended.issuperset(_DONE[kind]) for kind, ended in self.parts.values())


class _Open(Struct):
    items: dict[str, _Item] = {}
    has_finished: bool = False


class Unfinished:
    """Follows the events of running responses; knows nothing of those that have ended."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}

    def heard(self, kind: str, event: Event) -> None:
        """An event of the model; those of other types than the table's tell nothing of this."""
        handler = self._HANDLERS.get(kind)
        if handler is not None:
            handler(self, event)

    def _response_done(self, event: Event) -> None:
        self._open.pop(wire.text(wire.mapping(event, "response"), "id"), None)

    def _item_added(self, event: Event) -> None:
        opened, item = self._opened(event), wire.mapping(event, "item")
        if len(opened.items) < MAX_TEXT_PARTS:
            opened.items[wire.text(item, "id")] = _Item(wire.index(event, "output_index"), item)

    def _item_done(self, event: Event) -> None:
        opened = self._opened(event)
        opened.items.pop(wire.text(wire.mapping(event, "item"), "id"), None)
        opened.has_finished = True

    def _opened(self, event: Event) -> _Open:
        response_id = wire.text(event, "response_id")
        opened = self._open.get(response_id)
        if opened is None:
            opened = self._open[response_id] = _Open()
            trim(self._open, _MAX_RESPONSES)
        return opened

    def _part_added(self, event: Event) -> None:
        item = self._item_of(event)
        if item is not None and len(item.kinds) < MAX_TEXT_PARTS:
            index = wire.index(event, "content_index")
            spoken = "audio" if "audio" in wire.text(wire.mapping(event, "part"), "type") else "text"
            item.parts[index] = spoken, set()
            item.kinds[index] = spoken

    def _part_done(self, event: Event) -> None:
        item = self._item_of(event)
        if item is not None:
            item.parts.pop(wire.index(event, "content_index"), None)

    def _part_ended(self, event: Event) -> None:
        item = self._item_of(event)
        part = item.parts.get(wire.index(event, "content_index")) if item is not None else None
        if part is not None:
            part[1].add(wire.text(event, "type"))

    def _item_of(self, event: Event) -> _Item | None:
        opened = self._open.get(wire.text(event, "response_id"))
        return opened.items.get(wire.text(event, "item_id")) if opened is not None else None

    def is_whole(self, response: Response) -> bool:
        """Whether something of the response is finished or said to its end, and nothing has only begun."""
        opened = self._of(response)
        if opened is None or not (opened.has_finished or opened.items):
            return False
        return all(item.is_told for item in opened.items.values())

    def _of(self, response: Response) -> _Open | None:
        return self._open.get(response.model_id) or self._open.get(response.id)

    def closing(self, response: Response, status: str, details: Event | None) -> list[Event]:
        """What the model owes of the response, up to its `response.done`."""
        opened = self._of(response) or _Open()
        response_id = response.model_id or response.id
        events: list[Event] = []
        for item_id, item in list(opened.items.items()):
            where = {"response_id": response_id, "item_id": item_id, "output_index": item.index}
            texts = response.texts.get(item_id, {})
            for index, (kind, ended) in sorted(item.parts.items()):
                text = texts.get(index, "")
                place = {**where, "content_index": index}
                owed = [done for done in _DONE[kind] if done not in ended]
                events += [{"type": done, **place, **_said(done, text)} for done in owed]
                part = {"type": kind, "transcript" if kind == "audio" else "text": text}
                events.append({"type": "response.content_part.done", **place, "part": part})
            whole: dict[str, Any] = {**item.wire, "status": "completed" if item.is_told else "incomplete"}
            if wire.text(whole, "type") == "message":
                whole["content"] = [_content(kind, texts.get(index, "")) for index, kind in sorted(item.kinds.items())]
            events.append({"type": "conversation.item.done", "item": whole})
            place = {"response_id": response_id, "output_index": item.index}
            events.append({"type": "response.output_item.done", **place, "item": whole})
        payload: dict[str, Any] = {"id": response_id, "status": status, "status_details": details, "output": []}
        return [*events, {"type": "response.done", "response": payload}]

    _HANDLERS: ClassVar[Mapping[str, Callable[[Any, Event], None]]] = {
        "response.done": _response_done,
        "response.output_item.added": _item_added,
        "response.output_item.done": _item_done,
        "response.content_part.added": _part_added,
        "response.content_part.done": _part_done,
        **dict.fromkeys((*_DONE["audio"], *_DONE["text"]), _part_ended),
    }


def _said(kind: str, text: str) -> Event:
    if kind == "response.output_audio.done":
        return {}
    return {"text" if kind == "response.output_text.done" else "transcript": text}


def _content(kind: str, text: str) -> Event:
    if kind == "audio":
        return {"type": "output_audio", "transcript": text}
    return {"type": "output_text", "text": text}
