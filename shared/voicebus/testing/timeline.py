"""What happened in a session, in one form for both faces: events as JSON with the ms since the recording began."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_LINES: Final = 40
_WIDTH: Final = 110
# An error is read to its end, which says what was wrong.
_ERROR_WIDTH: Final = 400
# They repeat what other lines say, or come in such numbers that nobody reads them.
_SILENT: Final = frozenset(
    {"raw_model_event", "history_updated", "audio_start", "audio_end", "audio_stopped", "agent_start", "ack"}
)


@dataclass(frozen=True)
class RecordedEvent:
    """One event: its number in the recording, the ms since that began, its type, and its fields as plain JSON.

    Of `audio` only the number of `bytes` is kept. `guardrail_tripped` and `input_guardrail_tripped` have `guardrails`,
    the names, wherever they come from.
    """

    index: int
    at_ms: int
    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Words:
    """What an event says of an item's text so far."""

    role: str
    item_id: str
    text: str


def read_event(index: int, at_ms: int, event: Any) -> RecordedEvent | None:
    """An event of a session (an object with `to_json`) or of the native face (JSON), as it is recorded.

    None for raw model events: they say nothing that others do not, and would fill the memory.
    """
    kind = str(event["type"] if isinstance(event, Mapping) else event.type)
    if kind == "raw_model_event":
        return None
    if kind == "audio":
        return RecordedEvent(index, at_ms, kind, _audio(event))
    data = dict(event if isinstance(event, Mapping) else event.to_json())
    data.pop("type", None)
    return RecordedEvent(index, at_ms, kind, data)


def _audio(event: Any) -> dict[str, Any]:
    if isinstance(event, Mapping):
        size = len(event.get("data") or "") * 3 // 4
        return {"item_id": event.get("item_id"), "content_index": event.get("content_index"), "bytes": size}
    return {"item_id": event.item_id, "content_index": event.content_index, "bytes": len(event.audio.data)}


def words(event: RecordedEvent) -> Iterator[Words]:
    """The texts that an event tells of, those of its items as far as they are known by then."""
    data = event.data
    match event.type:
        case "transcript_delta" | "item_recorded":
            yield Words(str(data.get("role")), str(data.get("item_id")), str(data.get("text", "")))
        case "history_added":
            yield from _item_words(data.get("item"))
        case "history_updated":
            for item in data.get("history") or ():
                yield from _item_words(item)


def _item_words(item: Any) -> Iterator[Words]:
    if isinstance(item, Mapping) and item.get("type") == "message":
        parts = (part.get("text") or part.get("transcript") or "" for part in item.get("content") or ())
        text = " ".join(part for part in parts if part)
        if text:
            yield Words(str(item.get("role")), str(item.get("item_id")), text)


def arguments_of(event: RecordedEvent) -> Any:
    """The arguments of a tool's event, parsed where they are JSON."""
    return parsed(event.data.get("arguments", ""))


def parsed(value: Any) -> Any:
    """JSON text as what it says; anything else as it is."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def called(tool: Any, arguments: Any) -> str:
    """A call, as Python would write it."""
    if isinstance(arguments, Mapping):
        return f"{tool}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"
    return f"{tool}({arguments!r})"


def rendered(events: Iterable[RecordedEvent]) -> str:
    """A readable timeline: a line per event, deltas of one item and pieces of one sound drawn together."""
    lines = [
        _cut(f"{at_ms:>8} ms  {kind:<22} {text}".rstrip(), _ERROR_WIDTH if kind == "error" else _WIDTH)
        for at_ms, kind, text in _drawn_together(events)
    ]
    if not lines:
        return "       (nothing happened)"
    left_out = len(lines) - _LINES
    if left_out > 0:
        lines = [f"       … {left_out} earlier lines", *lines[-_LINES:]]
    return "\n".join(lines)


def _drawn_together(events: Iterable[RecordedEvent]) -> list[tuple[int, str, str]]:
    lines: list[tuple[int, str, str]] = []
    # One line per item for its deltas and one for its sound, at the place of the first.
    places: dict[tuple[str, Any], int] = {}
    sizes: dict[tuple[str, Any], int] = {}
    for event in events:
        if event.type in _SILENT:
            continue
        text = _told(event)
        if event.type in ("audio", "transcript_delta"):
            key = (event.type, event.data.get("item_id"))
            sizes[key] = sizes.get(key, 0) + int(event.data.get("bytes", 0))
            if event.type == "audio":
                text = f"{sizes[key]} bytes of {key[1]}"
            if key in places:
                lines[places[key]] = (lines[places[key]][0], event.type, text)
                continue
            places[key] = len(lines)
        lines.append((event.at_ms, event.type, text))
    return lines


def _told(event: RecordedEvent) -> str:
    """One event in a few words."""
    data = event.data
    said = next(words(event), None)
    if said is not None:
        return f"{said.role}: {said.text!r}"
    match event.type:
        case "tool_start" | "tool_approval_required":
            return called(data.get("tool"), arguments_of(event))
        case "tool_end":
            return (
                f"{called(data.get('tool'), arguments_of(event))} -> {data.get('outcome', 'ok')} {data.get('output')!r}"
            )
        case "agent_end":
            return str(data.get("agent"))
        case "handoff":
            return f"{data.get('from_agent')} -> {data.get('to_agent')}"
        case "guardrail_tripped" | "input_guardrail_tripped":
            return f"{', '.join(data.get('guardrails') or ())}: {data.get('message')!r}"
        case "error":
            return error_text(event)
        case "history_added":
            item = data.get("item") or {}
            return f"{item.get('role') or item.get('type')} {item.get('item_id')}"
        case _:
            shown = {name: value for name, value in data.items() if name not in ("seq", "session", "at", "token")}
            return json.dumps(shown, ensure_ascii=False, default=str) if shown else ""


def error_text(event: RecordedEvent) -> str:
    """What an `error` event says: `code: message`."""
    error = event.data.get("error", event.data)
    if isinstance(error, Mapping):
        return ": ".join(str(error[name]) for name in ("code", "message") if error.get(name))
    return str(error)


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - 1]}…"
