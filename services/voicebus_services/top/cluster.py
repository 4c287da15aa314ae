"""What there is in the cluster now: gateways, workers, queues, the newest live sessions. Nothing is written."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from voicebus.adapters.redis.client import MAX_BLOCK_MS, RedisConnection
from voicebus.adapters.redis.directory import SessionDirectory, SessionSeen, Status
from voicebus.adapters.redis.heartbeat import living
from voicebus.adapters.redis.registry import offered_queues
from voicebus.adapters.redis.stream_state import GroupState, group_state
from voicebus.adapters.redis.trimming import pairs
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import (
    ARCHIVER_GROUP,
    EVENTS_QUEUE,
    GUARDRAILS_QUEUE,
    WORKERS_GROUP,
    Keys,
)
from voicebus.errors import BusError, ContractError
from voicebus.ports import Clock
from voicebus_services.top.recent import WINDOW_MS, LastMinute, Recent

# An archiver says that it lives more often than that.
_ARCHIVER_MS: Final = 5_000

# Of one shard in one read: what comes faster is shown as it comes.
_COUNT: Final = 2_000
# Between two reads while events are followed: an archiver has what it reads written before it is trimmed, which takes
# longer.
_PAUSE_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class GatewaySeen:
    """`sessions` is None of a gateway that does not say."""

    id: str
    sessions: int | None
    free: int
    draining: bool


@dataclass(frozen=True, slots=True)
class QueueSeen:
    """A queue of tools, the shards of the guardrails or of the events. `lag` is None where Redis does not know it."""

    name: str
    workers: int
    lag: int | None
    pending: int
    oldest_s: float
    dead: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The cluster at `at` (ms since 1970)."""

    at: int
    gateways: Sequence[GatewaySeen]
    queues: Sequence[QueueSeen]
    sessions: Sequence[SessionSeen]
    recent: LastMinute


class Cluster:
    """Looks at a cluster again and again. Every method raises `BusError` where Redis cannot be reached."""

    def __init__(self, bus: RedisConnection, keys: Keys, clock: Clock, *, tenant: str, sessions: int) -> None:
        self._bus = bus
        self._keys = keys
        self._clock = clock
        self._directory = SessionDirectory(bus, keys, clock)
        self._tenant = tenant
        self._sessions = sessions
        self._recent = Recent()
        begin = f"{max(0, clock.at_ms() - WINDOW_MS)}-0"
        self._read = {keys.events(shard): begin for shard in range(keys.event_shards)}
        # Streams of several shards can be read at once, but not in a cluster.
        streams = list(self._read)
        self._together = [streams] if bus.joins_tags else [[stream] for stream in streams]

    async def look(self) -> Snapshot:
        """What there is now."""
        await asyncio.gather(*(self._read_on(stream) for stream in self._read))
        gateways, queues, page = await asyncio.gather(
            self._gateways(),
            self._queues(self._clock.at_ms()),
            self._directory.page(
                self._tenant, limit=self._sessions, wanted=lambda seen: seen.status in (Status.ACTIVE, Status.IDLE)
            ),
        )
        now = self._clock.at_ms()
        return Snapshot(now, gateways, queues, page.sessions, self._recent.seen(now))

    async def follow(self, for_s: float) -> None:
        """Take in events as they come, for so long: archivers trim what they have written, whenever that is."""
        until = time.monotonic() + for_s
        await asyncio.gather(*(self._follow(streams, until) for streams in self._together))

    async def _follow(self, streams: Sequence[str], until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            block = max(1, min(MAX_BLOCK_MS, int(left * 1000)))
            after = [self._read[stream] for stream in streams]
            self._take(
                await self._bus.read_blocking("XREAD", "COUNT", _COUNT, "BLOCK", block, "STREAMS", *streams, *after)
            )
            await asyncio.sleep(min(left, _PAUSE_S))

    async def _read_on(self, stream: str) -> None:
        self._take(await self._bus.call("XREAD", "COUNT", _COUNT, "STREAMS", stream, self._read[stream]))

    def _take(self, reply: Any) -> None:
        for stream, entries in reply or ():
            for entry_id, fields in entries:
                self._read[stream] = entry_id
                try:
                    self._recent.add(Entry.parse(fields))
                except ContractError:
                    continue  # the archiver has it among its dead letters, where it can be looked at

    async def _gateways(self) -> list[GatewaySeen]:
        names = sorted(await self._bus.call("ZRANGE", self._keys.gateways, 0, -1))
        beats = [self._keys.gateway(name) for name in names]
        alive = await living(self._bus, beats)
        said = await asyncio.gather(
            *(self._bus.submit("HMGET", beat, "sessions", "free", "draining") for beat in beats)
        )
        return [
            GatewaySeen(name, None if sessions is None else int(sessions), int(free or 0), draining == "1")
            for name, lives, (sessions, free, draining) in zip(names, alive, said, strict=True)
            if lives
        ]

    async def _queues(self, now: int) -> list[QueueSeen]:
        tools = sorted(await offered_queues(self._bus, self._keys))
        guardrails = [self._keys.guardrails(shard) for shard in range(self._keys.guardrail_shards)]
        events = [self._keys.events(shard) for shard in range(self._keys.event_shards)]
        *seen, archived = await asyncio.gather(
            *(self._queue(queue, [self._keys.tools(queue)], WORKERS_GROUP) for queue in tools),
            self._queue(GUARDRAILS_QUEUE, guardrails, WORKERS_GROUP),
            self._queue(EVENTS_QUEUE, events, ARCHIVER_GROUP),
        )
        archivers = await self._bus.call("ZCOUNT", self._keys.archivers, now - _ARCHIVER_MS, "+inf")
        return [*seen, replace(archived, workers=int(archivers))]

    async def _queue(self, name: str, streams: Sequence[str], group: str) -> QueueSeen:
        """The streams of one queue together."""
        dead = int(await self._bus.call("XLEN", self._keys.dead(name)))
        parts = [part for part in await asyncio.gather(*(self._part(stream, group) for stream in streams)) if part]
        states = [state for state, _ in parts]
        lags = [state.lag for state in states]
        consumers = sorted({consumer for _, names in parts for consumer in names})
        alive = await living(self._bus, [self._keys.worker(consumer) for consumer in consumers])
        now = self._clock.at_ms()
        return QueueSeen(
            name,
            workers=sum(alive),
            lag=None if None in lags else sum(lag for lag in lags if lag is not None),
            pending=sum(state.pending for state in states),
            oldest_s=max((state.oldest_s(now) for state in states), default=0.0),
            dead=dead,
        )

    async def _part(self, stream: str, group: str) -> tuple[GroupState, Sequence[str]] | None:
        """One stream's group and the names of its consumers; None where there is none yet."""
        try:
            state = await group_state(self._bus, stream, group)
        except BusError as error:
            if "no such key" in str(error).lower():
                return None
            raise
        if state is None:
            return None
        rows = await self._bus.call("XINFO", "CONSUMERS", stream, group)
        return state, [pairs(row)["name"] for row in rows]
