"""Retention and erasing as a whole: rows and recordings, by tenant, with a last look that finds nothing."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from support.recorded import STARTED_AT, conversation, recorded
from voicebus.adapters.database import migrate
from voicebus.adapters.database.erasing import REQUEST
from voicebus.adapters.database.store import TranscriptStore
from voicebus.adapters.recordings.storage import RecordingStorage, folder, segment_folder
from voicebus.contracts.envelope import Entry
from voicebus.errors import StoreError
from voicebus.telemetry import metrics
from voicebus_services.privacy.eraser import Eraser
from voicebus_services.privacy.policy import Policies, read_policies
from voicebus_services.privacy.retention import Retention

DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def database(empty_database: str) -> str:
    migrate.upgrade(empty_database)
    return empty_database


@pytest.fixture
def storage(tmp_path: Path) -> RecordingStorage:
    return RecordingStorage.at(f"file://{tmp_path / 'recordings'}")


def locking(storage: RecordingStorage) -> Callable[[str, str], Awaitable[int]]:
    """Erases what the storage holds but for the recording of acme-0."""
    erase = storage.erase

    async def locked(tenant: str, session: str) -> int:
        if session == "acme-0":
            raise StoreError("the object is locked")
        return await erase(tenant, session)

    return locked


def policies(tmp_path: Path, **content: object) -> Policies:
    file = tmp_path / "privacy.json"
    file.write_text(json.dumps(content))
    return read_policies(file)


def call(session: str, tenant: str, days: int) -> list[Entry]:
    """One that ended so many days after the others' beginning."""
    entries = [Entry(**{name: getattr(each, name) for name in each.__struct_fields__} | {"at": each.at + days * DAY_MS})
               for each in conversation(session)]  # fmt: skip
    entries[0].data["tenant"] = tenant
    return entries


async def fill(store: TranscriptStore, storage: RecordingStorage) -> None:
    for tenant in ("acme", "other"):
        for days in (0, 50, 95):
            session = f"{tenant}-{days}"
            await store.write(recorded(*call(session, tenant, days)))
            await storage.put(f"{folder(tenant, session)}/recording.ogg", b"x" * 10)


def kept(tmp_path: Path) -> set[str]:
    return {path.parent.name for path in (tmp_path / "recordings").rglob("recording.ogg")}


async def test_each_tenants_sessions_go_when_it_does_not_keep_them_any_longer(
    database: str, storage: RecordingStorage, tmp_path: Path
) -> None:
    rules = policies(tmp_path, default={"keep": "90d"}, tenants={"acme": {"keep": "30d", "keep_recordings": "3d"}})
    async with TranscriptStore(database) as store:
        await fill(store, storage)

        def now_ms() -> int:
            return STARTED_AT + 100 * DAY_MS

        job = Retention(store.erasing, Eraser(store, storage), rules, now_ms)
        assert await job.due() == {"acme": 2, "other": 1}
        done = await job.run()
        assert (done.sessions, done.recordings, done.left) == ({"acme": 2, "other": 1}, {"acme": 1}, {})
        assert (done.rows, done.recording_bytes) == (3 * 14, 40)
        assert await job.due() == {}
        assert kept(tmp_path) == {"other-50", "other-95"}
        assert await store.transcript("acme-95", tenant="acme") is not None
        assert metrics.RETENTION_LAST_SUCCESS._value.get() == now_ms() / 1000
        # A gateway that had been cut off from the storage writes what it still had.
        await storage.put(f"{segment_folder('acme', 'acme-0', 1, 0)}/00000001", b"late")
        again = await job.run()
        assert (again.sessions, again.rows, again.recording_bytes) == ({}, 0, 4)
        assert (await storage.find("acme", "acme-0")).segments == ()


async def test_without_a_storage_rows_go_all_the_same(database: str, tmp_path: Path, storage: RecordingStorage) -> None:
    async with TranscriptStore(database) as store:
        await fill(store, storage)
        rules = policies(tmp_path, default={"keep": "1d", "keep_recordings": "1d"})
        done = await Retention(store.erasing, Eraser(store, None), rules, lambda: STARTED_AT + 100 * DAY_MS).run()
        assert (sum(done.sessions.values()), done.recording_bytes, done.left) == (6, 0, {})


