"""Lenient reading of protocol events: servers differ, and no odd field may end a call (protocol section 10, rule 2)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from typing_extensions import TypeIs

_MAX_NUMBER: Final = 2.0**53
# Of what is nested so deeply that nobody can tell: more than anything that is kept (the size of a whole message).
_UNTOLD: Final = 32 * 1024 * 1024
_EMPTY: Final[Mapping[str, Any]] = {}
_PLAIN: Final = frozenset({type(None), str, int, float, bool, list})


def is_mapping(value: object) -> TypeIs[Mapping[str, Any]]:
    """Whether `value` is an object of JSON."""
    # What a server sends is told at once: asking for any mapping costs ten times as much.
    kind = type(value)
    return kind is dict or (kind not in _PLAIN and isinstance(value, Mapping))


def text(source: Mapping[str, Any], key: str) -> str:
    """The string under `key`, or "" where there is none."""
    value = source.get(key)
    return value if type(value) is str or isinstance(value, str) else ""


def number(source: Mapping[str, Any], key: str) -> float:
    """The finite number under `key` that a float can hold exactly enough, or 0."""
    value = source.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _MAX_NUMBER:
        return value
    return 0


def index(source: Mapping[str, Any], key: str) -> int:
    """The position under `key`, or 0."""
    return max(0, int(number(source, key)))


def mapping(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under `key`, or an empty one."""
    value = source.get(key)
    if value is None:  # as nearly always where it is no object
        return _EMPTY
    return value if type(value) is dict or is_mapping(value) else _EMPTY


def mappings(source: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    """The objects in the list under `key`; anything else in it is left out."""
    value = source.get(key)
    return [entry for entry in value if is_mapping(entry)] if isinstance(value, (list, tuple)) else ()


def size(event: Mapping[str, Any]) -> int:
    """About how many characters an event has."""
    try:
        return len(repr(event))
    except RecursionError:
        return _UNTOLD


def is_made_call(item: Mapping[str, Any]) -> bool:
    """Whether an item is a function call that the model has finished."""
    return text(item, "type") == "function_call" and text(item, "status") in ("completed", "")


def said(item: Mapping[str, Any]) -> str:
    """What a message of the model says, "" where the item is none."""
    if text(item, "type") != "message":
        return ""
    texts = (text(part, "transcript") or text(part, "text") for part in mappings(item, "content"))
    return " ".join(said for said in texts if said)
