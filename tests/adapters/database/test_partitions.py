"""Monthly partitions on PostgreSQL: made beforehand, and never missed."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, create_engine, text

from support.recorded import conversation, recorded
from voicebus.adapters.database import migrate
from voicebus.adapters.database.partitions import create_partitions, months_from
from voicebus.adapters.database.store import TranscriptStore


@pytest.fixture
def connection(postgres_database: str) -> Iterator[Connection]:
    migrate.upgrade(postgres_database)
    engine = create_engine(postgres_database)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_months_go_over_the_year() -> None:
    assert list(months_from(202611)) == [202611, 202612, 202701]


def test_a_migration_makes_this_month_and_the_next_two(connection: Connection) -> None:
    query = text("SELECT inhparent::regclass::text, count(*) FROM pg_inherits GROUP BY 1")
    tables = {name: count for name, count in connection.execute(query) if name in ("events", "items", "turns")}
    assert tables == {"events": 4, "items": 4, "turns": 4}, "three months and the default"


def test_partitions_are_made_once(connection: Connection) -> None:
    made = create_partitions(connection, 203011)
    assert sorted(made) == sorted(f"{t}_{m}" for t in ("events", "items", "turns") for m in (203011, 203012, 203101))
    assert create_partitions(connection, 203011) == []


async def test_a_month_without_a_partition_is_kept_all_the_same(connection: Connection, postgres_database: str) -> None:
    async with TranscriptStore(postgres_database) as store:
        await store.write(recorded(*conversation("s1")))  # of 2023
        assert connection.execute(text("SELECT count(*) FROM events_default")).scalar() == 8
        connection.commit()
        assert "events_202311" not in create_partitions(connection, 202311)
        connection.commit()
        assert await store.transcript("s1", tenant="local") is not None


async def test_forgetting_a_session_forgets_all_of_it(connection: Connection, postgres_database: str) -> None:
    async with TranscriptStore(postgres_database) as store:
        await store.write(recorded(*conversation("s1"), *conversation("s2")))
    connection.execute(text("DELETE FROM sessions WHERE session = 's1'"))
    for table in ("events", "items", "turns"):
        assert set(connection.execute(text(f"SELECT session FROM {table}")).scalars()) == {"s2"}
