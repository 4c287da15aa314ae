"""Keeping only so much: whatever a model or a client does, what a session remembers of it has a limit.

Limits stand beside what they bound. They lie far above what a conversation of an hour needs.
"""

from collections.abc import MutableMapping
from typing import Any, Final

REMEMBERED: Final = 4096
"""Ids of items or calls that are remembered after their time: an hour of talk makes some hundred."""


def trim(kept: MutableMapping[Any, Any], limit: int) -> None:
    """Forget the oldest entries beyond `limit`."""
    while len(kept) > limit:
        del kept[next(iter(kept))]


class Recent(dict[str, None]):
    """A set of ids, in their order, that forgets the oldest beyond `limit`. Looked through with nearly every event, so
    that is a dictionary's own work.
    """

    __slots__ = ("_limit",)

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit

    def add(self, id_: str) -> None:
        self[id_] = None
        if len(self) > self._limit:
            trim(self, self._limit)

    def discard(self, id_: str) -> None:
        self.pop(id_, None)
