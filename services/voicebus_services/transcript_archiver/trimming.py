"""The event streams' ends: what every registered group has taken goes; what one holds back goes when it is too old or
too much, and is counted as that group's loss.

Every method raises `BusError` when Redis is away or refuses. Whoever calls them holds the shard's lease.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.config import event_groups
from voicebus.adapters.redis.portions import Portion
from voicebus.adapters.redis.trimming import position
from voicebus.contracts.streams import Keys
from voicebus.ports import Clock
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

# Overdue entries that one look counts and removes; the next look goes on.
_MOST: Final = 100_000
_PENDING: Final = 100_000
_BEFORE_ALL: Final = "0-0"


@dataclass(frozen=True, slots=True)
class Retention:
    """How long, and how much over all shards, a group may hold events back. `max_bytes`: 0 is no limit."""

    max_age_ms: int
    max_bytes: int


class EventTrimmer:
    """Trims one shard's stream at a time."""

    def __init__(self, bus: RedisConnection, keys: Keys, clock: Clock, retention: Retention) -> None:
        self._bus = bus
        self._keys = keys
        self._clock = clock
        self._retention = retention

    async def trim(self, shard: int) -> int:
        """Remove what may go; returns how many entries went.

        A group that has registered but does not read this stream yet holds everything back: it will start at 0.
        """
        stream = self._keys.events(shard)
        registered = await event_groups(self._bus, self._keys)
        groups = {group["name"]: group for group in await self._bus.call("XINFO GROUPS", stream)}
        marks = {
            name: await self._watermark(stream, groups[name]) if name in groups else _BEFORE_ALL for name in registered
        }
        removed = 0
        if marks:
            removed = int(await self._bus.call("XTRIM", stream, "MINID", min(marks.values(), key=position)))
        return removed + await self._trim_overdue(shard, stream, groups, marks)

    async def _watermark(self, stream: str, group: Mapping[str, Any]) -> str:
        """The lowest id that the group has not done with, else the last one that it took."""
        if group["pending"]:
            lowest = await self._bus.call("XPENDING", stream, group["name"], "-", "+", 1, parse_detail=True)
            if lowest:
                return str(lowest[0]["message_id"])
        return str(group["last-delivered-id"])

    async def _trim_overdue(
        self, shard: int, stream: str, groups: Mapping[str, Mapping[str, Any]], marks: Mapping[str, str]
    ) -> int:
        overdue = [entry_id async for entry_id in self._overdue(stream)]
        if not overdue:
            return 0
        last = overdue[-1]
        waiting = await asyncio.gather(
            *(self._bus.call("XPENDING", stream, name, "-", last, _PENDING, parse_detail=True) for name in groups)
        )
        pending = {name: {row["message_id"] for row in rows} for name, rows in zip(groups, waiting, strict=True)}
        milliseconds, number = position(last)
        removed = int(await self._bus.call("XTRIM", stream, "MINID", f"{milliseconds}-{number + 1}"))
        for name in marks:
            seen = position(groups[name]["last-delivered-id"] if name in groups else _BEFORE_ALL)
            lost = sum(position(each) > seen or each in pending.get(name, ()) for each in overdue)
            if lost:
                metrics.EVENTS_LOST.labels(group=name).inc(lost)
                log.error("events went before a group had taken them", group=name, shard=shard, lost=lost)
        return removed

    async def _overdue(self, stream: str) -> AsyncIterator[str]:
        """The oldest entries that are beyond the limits, of whichever group."""
        oldest = self._clock.at_ms() - self._retention.max_age_ms
        too_many = await self._too_many(stream)
        start, count, portion = "-", 0, Portion(self._keys.event_shards)
        while count < _MOST:
            asked = portion.count
            entries = await self._bus.call("XRANGE", stream, start, "+", "COUNT", asked)
            portion.took(fields for _, fields in entries)
            for entry_id, _ in entries:
                if count >= too_many and position(entry_id)[0] >= oldest:
                    return
                yield entry_id
                count += 1
                start = f"({entry_id}"
            if len(entries) < asked:
                return

    async def _too_many(self, stream: str) -> int:
        """How many entries are beyond this shard's share of the bytes, by their mean size."""
        share = self._retention.max_bytes / self._keys.event_shards
        measured = await asyncio.gather(self._bus.call("MEMORY USAGE", stream), self._bus.call("XLEN", stream))
        used, length = (int(each or 0) for each in measured)  # of a stream that is gone meanwhile: nothing
        if not share or not length or used <= share:
            return 0
        return min(length, round(length * (1 - share / used)) + 1)
