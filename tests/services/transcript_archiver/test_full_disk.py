"""A disk that is really full: nothing is acknowledged or given up, and all is there once there is room again."""

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from services.transcript_archiver.conftest import Bus, StartArchiver
from services.transcript_archiver.test_archiver import WORDS, words
from support.recorded import conversation
from support.servers import PostgresServer
from support.small_disk import SmallDisk, small_disk
from support.waiting import wait_until
from voicebus.adapters.database import migrate
from voicebus.adapters.database.store import TranscriptStore
from voicebus.telemetry.health import Health

pytestmark = pytest.mark.timeout(180)

Disk = Callable[[Path], AbstractContextManager[tuple[SmallDisk, str]]]

_SESSIONS = 40


@contextmanager
def _sqlite(tmp_path: Path) -> Iterator[tuple[SmallDisk, str]]:
    folder = tmp_path / "disk"
    folder.mkdir()
    with small_disk(folder, 8) as disk:
        yield disk, f"sqlite:///{folder / 'transcripts.db'}"


@contextmanager
def _postgresql(_: Path) -> Iterator[tuple[SmallDisk, str]]:
    server = PostgresServer()
    with small_disk(server.folder, 200) as disk, server:
        yield disk, server.url


@pytest.mark.parametrize("on", [_sqlite, _postgresql])
async def test_a_full_disk_of_the_database_stops_acknowledging_and_loses_nothing(
    bus: Bus, start_archiver: StartArchiver, tmp_path: Path, on: Disk
) -> None:
    with on(tmp_path) as (disk, url):
        migrate.upgrade(url)
        async with TranscriptStore(url) as store, start_archiver(on=store) as running:
            await bus.record(*conversation("before"))
            await bus.wait_idle()
            disk.fill()
            await _nothing_is_acknowledged(bus, running.health)
            disk.make_room()
            await _all_is_there(bus, store)
            await wait_until(lambda: running.health.ready, description="readiness to come back")


async def test_a_limit_for_the_size_of_files_does_no_harm_either(
    bus: Bus, start_archiver: StartArchiver, tmp_path: Path
) -> None:
    database = tmp_path / "transcripts.db"
    url = f"sqlite:///{database}"
    migrate.upgrade(url)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with TranscriptStore(url) as store, start_archiver(on=store) as running:
        await bus.record(*conversation("before"))
        await bus.wait_idle()
        try:
            # Of the write-ahead log, too, which begins anew and grows as far as it has to.
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
            await _nothing_is_acknowledged(bus, running.health)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        await _all_is_there(bus, store)


async def _nothing_is_acknowledged(bus: Bus, health: Health) -> None:
    entries = 0
    for number in range(_SESSIONS):
        told = conversation(f"during {number}")
        await bus.record(*told)
        entries += len(told)
    await wait_until(lambda: not health.ready, description="readiness to go")
    await wait_until(bus.pending, description="the entries to be delivered")
    # A few may find room in files that were there before; what is acknowledged is looked for at the end.
    assert await bus.unfinished() > entries // 2


async def _all_is_there(bus: Bus, store: TranscriptStore) -> None:
    await bus.wait_idle()
    for session in ("before", *(f"during {number}" for number in range(_SESSIONS))):
        assert await words(store, session) == WORDS
    assert await bus.dead_letters() == []
