"""Keeping only so much: whatever a model or a client does, what a session remembers of it has a limit.

Limits stand beside what they bound. They lie far above what a conversation of an hour needs.
"""

from collections.abc import Iterator, MutableMapping
from typing import Any, Final

REMEMBERED: Final = 4096
"""Ids of items or calls that are remembered after their time: an hour of talk makes some hundred."""


def trim(kept: MutableMapping[Any, Any], limit: int) -> None:
    """Forget the oldest entries beyond `limit`."""
    while len(kept) > limit:
        del kept[next(iter(kept))]


class Recent:
    """A set of ids that forgets the oldest beyond `limit`."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._ids: dict[str, None] = {}

    def add(self, id_: str) -> None:
        self._ids[id_] = None
        trim(self._ids, self._limit)

    def discard(self, id_: str) -> None:
        self._ids.pop(id_, None)

    def __contains__(self, id_: object) -> bool:
        return id_ in self._ids

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)
