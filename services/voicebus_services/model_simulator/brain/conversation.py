"""The conversation so far, reduced to what the brain decides by. The single home of reading protocol items."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Spoken:
    """A message: who said it and its words."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """A call that has its output."""

    name: str
    arguments: dict[str, Any]
    output: str


Event = Spoken | Done


def read_items(items: Sequence[dict[str, Any]]) -> list[Event]:
    """Messages with words, and calls where their output stands; items that say nothing are left out."""
    calls: dict[str, tuple[str, dict[str, Any]]] = {}
    events: list[Event] = []
    for item in items:
        match item.get("type", "message"):
            case "function_call":
                calls[str(item.get("call_id", ""))] = (str(item.get("name", "")), _object(item.get("arguments")))
            case "function_call_output":
                name, arguments = calls.get(str(item.get("call_id", "")), ("", {}))
                events.append(Done(name, arguments, _text_of_output(item.get("output"))))
            case "message":
                text = _words(item.get("content"))
                if text:
                    events.append(Spoken(str(item.get("role", "user")), text))
            case _:
                continue
    return events


def _words(content: Any) -> str:
    if isinstance(content, str):
        return content.strip()
    if not isinstance(content, list):
        return ""
    parts = [part.get("text") or part.get("transcript") or "" for part in content if isinstance(part, dict)]
    return " ".join(part.strip() for part in parts if isinstance(part, str) and part.strip())


def _object(arguments: Any) -> dict[str, Any]:
    if isinstance(arguments, dict):
        return arguments
    try:
        value = json.loads(arguments) if isinstance(arguments, str) else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _text_of_output(output: Any) -> str:
    return output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
