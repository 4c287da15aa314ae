"""Erasing, on both databases: all of a session and nothing else, noted, and not undone by what arrives late."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from support.recorded import STARTED_AT, conversation, recorded, said, started
from voicebus.adapters.database import migrate
from voicebus.adapters.database.erasing import REQUEST, RETENTION, Cutoffs, Erasure, Gone
from voicebus.adapters.database.ingest import Written
from voicebus.adapters.database.partitions import create_partitions
from voicebus.adapters.database.store import TranscriptStore
from voicebus.contracts.envelope import Entry

DAY_MS = 24 * 3600 * 1000
NOW = STARTED_AT + 100 * DAY_MS


def of_tenant(tenant: str, *entries: Entry) -> list[Entry]:
    entries[0].data["tenant"] = tenant
    return list(entries)


def tables(url: str) -> set[str]:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            names = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
            return set(names.scalars())
    finally:
        engine.dispose()


async def test_a_session_goes_with_all_its_rows_and_that_is_noted(store: TranscriptStore) -> None:
    await store.write(recorded(*conversation("s1"), *conversation("s2")))
    erasing = store.erasing
    # 8 events, 4 lines, a turn, and the session.
    await erasing.announce({"s1": 77, "s2": 5})
    assert await erasing.erase({"s1": "local"}, REQUEST, NOW) == {"s1": Gone(14, 77)}
    assert await erasing.announced(["s1", "s2", "s3"]) == {"s2"}
    assert await erasing.left(["s1"]) == 0
    assert await erasing.left(["s2"]) == 14
    assert await store.transcript("s1", tenant="local") is None
    assert await erasing.of_session("s1") == [Erasure("s1", "local", REQUEST, NOW, 14, 77)]


async def test_what_arrives_late_does_not_bring_it_back(store: TranscriptStore) -> None:
    await store.write(recorded(*conversation("s1")[:4]))
    await store.erasing.erase({"s1": "local", "never seen": "local"}, REQUEST, NOW)
    late = recorded(*conversation("s1"), *conversation("never seen"), *conversation("s2"))
    assert (await store.write(late)).new == 8
    assert await store.write(late) == Written(0)
    assert await store.erasing.left(["s1", "never seen"]) == 0
    assert await store.with_gaps() == []


async def test_erasing_again_does_no_harm_and_adds_what_came_back(store: TranscriptStore) -> None:
    await store.write(recorded(*conversation("s1")))
    for _ in range(2):
        await store.erasing.announce({"s1": 5})
        await store.erasing.erase({"s1": "local"}, REQUEST, NOW)
    assert await store.erasing.of_session("s1") == [Erasure("s1", "local", REQUEST, NOW, 14, 10)]


async def test_what_was_announced_again_before_it_was_noted_counts_once(store: TranscriptStore) -> None:
    for size in (7, 10, 3):
        await store.erasing.announce({"s1": size})
    assert await store.erasing.erase({"s1": "local"}, REQUEST, NOW) == {"s1": Gone(0, 10)}
    assert await store.erasing.erase({"s1": "local"}, REQUEST, NOW) == {"s1": Gone(0, 0)}


async def test_of_a_session_whose_recording_alone_was_erased_the_rest_is_still_written(store: TranscriptStore) -> None:
    await store.write(recorded(started("s1")))
    await store.erasing.announce({"s1": 9})
    noted = await store.erasing.note_recordings({"s1": "local", "s2": "local"}, NOW)
    assert noted == {"s1": Gone(0, 9), "s2": Gone(0, 0)}
    assert (await store.write(recorded(*conversation("s1"), *conversation("s2")))).new == 15


async def test_writers_and_an_erasure_at_once_leave_all_or_nothing(database: str) -> None:
    async with TranscriptStore(database) as writer, TranscriptStore(database) as other:
        for number in range(12):
            name = f"s{number}"
            await asyncio.gather(
                writer.write(recorded(*conversation(name)[:3])),
                other.erasing.erase({name: "local"}, REQUEST, NOW),
                writer.write(recorded(*conversation(name)[3:])),
            )
            assert await other.erasing.left([name]) == 0


async def test_what_is_due_is_older_than_its_tenant_keeps_it(store: TranscriptStore) -> None:
    await store.write(recorded(*of_tenant("acme", *conversation("a"))))
    await store.write(recorded(*of_tenant("umbrella", *conversation("b"))))
    await store.write(recorded(*of_tenant("third", *conversation("c"))))
    await store.write(recorded(*of_tenant("acme", *conversation("goes on")[:4])))
    ended = STARTED_AT + 800

    async def due(cutoffs: Cutoffs) -> list[str]:
        found = [known.session for known in await store.erasing.due(cutoffs, limit=10)]
        assert await store.erasing.count(cutoffs) == {
            {"a": "acme", "b": "umbrella", "c": "third", "goes on": "acme"}[name]: 1
            for name in found
            if name != "goes on"
        } | ({"acme": 2} if "goes on" in found else {})
        return found

    assert await due(Cutoffs({})) == []
    assert await due(Cutoffs({"acme": ended, "umbrella": None}, ended)) == []
    assert await due(Cutoffs({"acme": ended + 1, "umbrella": None})) == ["a"]
    assert await due(Cutoffs({"acme": None}, ended + 1)) == ["b", "c"]
    assert await due(Cutoffs({"acme": ended + 3 * DAY_MS})) == ["a", "goes on"], "nothing lasts for two days"


async def test_recordings_are_due_once(store: TranscriptStore) -> None:
    await store.write(recorded(*conversation("s1")))
    cutoffs = Cutoffs({}, NOW)
    assert [known.session for known in await store.erasing.due_recordings(cutoffs, limit=10)] == ["s1"]
    await store.erasing.note_recordings({"s1": "local"}, NOW)
    assert await store.erasing.due_recordings(cutoffs, limit=10) == []
    assert [known.session for known in await store.erasing.due(cutoffs, limit=10)] == ["s1"]


async def test_a_tenants_sessions_before_a_moment_come_in_pages(store: TranscriptStore) -> None:
    await store.write(recorded(*conversation("a"), *conversation("b"), *of_tenant("acme", *conversation("c"))))
    first = await store.erasing.before("local", NOW, limit=1)
    second = await store.erasing.before("local", NOW, limit=1, after=first[-1].session)
    assert [first[0].session, second[0].session] == ["a", "b"]
    assert await store.erasing.before("local", NOW, limit=1, after="b") == []
    assert await store.erasing.before(None, STARTED_AT, limit=9) == []


# --- whole months, on PostgreSQL ------------------------------------------------------------------------


@pytest.fixture
def with_partitions(postgres_database: str) -> str:
    migrate.upgrade(postgres_database)
    engine = create_engine(postgres_database)
    with engine.begin() as connection:
        create_partitions(connection, 202311)
    engine.dispose()
    return postgres_database


async def test_a_month_of_which_everything_is_due_goes_with_its_partitions(with_partitions: str) -> None:
    async with TranscriptStore(with_partitions) as store:
        erasing = store.erasing
        await store.write(recorded(*conversation("s1"), *conversation("s2")))
        assert 202311 in await erasing.months(202402)
        assert await erasing.drop_month(Cutoffs({}, NOW), 202311, NOW) == 26
        assert not tables(with_partitions) & {"events_202311", "items_202311", "turns_202311"}
        # What is left of its sessions goes as all others do, late events included.
        assert (await store.write(recorded(said("s1", 9, "user", "late", start=1)))).new == 1
        names = {known.session: known.tenant for known in await erasing.due(Cutoffs({}, NOW), limit=9)}
        assert await erasing.erase(names, RETENTION, NOW) == {"s1": Gone(3, 0), "s2": Gone(1, 0)}
        assert [one.rows for name in names for one in await erasing.of_session(name)] == [16, 14]
        assert await erasing.left(["s1", "s2"]) == 0


async def test_a_month_with_one_session_that_stays_stays(with_partitions: str) -> None:
    async with TranscriptStore(with_partitions) as store:
        await store.write(recorded(*conversation("s1"), *of_tenant("acme", *conversation("s2"))))
        assert await store.erasing.drop_month(Cutoffs({"acme": None}, NOW), 202311, NOW) == 0
        assert await store.erasing.left(["s1", "s2"]) == 28
        assert await store.erasing.of_session("s1") == []


# --- SQLite's file --------------------------------------------------------------------------------------


async def test_sqlite_has_no_piece_of_it_in_its_files_any_more(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path / 'transcripts.db'}"
    migrate.upgrade(url)

    def found(word: str) -> bool:
        return any(word.encode() in file.read_bytes() for file in tmp_path.iterdir())

    async with TranscriptStore(url) as store:
        await store.write(
            recorded(started("s1"), *(said("s1", 2 + n, "user", f"blackbird {n}", start=n) for n in range(50)))
        )
        await store.write(recorded(*conversation("s2")))
        assert found("blackbird")
        await store.erasing.erase({"s1": "local"}, REQUEST, NOW)
        assert await store.erasing.purge()
        assert not found("blackbird")
        assert found("Paris")
