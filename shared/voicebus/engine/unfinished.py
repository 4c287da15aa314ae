"""What a model owes of a response that is cut off: the events that would have closed what it has begun.

They are those of a response that was cancelled (protocol 3.4), so that history, record and client end up as after one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

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


@dataclass(slots=True)
class _Item:
    """An item that has begun. `parts` are its open parts by index: their kinds, and the events that ended them."""

    index: int
    wire: Event
    parts: dict[int, tuple[str, set[str]]] = field(default_factory=dict)
    kinds: dict[int, str] = field(default_factory=dict)

    @property
    def is_told(self) -> bool:
        """Whether the model has said all of it, and only the events that close it are missing."""
        return bool(self.kinds) and all(ended.issuperset(_DONE[kind]) for kind, ended in self.parts.values())


@dataclass(slots=True)
class _Open:
    items: dict[str, _Item] = field(default_factory=dict)
    has_finished: bool = False


class Unfinished:
    """Follows the events of running responses; knows nothing of those that have ended."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}

    def heard(self, kind: str, event: Event) -> None:
        """An event of a response, of any type but deltas."""
        response_id = wire.text(event, "response_id")
        if kind == "response.done":
            self._open.pop(wire.text(wire.mapping(event, "response"), "id"), None)
        elif kind == "response.output_item.added":
            opened = self._open.setdefault(response_id, _Open())
            trim(self._open, _MAX_RESPONSES)
            whole = wire.mapping(event, "item")
            if len(opened.items) < MAX_TEXT_PARTS:
                opened.items[wire.text(whole, "id")] = _Item(wire.index(event, "output_index"), whole)
        elif kind == "response.output_item.done":
            opened = self._open.setdefault(response_id, _Open())
            trim(self._open, _MAX_RESPONSES)
            opened.items.pop(wire.text(wire.mapping(event, "item"), "id"), None)
            opened.has_finished = True
        else:
            self._part(kind, event, response_id)

    def _part(self, kind: str, event: Event, response_id: str) -> None:
        opened = self._open.get(response_id)
        item = opened.items.get(wire.text(event, "item_id")) if opened is not None else None
        if item is None:
            return
        index = wire.index(event, "content_index")
        if kind == "response.content_part.added" and len(item.kinds) < MAX_TEXT_PARTS:
            spoken = "audio" if "audio" in wire.text(wire.mapping(event, "part"), "type") else "text"
            item.parts[index] = spoken, set()
            item.kinds[index] = spoken
        elif kind == "response.content_part.done":
            item.parts.pop(index, None)
        elif kind.endswith(".done") and index in item.parts:
            item.parts[index][1].add(kind)

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


def _said(kind: str, text: str) -> Event:
    if kind == "response.output_audio.done":
        return {}
    return {"text" if kind == "response.output_text.done" else "transcript": text}


def _content(kind: str, text: str) -> Event:
    if kind == "audio":
        return {"type": "output_audio", "transcript": text}
    return {"type": "output_text", "text": text}
