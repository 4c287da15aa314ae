"""How many entries an archiver asks a shard for at once: Redis counts entries, and memory is bytes.

An entry is some hundred bytes, or a tool's result of a quarter of a megabyte: sixteen shards with five hundred of those
are more than a pod has, and the next pod would be killed by the same ones.
"""

from collections.abc import Iterable, Mapping
from typing import Final

MOST: Final = 500
FIRST: Final = 16
"""So few before anything is known of them."""

ALL_BYTES: Final = 16 * 1024 * 1024
LEAST_BYTES: Final = 64 * 1024


class Portion:
    """Of one shard. At most twice as many as came the time before, and as many as were `ALL_BYTES` over all `shards`.

    Where they come one by one few are asked for: of what has waited meanwhile nothing is known.
    """

    def __init__(self, shards: int) -> None:
        self._bytes = max(LEAST_BYTES, ALL_BYTES // shards)
        self.count = FIRST

    def took(self, entries: Iterable[Mapping[str, str]]) -> None:
        sizes = [sum(map(len, fields.values())) for fields in entries]
        fitting = len(sizes) * self._bytes // max(1, sum(sizes))
        if sizes:
            self.count = max(1, min(MOST, max(2 * len(sizes), min(self.count, FIRST)), fitting))
