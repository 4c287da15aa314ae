"""How many entries of a stream are asked for at once: Redis counts entries, and memory is bytes.

An entry is some hundred bytes, or a tool's result of a quarter of a megabyte: five hundred of those, of each shard of
events or of an inbox, are more than a pod has, and the next pod would be killed by the same ones.
"""

from collections.abc import Iterable, Mapping
from typing import Final

MOST: Final = 500
FIRST: Final = 16
"""So few before anything is known of them."""

ALL_BYTES: Final = 16 * 1024 * 1024
LEAST_BYTES: Final = 64 * 1024


class Portion:
    """Of one stream, one of `streams` that are read at once: at most twice as many as came the time before, and as many
    as were `ALL_BYTES` over all of them.

    Where they come one by one few are asked for: of what has waited meanwhile nothing is known.
    """

    def __init__(self, streams: int = 1) -> None:
        self._bytes = max(LEAST_BYTES, ALL_BYTES // streams)
        self.count: int = FIRST

    def took(self, entries: Iterable[Mapping[str, str]]) -> None:
        """What a read brought, by the entries' fields."""
        sizes = [sum(map(len, fields.values())) for fields in entries]
        fitting = len(sizes) * self._bytes // max(1, sum(sizes))
        if sizes:
            self.count = max(1, min(MOST, max(2 * len(sizes), min(self.count, FIRST)), fitting))
