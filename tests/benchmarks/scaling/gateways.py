"""Gateways that come and go under their autoscaler, and the calls that they hold or turn away."""

import heapq
from collections import deque
from dataclasses import dataclass
from itertools import count
from typing import Final

from benchmarks.scaling.autoscaler import SYNC_S, Autoscaler, Bounds
from benchmarks.scaling.days import Day

SCRAPE_S: Final = 15
RATE_S: Final = 120


@dataclass(frozen=True, slots=True)
class GatewayRule:
    """The chart's values of the gateway. Without `reserves` only the sessions held are looked at, as an HPA does."""

    slots: int
    target_utilization: float
    start_s: float
    reserve_sessions: int
    bounds: Bounds
    reserves: bool = True


@dataclass(frozen=True, slots=True)
class Served:
    """What became of a day's calls. `cut` are those whose pod vanished and for which no other had room."""

    calls: int
    rejected: int
    cut: int
    pod_hours: float
    most_pods: int
    used: float
    """Sessions held by slots, over the day."""


class _Pod:
    __slots__ = ("ready_at", "sessions")

    def __init__(self, ready_at: float) -> None:
        self.ready_at = ready_at
        self.sessions: set[int] = set()


def serve(day: Day, rule: GatewayRule) -> Served:
    """Play a day."""
    scaler = Autoscaler(rule.bounds)
    pods = [_Pod(0.0) for _ in range(rule.bounds.min_replicas)]
    ends: list[tuple[float, int]] = []
    where: dict[int, _Pod] = {}
    asked: deque[float] = deque()
    losses, ids = deque(day.node_losses), count()
    rejected = cut = most = 0
    pod_s = used_s = 0.0
    seen = len(where), 0.0
    position = 0
    for now in range(day.seconds):
        while ends and ends[0][0] <= now:
            _, ended = heapq.heappop(ends)
            if (pod := where.pop(ended, None)) is not None:
                pod.sessions.discard(ended)
        if losses and losses[0] <= now:
            losses.popleft()
            gone, pods = pods[: len(pods) // 3], pods[len(pods) // 3 :]
            cut += _move(gone, pods, where, now, rule.slots)
            pods += [_Pod(now + rule.start_s) for _ in gone]
        while position < len(day.calls) and day.calls[position].at <= now:
            call = day.calls[position]
            position += 1
            asked.append(now)
            pod = _emptiest(pods, now, rule.slots)
            if pod is None:
                rejected += 1
                continue
            session = next(ids)
            pod.sessions.add(session)
            where[session] = pod
            heapq.heappush(ends, (now + call.lasts, session))
        while asked and asked[0] <= now - RATE_S:
            asked.popleft()
        if now % SCRAPE_S == 0:
            seen = len(where), len(asked) / RATE_S
        if now % SYNC_S == 0:
            held, per_s = seen
            reserve = max(rule.reserve_sessions, rule.start_s * per_s) if rule.reserves else 0.0
            target = rule.slots * rule.target_utilization
            wanted = scaler.decide(now, len(pods), (held + reserve) / int(target))
            while len(pods) < wanted:
                pods.append(_Pod(now + rule.start_s))
            if len(pods) > wanted:
                pods.sort(key=lambda pod: (pod.ready_at <= now, len(pod.sessions)))
                gone, pods = pods[: len(pods) - wanted], pods[len(pods) - wanted :]
                cut += _move(gone, pods, where, now, rule.slots)
        most = max(most, len(pods))
        pod_s += len(pods)
        used_s += len(where)
    return Served(len(day.calls), rejected, cut, pod_s / 3600, most, used_s / (pod_s * rule.slots) if pod_s else 0.0)


def _emptiest(pods: list[_Pod], now: float, slots: int) -> _Pod | None:
    """The gateway with the fewest sessions, as a balancer by least connections chooses; None where all are full."""
    ready = [pod for pod in pods if pod.ready_at <= now and len(pod.sessions) < slots]
    return min(ready, key=lambda pod: len(pod.sessions), default=None)


def _move(gone: list[_Pod], left: list[_Pod], where: dict[int, _Pod], now: float, slots: int) -> int:
    """The sessions of pods that go on elsewhere; how many found no room."""
    cut = 0
    for pod in gone:
        for session in pod.sessions:
            new = _emptiest(left, now, slots)
            if new is None:
                del where[session]
                cut += 1
            else:
                new.sessions.add(session)
                where[session] = new
    return cut
