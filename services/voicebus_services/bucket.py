"""A token bucket on this process's own clock: what one client may do, without asking anybody else."""

import time
from collections.abc import Callable


class Bucket:
    """Holds at most `burst`, refilled by `rate` a second; begins full. What is taken may put it into debt."""

    def __init__(self, rate: float, burst: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._level = burst
        self._at = clock()

    def spend(self, amount: float) -> bool:
        """Take `amount` where there is as much, or where the bucket is full; False takes nothing."""
        self._refill()
        if self._level < min(amount, self._burst):
            return False
        self._level -= amount
        return True

    def take(self, amount: float) -> float:
        """Take `amount` in any case; returns the seconds until that is worked off, 0 where there was enough."""
        self._refill()
        self._level -= amount
        return max(0.0, -self._level / self._rate)

    def wait(self, amount: float) -> float:
        """Seconds until it holds `amount`; takes nothing."""
        self._refill()
        return max(0.0, (amount - self._level) / self._rate)

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
