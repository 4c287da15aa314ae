"""A bus, a migrated database, and archivers on them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.waiting import wait_until
from voicebus.adapters.database import migrate
from voicebus.adapters.database.store import TranscriptStore
from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.config import register_event_group
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import ARCHIVER_GROUP, Keys
from voicebus.telemetry.health import Health
from voicebus_services.privacy.events import Rules
from voicebus_services.privacy.policy import NO_POLICIES
from voicebus_services.transcript_archiver.archiver import Archiver
from voicebus_services.transcript_archiver.gaps import Gaps
from voicebus_services.transcript_archiver.trimming import Retention


@dataclass
class Bus:
    """The event streams as their writers and their operators see them."""

    connection: RedisConnection
    keys: Keys

    async def record(self, *entries: Entry) -> None:
        await asyncio.gather(*(self.add(self.keys.event_shard(entry.session), entry.fields()) for entry in entries))

    async def add(self, shard: int, fields: dict[str, str]) -> str:
        flat = [part for pair in fields.items() for part in pair]
        entry_id: str = await self.connection.call("XADD", self.keys.events(shard), "*", *flat)
        return entry_id

    async def pending(self) -> int:
        """Entries delivered and not acknowledged, over all shards."""
        return sum([group["pending"] for group in await self._groups()])

    async def unfinished(self) -> int:
        """Entries not acknowledged, delivered or not, over all shards."""
        return sum([group["pending"] + group["lag"] for group in await self._groups()])

    async def idle(self) -> bool:
        streams = [self.keys.events(shard) for shard in range(self.keys.event_shards)]
        groups = await self._groups()  # lag and pending in one look: an entry goes from one to the other
        begun = len(groups) >= await self.connection.call("EXISTS", *streams)
        return begun and all(group["lag"] == 0 and group["pending"] == 0 for group in groups)

    async def wait_idle(self) -> None:
        await wait_until(self.idle, description="every entry to be acknowledged", timeout=20)

    async def dead_letters(self) -> list[dict[str, str]]:
        letters = await self.connection.call("XRANGE", self.keys.dead("events"), "-", "+")
        return [fields for _, fields in letters]

    async def _groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = []
        for shard in range(self.keys.event_shards):
            if await self.connection.call("EXISTS", self.keys.events(shard)):
                groups += await self.connection.call("XINFO GROUPS", self.keys.events(shard))
        return groups


@dataclass
class Running:
    """An archiver that runs; `stop` ends it as SIGTERM would, `kill` as SIGKILL would."""

    archiver: Archiver
    health: Health
    _stop: asyncio.Event
    _task: asyncio.Task[None] = field(repr=False)

    async def stop(self) -> None:
        self._stop.set()
        await self._task

    async def kill(self) -> None:
        """It releases nothing and acknowledges nothing any more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


StartArchiver = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
async def bus(redis_url: str, stream_prefix: str) -> AsyncIterator[Bus]:
    async with await connect(redis_url) as connection:
        yield Bus(connection, Keys(stream_prefix, event_shards=4))


@pytest.fixture
def database(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'transcripts.db'}"
    migrate.upgrade(url)
    return url


@pytest.fixture
async def store(database: str) -> AsyncIterator[TranscriptStore]:
    async with TranscriptStore(database) as store:
        yield store


@asynccontextmanager
async def _archiving(
    url: str, keys: Keys, store: TranscriptStore, name: str, drain_s: float, rules: Rules
) -> AsyncIterator[Running]:
    async with await connect(url) as connection:
        await register_event_group(connection, keys, ARCHIVER_GROUP)
        health = Health("redis", "database")
        clock = RedisClock(connection)
        gaps = Gaps(store, connection, keys, clock, lambda: archiver.shards)
        retention = Retention(24 * 3600 * 1000, 0)
        archiver = Archiver(
            connection, keys, store, clock, health, me=name, retention=retention, rules=rules, on_refused=gaps.refused
        )
        stop = asyncio.Event()
        running = Running(
            archiver, health, stop, asyncio.create_task(archiver.run(stop, drain_s=drain_s), name=f"archiver-{name}")
        )
        filling = asyncio.create_task(gaps.run(), name=f"gaps-{name}")
        try:
            yield running
        finally:
            filling.cancel()
            await asyncio.gather(filling, return_exceptions=True)
            await running.kill()


@pytest.fixture
def start_archiver(redis_url: str, bus: Bus, store: TranscriptStore) -> StartArchiver:
    """`async with start_archiver("a") as running:`; another store or Redis address by keyword."""

    def start(
        name: str = "archiver-1",
        *,
        on: TranscriptStore | None = None,
        url: str | None = None,
        drain_s: float = 10.0,
        rules: Rules = NO_POLICIES.redaction,
    ) -> AbstractAsyncContextManager[Running]:
        return _archiving(url or redis_url, bus.keys, on or store, name, drain_s, rules)

    return start
