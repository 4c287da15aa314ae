"""The event streams as the archiver's group reads them: one shard at a time, and its dead letters.

Every method raises `BusError` when Redis is away or refuses. Whoever calls them holds the shard's lease.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.dead_letters import write_dead_letter
from voicebus.adapters.redis.portions import FIRST, Portion
from voicebus.adapters.redis.scripts import script
from voicebus.contracts.streams import ARCHIVER_GROUP, EVENTS_QUEUE, Keys
from voicebus.errors import BusError
from voicebus.telemetry import metrics

SERVICE: Final = "transcript-archiver"
FIRST_CURSOR: Final = "0-0"
BLOCK_MS: Final = 500
CONSUMER_IDLE_MS: Final = 60_000

# Sixteen shards bring a batch of the writer with it; of one shard a pod has room for as many large ones.
_MANY: Final = 128

# Below redis-py's limit of connections in a pool; shards beyond it take turns.
_BLOCKING_READS: Final = 64

# A script, because deleting a consumer that has just been given an entry would lose the entry.
_FORGET: Final = script(
    "forget",
    """
local forgotten = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local info = {}
  for i = 1, #consumer, 2 do info[consumer[i]] = consumer[i + 1] end
  if info.pending == 0 and info.idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], info.name)
    forgotten = forgotten + 1
  end
end
return forgotten
""",
)


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One entry of a shard's stream, as it was read."""

    shard: int
    id: str
    fields: Mapping[str, str]


class EventShards:
    """The archiver group's view of the event streams. `consumer` names this incarnation of the process."""

    def __init__(self, bus: RedisConnection, keys: Keys, consumer: str) -> None:
        self._bus = bus
        self._keys = keys
        self._consumer = consumer
        self._portions = defaultdict[int, Portion](lambda: Portion(keys.event_shards))
        self._reads = asyncio.Semaphore(_BLOCKING_READS)
        # Held by the one shard, `_alone`, that asks for more than a few: behind small entries large ones may come, and
        # of all shards at once those would be more than a pod has room for.
        self._many = asyncio.Lock()
        self._alone: int | None = None

    async def create_group(self, shard: int) -> None:
        """Create the group at the stream's beginning, so that nothing recorded before is passed over."""
        try:
            await self._bus.call("XGROUP", "CREATE", self._keys.events(shard), ARCHIVER_GROUP, "0", "MKSTREAM")
        except BusError as error:
            if "BUSYGROUP" not in str(error):
                raise

    @asynccontextmanager
    async def turn(self, shard: int) -> AsyncIterator[None]:
        """Around reading entries and archiving them. It may have to be waited for: the shard may be another's then."""
        if self._portions[shard].count > FIRST:
            await self._many.acquire()
            self._alone = shard
        try:
            yield
        finally:
            self._let_others(shard)

    def _count(self, shard: int) -> int:
        return min(self._portions[shard].count, _MANY if self._alone == shard else FIRST)

    def _let_others(self, shard: int) -> None:
        if self._alone == shard:
            self._alone = None
            self._many.release()

    async def take_over(self, shard: int, cursor: str) -> tuple[list[StreamEntry], str | None]:
        """Entries delivered before and never acknowledged, whoever they were delivered to, a `Portion` at a time.

        Start with cursor `FIRST_CURSOR`; go on with the one returned until that is None.
        """
        if cursor == FIRST_CURSOR:
            self._portions.pop(shard, None)
        count = self._count(shard)
        reply = await self._bus.call(
            "XAUTOCLAIM", self._keys.events(shard), ARCHIVER_GROUP, self._consumer, 0, cursor, "COUNT", count
        )
        entries = self._entries(shard, reply[1])
        if entries:
            metrics.MESSAGES_CLAIMED.labels(service=SERVICE, cause="shard_taken").inc(len(entries))
            metrics.MESSAGES_REDELIVERED.labels(service=SERVICE).inc(len(entries))
        return entries, None if reply[0] == FIRST_CURSOR else reply[0]

    async def read(self, shard: int) -> list[StreamEntry]:
        """New entries, a `Portion` at most, and a few where it is not this shard's `turn`; empty after `BLOCK_MS`."""
        group = ("XREADGROUP", "GROUP", ARCHIVER_GROUP, self._consumer, "COUNT", self._count(shard))
        new = ("STREAMS", self._keys.events(shard), ">")
        reply = await self._bus.call(*group, *new) if self._alone == shard else None
        if not reply:
            self._let_others(shard)
            async with self._reads:
                reply = await self._bus.read_blocking(*group[:-1], self._count(shard), "BLOCK", BLOCK_MS, *new)
        return self._entries(shard, reply[0][1] if reply else [])

    async def acknowledge(self, entries: Sequence[StreamEntry]) -> None:
        """Acknowledge entries of any shards, in one pipeline."""
        ids: dict[int, list[str]] = {}
        for entry in entries:
            ids.setdefault(entry.shard, []).append(entry.id)
        await asyncio.gather(
            *(self._bus.call("XACK", self._keys.events(shard), ARCHIVER_GROUP, *some) for shard, some in ids.items())
        )

    async def dead_letter(self, entry: StreamEntry, *, reason: str, error: str) -> None:
        """Copy an entry to the dead letters with its reason. Acknowledge it afterwards."""
        stream = self._keys.events(entry.shard)
        pending = await self._bus.call("XPENDING", stream, ARCHIVER_GROUP, entry.id, entry.id, 1, parse_detail=True)
        deliveries = int(pending[0]["times_delivered"]) if pending else 1
        await write_dead_letter(
            self._bus, self._keys.dead(EVENTS_QUEUE), entry.fields, stream=stream, entry_id=entry.id,
            deliveries=deliveries, reason=reason, error=error,
        )  # fmt: skip
        metrics.MESSAGES_DEADLETTERED.labels(service=SERVICE, reason=reason).inc()

    async def forget_dead_consumers(self, shard: int) -> None:
        """Remove consumers without work that have long been silent; each restart of an archiver leaves one."""
        await self._bus.script(_FORGET, [self._keys.events(shard)], ARCHIVER_GROUP, CONSUMER_IDLE_MS)

    def _entries(self, shard: int, raw: Sequence[tuple[str, Mapping[str, str] | None]]) -> list[StreamEntry]:
        # An entry deleted while it was pending has no fields; nothing of it is left to keep.
        entries = [StreamEntry(shard, entry_id, fields) for entry_id, fields in raw if fields]
        portion = self._portions[shard]
        portion.took(entry.fields for entry in entries)
        if portion.count >= len(entries):  # else they were more than its share
            self._let_others(shard)
        return entries
