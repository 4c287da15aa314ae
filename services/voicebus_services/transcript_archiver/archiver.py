"""Keeps one reader going for each shard that this archiver holds, and gives shards up without losing their place."""

import asyncio
import random
from collections.abc import Callable
from typing import Final

from voicebus.adapters.database.store import TranscriptStore
from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.config import register_event_group
from voicebus.adapters.redis.contact import Contact
from voicebus.contracts.streams import ARCHIVER_GROUP, Keys
from voicebus.errors import BusError, StoreError
from voicebus.ports import Clock
from voicebus.telemetry import metrics
from voicebus.telemetry.health import Health
from voicebus.telemetry.logging import get_logger
from voicebus_services.privacy.events import Rules
from voicebus_services.transcript_archiver.leases import REFRESH_S, ShardLeases
from voicebus_services.transcript_archiver.shards import FIRST_CURSOR, SERVICE, EventShards
from voicebus_services.transcript_archiver.trimming import EventTrimmer, Retention
from voicebus_services.transcript_archiver.writer import BatchWriter

log = get_logger(__name__)

UPKEEP_S: Final = 10.0
PROBE_S: Final = 2.0


class Archiver:
    """`run` until the stop event; health conditions `redis` and `database` are its to keep.

    `rules` are what dead letters are spared, as the store is; `on_refused` hears of each event, by session and seq,
    that became one.
    """

    def __init__(
        self,
        bus: RedisConnection,
        keys: Keys,
        store: TranscriptStore,
        clock: Clock,
        health: Health,
        *,
        me: str,
        retention: Retention,
        rules: Rules,
        on_refused: Callable[[str, int], None],
    ) -> None:
        self._bus = bus
        self._keys = keys
        self._store = store
        self._health = health
        self._leases = ShardLeases(bus, keys, me)
        self._shards = EventShards(bus, keys, me)
        self._trimmer = EventTrimmer(bus, keys, clock, retention)
        self._writer = BatchWriter(store, self._shards, clock, rules=rules, on_refused=on_refused)
        self._readers: dict[int, asyncio.Task[None]] = {}
        self._leaving: set[int] = set()
        self._stopping = False
        self._reachable = True
        self._trouble = False

    @property
    def shards(self) -> list[int]:
        """The shards read now."""
        return sorted(set(self._leases.held) & self._readers.keys() - self._leaving)

    @property
    def contact(self) -> Contact:
        """What keeping the shards tells of Redis."""
        return self._leases.contact

    async def run(self, stop: asyncio.Event, *, drain_s: float) -> None:
        """Archive until `stop`; then finish the batches in hand and give the shards up, within `drain_s`."""
        async with asyncio.TaskGroup() as tasks:
            helpers = [
                tasks.create_task(self._writer.run(), name="writer"),
                tasks.create_task(self._upkeep(), name="upkeep"),
                tasks.create_task(self._probe_database(), name="database-probe"),
            ]
            leases = tasks.create_task(self._keep_leases(tasks), name="leases")
            await stop.wait()
            self._health.drain()
            self._stopping = True
            try:
                async with asyncio.timeout(drain_s):
                    if self._readers:
                        await asyncio.wait(list(self._readers.values()))
                    leases.cancel()
                    await self._leave()
            except TimeoutError:
                log.warning("the drain ran out of time; what is in hand is delivered again later")
            for task in (leases, *self._readers.values(), *helpers):
                task.cancel()

    async def _leave(self) -> None:
        try:
            await self._leases.leave()
        except BusError as error:
            log.info("shards not given up; their leases expire", error=str(error))

    async def _keep_leases(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            try:
                self._leaving.update(await self._leases.refresh())
            except BusError as error:
                self._lost_redis(error)
            else:
                self._found_redis()
            for shard in self._leases.held:
                if shard not in self._readers and not self._stopping:
                    self._readers[shard] = tasks.create_task(self._serve_shard(shard), name=f"shard-{shard}")
            await asyncio.sleep(REFRESH_S)

    async def _serve_shard(self, shard: int) -> None:
        """Read a shard for as long as it is held and wanted; then give it up."""
        try:
            await self._read_shard(shard)
            if shard in self._leaving:
                await self._leases.release(shard)
        except BusError as error:
            self._lost_redis(error)
        finally:
            self._leaving.discard(shard)
            del self._readers[shard]

    async def _read_shard(self, shard: int) -> None:
        # After taking a shard, and after every failure, what was delivered and not acknowledged comes first: it may be
        # a dead archiver's, or our own of which the answer was lost.
        cursor: str | None = FIRST_CURSOR
        while self._may_read(shard):
            try:
                async with self._shards.turn(shard):
                    if not self._may_read(shard):
                        break
                    if cursor is not None:
                        entries, cursor = await self._shards.take_over(shard, cursor)
                    else:
                        entries = await self._shards.read(shard)
                    if entries:
                        await self._writer.archive(entries)
                    del entries  # of what is large nothing is held while the next is waited for
            except BusError as error:
                cursor = FIRST_CURSOR
                if "NOGROUP" in str(error):
                    await self._shards.create_group(shard)
                else:
                    self._lost_redis(error)
                    await asyncio.sleep(REFRESH_S * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the readers

    def _may_read(self, shard: int) -> bool:
        return self._leases.holds(shard) and shard not in self._leaving and not self._stopping

    async def _upkeep(self) -> None:
        while True:
            await asyncio.sleep(UPKEEP_S)
            try:
                await register_event_group(self._bus, self._keys, ARCHIVER_GROUP)
            except BusError as error:
                log.info("upkeep of the event streams put off", error=str(error))
                continue
            for shard in self.shards:  # one whose master is away, or whose key is none, holds up no other
                try:
                    await self._trimmer.trim(shard)
                    await self._shards.forget_dead_consumers(shard)
                except BusError as error:
                    log.info("upkeep of an event stream put off", shard=shard, error=str(error))

    async def _probe_database(self) -> None:
        while True:
            try:
                await self._store.check()
            except StoreError as error:
                log.debug("the database does not answer", error=str(error))
                self._health.set("database", False)
            else:
                self._health.set("database", not self._writer.stalled)
            await asyncio.sleep(PROBE_S)

    def _lost_redis(self, error: BusError) -> None:
        self._health.set("redis", False)
        if self._reachable:
            metrics.REDIS_DISRUPTIONS.labels(service=SERVICE).inc()
            log.warning("Redis is away; nothing is lost, trying again until it is back", error=str(error))
        self._reachable = False
        self._trouble = True

    def _found_redis(self) -> None:
        # Sixteen readers notice one disruption one after the other: it is over when a whole interval had none.
        if self._trouble:
            self._trouble = False
            return
        self._health.set("redis", True)
        if not self._reachable:
            log.info("Redis is back")
        self._reachable = True
