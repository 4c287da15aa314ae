"""What a horizontal pod autoscaler makes of a metric with a target per pod; KEDA's ScaledObjects end as one.

As Kubernetes documents it: asked every 15 s, a tolerance of a tenth, the wish is the metric by its target rounded up,
scaling up by the more generous of doubling and four pods in 15 s, scaling down to the highest wish of the
stabilisation window, so many pods in a period.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

SYNC_S: Final = 15
TOLERANCE: Final = 0.1
_UP_S: Final = 15


@dataclass(frozen=True, slots=True)
class Bounds:
    """The chart's `scaling` of one service."""

    min_replicas: int
    max_replicas: int
    down_stabilization_s: int
    down_pods: int
    down_period_s: int


@dataclass
class Autoscaler:
    """`decide` is asked every `SYNC_S`; it answers how many pods there should be."""

    bounds: Bounds
    _wishes: deque[tuple[float, int]] = field(default_factory=deque)
    _changes: deque[tuple[float, int]] = field(default_factory=deque)

    def decide(self, now: float, pods: int, *loads: float) -> int:
        """`loads` are metrics by their target per pod, so that 3.2 asks for four pods; the highest counts."""
        wish = max((self._wanted(load, pods) for load in loads), default=pods)
        wish = min(self.bounds.max_replicas, max(self.bounds.min_replicas, wish))
        self._wishes.append((now, wish))
        while self._wishes[0][0] < now - self.bounds.down_stabilization_s:
            self._wishes.popleft()
        if wish < pods:
            wish = min(pods, max(each for _, each in self._wishes))
        limited = self._limited(now, pods, wish)
        if limited != pods:
            self._changes.append((now, limited - pods))
        return limited

    @staticmethod
    def _wanted(load: float, pods: int) -> int:
        if pods and abs(load / pods - 1) <= TOLERANCE:
            return pods
        return math.ceil(load)

    def _limited(self, now: float, pods: int, wish: int) -> int:
        longest = max(_UP_S, self.bounds.down_period_s)
        while self._changes and self._changes[0][0] <= now - longest:
            self._changes.popleft()
        if wish > pods:
            before = pods - sum(change for at, change in self._changes if change > 0 and at > now - _UP_S)
            return min(wish, max(2 * before, before + 4))
        removed = -sum(c for at, c in self._changes if c < 0 and at > now - self.bounds.down_period_s)
        return max(wish, pods - max(0, self.bounds.down_pods - removed))
