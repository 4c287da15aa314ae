"""Tool workers under their autoscaler, and how long calls wait in the queue."""

import heapq
from collections import deque
from dataclasses import dataclass

from benchmarks.scaling.autoscaler import SYNC_S, Autoscaler, Bounds
from benchmarks.scaling.days import Day


@dataclass(frozen=True, slots=True)
class WorkerRule:
    """The chart's values of one entry of `toolWorkers`. A signal that is None is not looked at."""

    concurrency: int
    start_s: float
    lag_per_replica: float | None
    occupancy: float | None
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class Worked:
    """How long calls waited for a worker, in seconds."""

    calls: int
    p50_s: float
    p99_s: float
    worst_s: float
    pod_hours: float
    most_pods: int


def work(day: Day, rule: WorkerRule) -> Worked:
    """Play a day; a pod takes `concurrency` calls at once, first come first served."""
    calls = sorted(tool for call in day.calls for tool in call.tools)
    scaler = Autoscaler(rule.bounds)
    ready: deque[float] = deque([0.0] * rule.bounds.min_replicas)  # when each pod is, or was, ready
    running: list[float] = []
    waiting: deque[tuple[float, float]] = deque()
    waits: list[float] = []
    losses = deque(day.node_losses)
    pod_s, most, position = 0.0, len(ready), 0
    for now in range(day.seconds):
        if losses and losses[0] <= now:
            losses.popleft()
            # What they ran is claimed and run again by others; here it simply takes longer by their start.
            lost = len(ready) // 3
            ready = deque([*list(ready)[lost:], *([now + rule.start_s] * lost)])
        room = rule.concurrency * sum(1 for at in ready if at <= now)
        upto = now + 1
        while position < len(calls) and calls[position][0] < upto:
            waiting.append(calls[position])
            position += 1
        while running and running[0] <= now:
            heapq.heappop(running)
        while waiting:
            asked, takes = waiting[0]
            if len(running) < room:
                start = max(asked, float(now) if waits and asked < now else asked)
            elif running and running[0] < upto and len(running) <= room:
                start = max(asked, heapq.heappop(running))
            else:
                break
            waiting.popleft()
            waits.append(start - asked)
            heapq.heappush(running, start + takes)
        if now % SYNC_S == 0:
            loads = []
            if rule.lag_per_replica is not None:
                loads.append(len(waiting) / rule.lag_per_replica)
            if rule.occupancy is not None:
                loads.append(len(running) / max(1, int(rule.concurrency * rule.occupancy)))
            wanted = scaler.decide(now, len(ready), *loads)
            while len(ready) < wanted:
                ready.append(now + rule.start_s)
            while len(ready) > wanted:
                ready.pop()  # the newest; what it runs is finished by it before it goes
        most = max(most, len(ready))
        pod_s += len(ready)
    waits += [day.seconds - asked for asked, _ in waiting]
    waits.sort()
    p50_s, p99_s, worst_s = (_at(waits, share) for share in (0.5, 0.99, 1.0))
    return Worked(len(calls), p50_s, p99_s, worst_s, pod_s / 3600, most)


def _at(ranked: list[float], share: float) -> float:
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))] if ranked else 0.0