async def test_where_a_recording_cannot_be_erased_its_session_stays_and_goes_the_next_time(
    database: str, tmp_path: Path, storage: RecordingStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with TranscriptStore(database) as store:
        await fill(store, storage)
        job = Retention(
            store.erasing, Eraser(store, storage), policies(tmp_path, default={"keep": "1d"}),
            lambda: STARTED_AT + 100 * DAY_MS,
        )  # fmt: skip
        with monkeypatch.context() as away:

            async def fails(*_: object) -> int:
                raise StoreError("the storage is away")

            away.setattr(storage, "erase", fails)
            with pytest.raises(StoreError, match="the storage is away"):
                await job.run()
            assert sum((await job.due()).values()) == 6, "their places are known by their rows alone"
        await job.run()
        assert await job.due() == {}
        assert kept(tmp_path) == set()


async def test_behind_a_recording_that_cannot_be_erased_the_others_are_waited_for(
    database: str, storage: RecordingStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    async def erase(tenant: str, session: str) -> int:
        if session == "bad":
            raise StoreError("the storage is away")
        for _ in range(20):
            await asyncio.sleep(0)
        ended.append(session)
        return 0

    monkeypatch.setattr(storage, "erase", erase)
    async with TranscriptStore(database) as store:
        done = await Eraser(store, storage).erase(dict.fromkeys(("bad", "a", "b"), "acme"), REQUEST, STARTED_AT)
    assert ended == ["a", "b", "a", "b"], "and are looked for once more"
    assert [one.session for one in done.erased] == ["a", "b"]
    assert {session: str(why) for session, why in done.failed.items()} == {"bad": "the storage is away"}


async def test_the_bytes_of_a_recording_are_noted_though_another_cannot_be_erased(
    database: str, storage: RecordingStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with TranscriptStore(database) as store:
        await fill(store, storage)
        names = dict.fromkeys(("acme-0", "acme-50"), "acme")
        with monkeypatch.context() as away:
            away.setattr(storage, "erase", locking(storage))
            first = await Eraser(store, storage).erase(names, REQUEST, STARTED_AT)
        assert [(one.session, one.recording_bytes) for one in first.erased] == [("acme-50", 10)]
        await Eraser(store, storage).erase(names, REQUEST, STARTED_AT)
        noted = [one for name in names for one in await store.erasing.of_session(name)]
        assert [(one.session, one.rows, one.recording_bytes) for one in noted] == [
            ("acme-0", 14, 10),
            ("acme-50", 14, 10),
        ]


async def test_the_bytes_of_a_recording_are_noted_by_another_process_though_the_database_failed_when_it_was_erased(
    database: str, storage: RecordingStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with TranscriptStore(database) as store:
        await fill(store, storage)
        with monkeypatch.context() as away:

            async def fails(*_: object) -> dict[str, int]:
                raise StoreError("the database is away")

            away.setattr(store.erasing, "erase", fails)
            with pytest.raises(StoreError, match="the database is away"):
                await Eraser(store, storage).erase({"acme-0": "acme"}, REQUEST, STARTED_AT)
        assert "acme-0" not in kept(tmp_path)
    async with TranscriptStore(database) as store:
        await Eraser(store, storage).erase({"acme-0": "acme"}, REQUEST, STARTED_AT)
        (noted,) = await store.erasing.of_session("acme-0")
        assert (noted.rows, noted.recording_bytes) == (14, 10)


async def test_a_recording_that_cannot_be_erased_keeps_nobody_elses(
    database: str, tmp_path: Path, storage: RecordingStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    erase = storage.erase

    async def locked(tenant: str, session: str) -> int:
        if session == "acme-0":  # the oldest, which is always due first
            raise StoreError("the object is locked")
        return await erase(tenant, session)

    monkeypatch.setattr(storage, "erase", locking(storage))
    async with TranscriptStore(database) as store:
        await fill(store, storage)
        rules = policies(tmp_path, default={"keep": "1d"})
        done = await Retention(store.erasing, Eraser(store, storage), rules, lambda: STARTED_AT + 100 * DAY_MS).run()
        assert (sum(done.sessions.values()), done.left) == (5, {"acme": 1})
        assert kept(tmp_path) == {"acme-0"}
        assert await store.transcript("acme-0", tenant="acme") is not None


async def test_one_that_is_all_that_is_due_and_cannot_be_erased_keeps_no_recording_from_its_end(
    database: str, tmp_path: Path, storage: RecordingStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "erase", locking(storage))
    async with TranscriptStore(database) as store:
        await fill(store, storage)
        rules = policies(tmp_path, tenants={"acme": {"keep": "70d"}, "other": {"keep_recordings": "1d"}})
        done = await Retention(store.erasing, Eraser(store, storage), rules, lambda: STARTED_AT + 100 * DAY_MS).run()
        assert (done.sessions, done.recordings, done.left) == ({}, {"other": 3}, {"acme": 1})
        assert kept(tmp_path) == {"acme-0", "acme-50", "acme-95"}


async def test_a_request_erases_one_and_leaves_the_others(
    database: str, storage: RecordingStorage, tmp_path: Path
) -> None:
    async with TranscriptStore(database) as store:
        await fill(store, storage)
        (erased,) = (await Eraser(store, storage).erase({"acme-0": "acme"}, REQUEST, STARTED_AT)).erased
        assert (erased.rows, erased.recording_bytes) == (14, 10)
        (again,) = (await Eraser(store, storage).erase({"acme-0": "acme"}, REQUEST, STARTED_AT)).erased
        assert (again.rows, again.recording_bytes) == (0, 0)
        assert kept(tmp_path) == {"acme-50", "acme-95", "other-0", "other-50", "other-95"}
