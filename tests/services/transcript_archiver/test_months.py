"""Of all archivers the one that reads shard 0 makes the partitions of the coming months."""

import asyncio
from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine, text

from support.waiting import wait_until
from voicebus.adapters.database import migrate
from voicebus.adapters.database.store import TranscriptStore
from voicebus.errors import ContractError, StoreError
from voicebus_services.transcript_archiver.months import Months


class InMay2031:
    """Stands for the cluster's clock."""

    def at_ms(self) -> int:
        return round(datetime(2031, 5, 31, 23, 59, tzinfo=UTC).timestamp() * 1000)

    def monotonic(self) -> float:
        raise AssertionError


def months_of(database: str, table: str) -> set[str]:
    engine = create_engine(database)
    with engine.connect() as connection:
        query = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(:table)")
        found = set(connection.execute(query, {"table": table}).scalars())
    engine.dispose()
    return found


async def test_the_reader_of_the_first_shard_makes_them_and_tries_again(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate.upgrade(postgres_database)
    shards, asked = {1, 2}, 0

    def held() -> set[int]:
        nonlocal asked
        asked += 1
        return shards

    async with TranscriptStore(postgres_database) as store:
        looks, looking, prepare = 0, False, store.prepare_months

        async def fails_once(month: int) -> list[str]:
            nonlocal looks, looking
            looks += 1
            if looks == 1:
                raise StoreError("the database is away")
            if looks == 2:
                raise ContractError("a row of the month has come meanwhile", reason="rejected_by_database")
            looking = True
            made = await prepare(month)
            looking = False
            return made

        monkeypatch.setattr(store, "prepare_months", fails_once)
        months = Months(store, InMay2031(), held, first_s=0.01, every_s=0.01)
        task = asyncio.create_task(months.run(), name="months")
        try:
            await wait_until(lambda: asked > 5, description="some looks, if it were its turn")
            assert looks == 0
            shards.add(0)
            await wait_until(lambda: looks > 3, description="two more looks")
            shards.clear()
            # A look that is cancelled goes on in its thread, with a connection that nobody would close.
            await wait_until(lambda: not looking, description="the last look to end")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    wanted = {"items_203105", "items_203106", "items_203107"}
    assert wanted <= await asyncio.to_thread(months_of, postgres_database, "items")


async def test_sqlite_has_no_months(tmp_path: object) -> None:
    url = f"sqlite:///{tmp_path}/archive.db"
    migrate.upgrade(url)
    async with TranscriptStore(url) as store:
        assert await store.prepare_months(203105) == []
