"""How long a queue's calls take, by those that ended last: known to each worker, and to gateways that wait for them."""

from collections import deque
from typing import Final

# How many calls tell, and how few tell too little.
_LAST: Final = 32
_FEWEST: Final = 4

# Of fewer the mean tells too little: one long call among them is most of it.
_FEWEST_OF_MEAN: Final = 16


class Durations:
    """How long (ms) the calls ran that ended last. May be asked in any thread."""

    def __init__(self) -> None:
        self._took_ms: deque[int] = deque(maxlen=_LAST)

    def ended(self, took_ms: int) -> None:
        self._took_ms.append(took_ms)

    def quick_ms(self) -> int | None:
        """How long the quickest quarter of them ran at most, so that a queue of quick and slow ones counts as one of
        quick ones; None where too few have ended.
        """
        took_ms = list(self._took_ms)
        return sorted(took_ms)[len(took_ms) // 4] if len(took_ms) >= _FEWEST else None

    def mean_ms(self) -> float | None:
        """How long they ran on average; None where too few have ended."""
        took_ms = list(self._took_ms)
        return sum(took_ms) / len(took_ms) if len(took_ms) >= _FEWEST_OF_MEAN else None
