"""Migrations, up and down, on both databases."""

import asyncio
import re
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

from support.recorded import conversation, recorded
from support.waiting import wait_until
from voicebus.adapters.database import migrate
from voicebus.adapters.database.ingest import Written
from voicebus.adapters.database.schema import REVISION, metadata
from voicebus.adapters.database.store import TranscriptStore
from voicebus.errors import SettingsError, StoreError, UsageError


def tables(url: str) -> set[str]:
    engine = create_engine(url)
    try:
        return set(inspect(engine).get_table_names())
    finally:
        engine.dispose()


def indexes(url: str, table: str) -> set[str | None]:
    engine = create_engine(url)
    try:
        return {index["name"] for index in inspect(engine).get_indexes(table)}
    finally:
        engine.dispose()


def is_ours(name: str | None, kind: str, _: object) -> bool:
    """No partition, and nothing of the search, which follows the lines by itself (migration 0004)."""
    if name in ("words", "item_words") or (name or "").startswith("item_words_"):
        return False
    return kind != "table" or not re.search(r"_(\d{6}|default)$", name or "")


def test_up_makes_the_schema_that_the_store_uses(empty_database: str) -> None:
    assert migrate.upgrade(empty_database) == REVISION
    engine = create_engine(empty_database)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": is_ours})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_up_twice_changes_nothing(empty_database: str) -> None:
    migrate.upgrade(empty_database)
    assert migrate.upgrade(empty_database) == REVISION


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_hold_every_text_is_refused_before_anything_is_made(
    postgres_database: str, encoding: str
) -> None:
    server, _, name = postgres_database.replace("postgresql+psycopg://", "postgresql://").rpartition("/")
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        # Away with the one in Unicode: the fixture drops what bears its name.
        connection.execute(f'DROP DATABASE "{name}"'.encode())
        made = f"TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
        connection.execute(f'CREATE DATABASE "{name}" {made}'.encode())
    with pytest.raises(StoreError, match=rf"has the encoding {encoding}, .* ENCODING 'UTF8'"):
        migrate.upgrade(postgres_database)
    assert tables(postgres_database + "?client_encoding=utf8") == set()


def test_down_removes_everything_and_up_makes_it_again(empty_database: str) -> None:
    migrate.upgrade(empty_database)
    assert migrate.downgrade(empty_database, revision="base") == "base"
    assert tables(empty_database) <= {"alembic_version"}
    migrate.upgrade(empty_database)
    assert {"sessions", "events", "items"} <= tables(empty_database)


async def test_what_was_recorded_before_there_were_tenants_stays_and_is_this_machines(empty_database: str) -> None:
    migrate.upgrade(empty_database)
    async with TranscriptStore(empty_database) as store:
        await store.write(recorded(*conversation("s1")))
    assert migrate.downgrade(empty_database, revision="0001") == "0001"
    migrate.upgrade(empty_database)
    async with TranscriptStore(empty_database) as store:
        assert await store.transcript("s1", tenant="local") is not None
        assert await store.transcript("s1", tenant="acme") is None


async def test_what_was_recorded_before_there_were_months_stays_up_and_down(empty_database: str) -> None:
    migrate.upgrade(empty_database)
    async with TranscriptStore(empty_database) as store:
        await store.write(recorded(*conversation("s1"), *conversation("s2")))
        before = await store.transcript("s1", tenant="local")
        assert migrate.downgrade(empty_database, revision="0002") == "0002"
        assert "turns" not in tables(empty_database)
        migrate.upgrade(empty_database)
        assert await store.transcript("s1", tenant="local") == before
        assert await store.write(recorded(*conversation("s1"))) == Written(0)
    engine = create_engine(empty_database)
    with engine.connect() as connection:
        kept = connection.exec_driver_sql("SELECT DISTINCT month FROM events").scalars()
        assert list(kept) == [202311]
    engine.dispose()


async def test_lines_stay_while_their_index_comes_and_goes(empty_database: str) -> None:
    migrate.upgrade(empty_database)
    async with TranscriptStore(empty_database) as store:
        await store.write(recorded(*conversation("s1")))
        before = await store.transcript("s1", tenant="local")
        assert migrate.downgrade(empty_database, revision="0006") == "0006"
        assert "announced" not in tables(empty_database)
        assert indexes(empty_database, "items").isdisjoint({"ix_items_kind"})
        migrate.upgrade(empty_database)
        assert "ix_items_kind" in indexes(empty_database, "items")
        assert await store.transcript("s1", tenant="local") == before


async def test_whose_an_event_was_is_unknown_of_what_was_recorded_before_that_was_kept(empty_database: str) -> None:
    migrate.upgrade(empty_database)
    async with TranscriptStore(empty_database) as store:
        await store.write(recorded(*conversation("s1")))
        before = await store.transcript("s1", tenant="local")
        assert epochs(empty_database) == ({1}, {1})
        assert migrate.downgrade(empty_database, revision="0007") == "0007"
        migrate.upgrade(empty_database)
        assert epochs(empty_database) == ({0}, {0})
        assert await store.transcript("s1", tenant="local") == before
        assert await store.write(recorded(*conversation("s1"), *conversation("s2"))) == Written(8)
    assert epochs(empty_database) == ({0, 1}, {0, 1})


async def test_an_archiver_of_the_release_before_goes_on_with_a_database_that_knows_owners(database: str) -> None:
    """Its statements name no column that it does not know."""
    engine = create_engine(database)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO sessions (session, month, status, started_at, last_seq) VALUES ('s1', 202311, 'active', 1, 1)"
        )
        connection.exec_driver_sql(
            "INSERT INTO events (session, month, seq, type, at, data) VALUES ('s1', 202311, 1, 'error', 1, '{}')"
        )
    engine.dispose()
    assert epochs(database) == ({0}, {0})


