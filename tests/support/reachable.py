"""What an object keeps alive: everything that is reachable from it, code and classes apart."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any


def reachable(root: Any) -> Iterator[Any]:
    """Each value once."""
    seen: dict[int, Any] = {}  # held, so that no id is used again meanwhile
    open_: list[Any] = [root]
    while open_:
        value = open_.pop()
        if id(value) in seen or isinstance(value, type) or (callable(value) and not hasattr(value, "__self__")):
            continue
        seen[id(value)] = value
        yield value
        open_ += _inside(value)


def retained(root: Any) -> int:
    """The bytes of it all."""
    return sum(map(sys.getsizeof, reachable(root)))


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.keys()
        yield from value.values()
    elif isinstance(value, list | tuple | set | frozenset) or type(value).__name__ == "deque":
        yield from value
    elif not isinstance(value, str | bytes | int | float | bool | None):
        yield from getattr(value, "__dict__", {}).values()
        for kind in type(value).__mro__:
            slots = getattr(kind, "__slots__", ())
            yield from (
                getattr(value, slot) for slot in ([slots] if isinstance(slots, str) else slots) if hasattr(value, slot)
            )
        if hasattr(value, "__self__"):
            yield value.__self__