async def test_a_migration_waits_for_whoever_is_in_the_midst_of_reading_and_holds_nobody_up_for_it(
    postgres_database: str,
) -> None:
    migrate.upgrade(postgres_database, revision="0007")
    engine = create_engine(postgres_database)
    waiting = "SELECT count(*) FROM pg_locks JOIN pg_database ON database = pg_database.oid"
    waiting += " WHERE datname = current_database() AND NOT granted"
    try:
        with engine.connect() as looking, engine.connect() as reader:
            looking.execution_options(isolation_level="AUTOCOMMIT")
            reader.exec_driver_sql("SELECT count(*) FROM sessions")
            migrated = asyncio.create_task(asyncio.to_thread(migrate.upgrade, postgres_database))
            await wait_until(lambda: looking.exec_driver_sql(waiting).scalar(), description="the migration to wait")
            reader.exec_driver_sql("SELECT count(*) FROM events")
            reader.rollback()
            assert await migrated == REVISION
    finally:
        engine.dispose()


def epochs(url: str) -> tuple[set[int], set[int]]:
    """Those of the sessions, and of the events."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            found = [connection.exec_driver_sql(f"SELECT epoch FROM {name}") for name in ("sessions", "events")]
            return set(found[0].scalars()), set(found[1].scalars())
    finally:
        engine.dispose()


def test_the_release_names_its_newest_migration() -> None:
    scripts = ScriptDirectory(str(Path(migrate.__file__).parent / "migrations"))
    assert scripts.get_heads() == [REVISION]


async def test_a_database_that_is_not_migrated_is_one_sentence_naming_the_command(empty_database: str) -> None:
    async with TranscriptStore(empty_database) as store:
        with pytest.raises(StoreError, match=r"not migrated; run `voicebus migrate`"):
            await store.check()


async def test_a_check_leaves_no_sqlite_file_behind(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    async with TranscriptStore(f"sqlite:///{path}") as store:
        with pytest.raises(StoreError, match="not migrated"):
            await store.check()
    assert not path.exists()


def migrated_by_a_newer_release(url: str, since: str) -> None:
    """As if a release had migrated it that serves others from `since` on."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        connection.exec_driver_sql(f"UPDATE compatibility SET since = '{since}'")
    engine.dispose()


async def test_a_newer_database_that_only_had_things_added_is_used_and_left_as_it_is(database: str) -> None:
    migrated_by_a_newer_release(database, since=REVISION)
    async with TranscriptStore(database) as store:
        await store.check()
        await store.write(recorded(*conversation("s1")))
        assert await store.transcript("s1", tenant="local") is not None
    assert migrate.upgrade(database) == "9999"
    assert migrate.move(database, revision="head", down=False) == "9999", (
        "what the job of a chart that is gone back to does"
    )


async def test_a_newer_database_that_serves_newer_releases_alone_is_refused(database: str) -> None:
    migrated_by_a_newer_release(database, since="9998")
    async with TranscriptStore(database) as store:
        with pytest.raises(StoreError, match=rf"serves releases from migration 9998 on; this one is of {REVISION}"):
            await store.check()
    for down in (False, True):
        with pytest.raises(StoreError, match=rf"serves releases from migration 9998 on; this one is of {REVISION}"):
            migrate.move(database, revision="head", down=down)
        with pytest.raises(StoreError, match=r"at migration 9999, which this release does not know: go down by"):
            migrate.move(database, revision="0005", down=down)


async def test_an_older_database_is_refused_with_the_command_that_helps(database: str) -> None:
    migrate.downgrade(database, revision="0005")
    async with TranscriptStore(database) as store:
        with pytest.raises(StoreError, match=rf"at migration 0005, this release needs {REVISION}; .*voicebus migrate"):
            await store.check()


def test_a_database_is_moved_up_and_where_that_is_allowed_down(empty_database: str) -> None:
    assert migrate.move(empty_database, revision="0003", down=False) == "0003"
    assert migrate.move(empty_database, revision="head", down=False) == REVISION
    with pytest.raises(UsageError, match=rf"at {REVISION}, and going down to 0004 removes .*--yes"):
        migrate.move(empty_database, revision="0004", down=False)
    assert migrate.move(empty_database, revision="0004", down=True) == "0004"
    assert migrate.move(empty_database, revision="base", down=True) == "base"
    with pytest.raises(UsageError, match=r"'7' was read; base, 0001, .*or head is allowed"):
        migrate.move(empty_database, revision="7", down=True)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://user:x@host:s3cret/name",
        "postgresql+asyncpg://user:s3cret@host/name",
        "mysql://user:s3cret@host/name",
        "sqlite://",
        "sqlite:///:memory:",
        "no address s3cret",
    ],
)
def test_an_address_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SettingsError, match="VOICEBUS_DATABASE_URL") as refused:
        migrate.upgrade(url)
    assert "s3cret" not in str(refused.value)


def test_an_unreachable_database_is_one_sentence_without_the_password() -> None:
    with pytest.raises(
        StoreError, match=r"^the database 127\.0\.0\.1:1/calls failed: .*VOICEBUS_DATABASE_URL"
    ) as failed:
        migrate.upgrade("postgresql+psycopg://user:s3cret@127.0.0.1:1/calls")
    assert "s3cret" not in str(failed.value)
    assert "\n" not in str(failed.value)


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="unable to open database file"):
        migrate.upgrade(f"sqlite:///{tmp_path / 'none' / 'x.db'}")
