"""Transcripts that are followed while they are written, over a real port, on both databases."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from msgspec.structs import replace

from support.recorded import conversation, ended, entry, recorded, said, started, tool_end, tool_start
from support.waiting import wait_until
from voicebus.adapters.database import migrate
from voicebus.adapters.database.store import TranscriptStore
from voicebus.contracts.envelope import Entry
from voicebus.errors import StoreError
from voicebus_services.access.authenticator import Authenticator
from voicebus_services.access.keystore import KeyStore
from voicebus_services.http import serving
from voicebus_services.transcript_archiver import tailing
from voicebus_services.transcript_archiver.app import create_app
from voicebus_services.transcript_archiver.tailing import Tails

PATH = "/v1/transcripts/s1/events"


@pytest.fixture
async def store(empty_database: str) -> AsyncIterator[TranscriptStore]:
    migrate.upgrade(empty_database)
    async with TranscriptStore(empty_database) as store:
        yield store


@pytest.fixture
def tails(store: TranscriptStore) -> Tails:
    return Tails(store)


@pytest.fixture
async def client(store: TranscriptStore, tails: Tails) -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        serving(create_app(store, Authenticator(), tails=tails), host="127.0.0.1", port=0) as server,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as client,
    ):
        yield client


@dataclass
class Told:
    id: int
    event: str
    data: dict[str, Any]


class Reader:
    """Reads one answer, event by event."""

    def __init__(self, answer: httpx2.Response) -> None:
        self._lines = answer.aiter_lines()

    async def next(self) -> Told | None:
        """The next event; None at the end."""
        fields: dict[str, str] = {}
        async for line in self._lines:
            if not line and "data" in fields:
                return Told(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            name, _, value = line.partition(": ")
            if name in ("id", "event", "data"):
                fields[name] = value
        return None

    async def rest(self) -> list[Told]:
        found = []
        while (told := await self.next()) is not None:
            found.append(told)
        return found


@asynccontextmanager
async def following(client: httpx2.AsyncClient, path: str = PATH, **headers: str) -> AsyncIterator[Reader]:
    async with client.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Reader(answer)


async def write(store: TranscriptStore, *entries: Entry) -> None:
    await store.write(recorded(*entries))


async def test_lines_come_as_they_are_written_and_again_when_they_change(
    client: httpx2.AsyncClient, store: TranscriptStore
) -> None:
    await write(store, started("s1"), said("s1", 2, "user", "Is it sunny?", start=0))
    async with following(client) as reader:
        told = await reader.next()
        assert told is not None
        assert (told.id, told.event, told.data["text"]) == (2, "message", "Is it sunny?")
        await write(store, tool_start("s1", 3))
        told = await reader.next()
        assert told is not None
        assert (told.id, told.event, told.data["outcome"]) == (3, "tool_call", None)
        await write(store, tool_end("s1", 4))
        told = await reader.next()
        assert told is not None
        assert (told.id, told.data["seq"], told.data["outcome"], told.data["output"]) == (4, 3, "ok", "sunny")
        await write(store, said("s1", 5, "assistant", "Yes.", start=900), ended("s1", 6))
        assert [(each.id, each.event) for each in await reader.rest()] == [(5, "message"), (6, "session_ended")]


async def test_lines_are_those_of_the_transcript_and_the_end_says_how(
    client: httpx2.AsyncClient, store: TranscriptStore
) -> None:
    await write(store, *conversation("s1"))
    whole = (await client.get("/v1/transcripts/s1")).json()
    async with following(client) as reader:
        *lines, end = await reader.rest()
    assert sorted((line.data for line in lines), key=lambda item: item["seq"]) == sorted(
        whole["items"], key=lambda item: item["seq"]
    )
    assert end.data == {
        "session": "s1", "status": "ended", "ended_at": whole["ended_at"], "end_reason": "hangup",
    }  # fmt: skip


async def test_a_reader_goes_on_from_the_last_line_that_it_has(
    client: httpx2.AsyncClient, store: TranscriptStore
) -> None:
    await write(store, *conversation("s1"))
    async with following(client) as reader:
        everything = [each.id for each in await reader.rest()]
    assert everything == [3, 4, 5, 7, 8]
    for known in range(8):
        async with following(client, **{"Last-Event-ID": str(known)}) as reader:
            assert [each.id for each in await reader.rest()] == [each for each in everything if each > known]
        async with following(client, f"{PATH}?seq={known}") as reader:
            assert [each.id for each in await reader.rest()] == [each for each in everything if each > known]


async def test_who_has_the_end_is_not_to_come_again(client: httpx2.AsyncClient, store: TranscriptStore) -> None:
    await write(store, *conversation("s1"))
    answer = await client.get(PATH, headers={"Last-Event-ID": "8"})
    assert (answer.status_code, answer.content) == (204, b"")


async def test_a_reader_of_lines_that_a_former_owner_wrote_is_told_so_and_reads_all_again(
    client: httpx2.AsyncClient, store: TranscriptStore
) -> None:
    question = said("s1", 3, "user", "Is it sunny?", start=0)
    call, lost = tool_start("s1", 2), [tool_end("s1", 4, output="hail"), said("s1", 5, "assistant", "No.", start=900)]
    await write(store, started("s1"), call, question, *lost)
    void = {event.claim for event in recorded(*lost)}
    async with following(client) as reader:
        assert [(await reader.next() or Told(0, "", {})).id for _ in range(3)] == [3, 4, 5]
        resumed = entry("s1", 4, "session_resumed", {"agent": "front_desk", "from_seq": 3})
        answer = said("s1", 5, "assistant", "Yes.", start=900)
        later = [replace(each, epoch=2) for each in (resumed, answer, ended("s1", 6))]
        await store.write(recorded(*later), kept=void)
        restarted, *again, end = await reader.rest()
    assert (restarted.id, restarted.event, restarted.data) == (
        0, "transcript_restarted", {"session": "s1", "from_seq": 4},
    )  # fmt: skip
    assert [(each.id, each.data["text"], each.data["output"]) for each in again] == [
        (2, None, None), (3, "Is it sunny?", None), (5, "Yes.", None),
    ]  # fmt: skip
    assert end.event == "session_ended"


async def test_a_session_that_is_taken_over_goes_on_for_its_readers(
    client: httpx2.AsyncClient, store: TranscriptStore
) -> None:
    await write(store, started("s1"), said("s1", 2, "user", "Is it sunny?", start=0))
    async with following(client) as reader:
        assert (await reader.next() or Told(0, "", {})).id == 2
        await write(store, *(replace(each, epoch=2) for each in (said("s1", 3, "assistant", "Yes.", start=9),)))
        assert (await reader.next() or Told(0, "", {})).id == 3
        await write(store, replace(ended("s1", 4), epoch=2))
        assert [each.event for each in await reader.rest()] == ["session_ended"]


async def test_what_is_missing_is_waited_for_until_it_is_there_or_given_up(
    client: httpx2.AsyncClient, store: TranscriptStore
) -> None:
    first, *others = [said("s1", seq, "user", str(seq), start=seq) for seq in range(2, 8)]
    by_seq = {each.seq: each for each in others}
    await write(store, started("s1"), first, by_seq[4], by_seq[6], by_seq[7])
    async with following(client) as reader:
        assert (await reader.next() or Told(0, "", {})).id == 2
        await write(store, by_seq[3])
        assert [(await reader.next() or Told(0, "", {})).id for _ in range(2)] == [3, 4]
        await write(store, entry("s1", 5, "transcript_gap", {"first": 5, "last": 5}))
        assert [(await reader.next() or Told(0, "", {})).id for _ in range(2)] == [6, 7]
        await write(store, ended("s1", 8))
        assert [each.event for each in await reader.rest()] == ["session_ended"]


async def test_a_long_transcript_is_read_in_pages(
    client: httpx2.AsyncClient, store: TranscriptStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailing, "_PAGE", 3)
    await write(
        store, started("s1"), *(said("s1", seq, "user", "x", start=seq) for seq in range(2, 13)), ended("s1", 13)
    )
    async with following(client) as reader:
        assert [each.id for each in await reader.rest()] == list(range(2, 14))


async def test_a_session_that_is_erased_ends_for_its_readers(
    client: httpx2.AsyncClient, store: TranscriptStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(store, started("s1"), said("s1", 2, "user", "x", start=0))

    async def gone(_: Any) -> dict[str, Any]:
        return {}

    async with following(client) as reader:
        assert await reader.next() is not None
        monkeypatch.setattr(store, "progress_of", gone)
        assert await reader.next() is None


@pytest.mark.parametrize("error", [StoreError("it is away"), KeyError("a defect")])
async def test_a_database_that_is_away_for_a_while_is_waited_for(
    client: httpx2.AsyncClient, store: TranscriptStore, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    await write(store, started("s1"), said("s1", 2, "user", "x", start=0))
    asked = 0

    async def away(_: Any) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        raise error

    async with following(client) as reader:
        assert await reader.next() is not None
        with monkeypatch.context() as patched:
            patched.setattr(store, "progress_of", away)
            await wait_until(lambda: asked > 1, description="the database to be asked while it is away")
        await write(store, ended("s1", 3))
        assert [each.event for each in await reader.rest()] == ["session_ended"]


async def test_readers_are_let_go_when_the_process_stops(
    client: httpx2.AsyncClient, store: TranscriptStore, tails: Tails
) -> None:
    await write(store, started("s1"), said("s1", 2, "user", "x", start=0))
    async with following(client) as reader:
        assert await reader.next() is not None
        tails.close()
        assert await reader.next() is None


async def test_nothing_is_looked_for_once_nobody_reads(
    client: httpx2.AsyncClient, store: TranscriptStore, tails: Tails
) -> None:
    await write(store, started("s1"), said("s1", 2, "user", "x", start=0))
    async with following(client) as reader:
        assert await reader.next() is not None
        assert tails.readers == 1
    await wait_until(lambda: not tails.readers and not tails.looks, description="the reader's leaving to be noticed")


async def test_there_are_only_so_many_readers(
    client: httpx2.AsyncClient, store: TranscriptStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(store, started("s1"))
    await write(store, started("s2"))
    monkeypatch.setattr(tailing, "MAX_READERS_OF_ONE", 1)
    monkeypatch.setattr(tailing, "MAX_READERS", 2)
    async with following(client):
        answer = await client.get(PATH)
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_readers")
        assert "Retry-After" in answer.headers
        async with following(client, "/v1/transcripts/s2/events"):
            await write(store, started("s3"))
            assert (await client.get("/v1/transcripts/s3/events")).status_code == 429


async def test_a_tenant_follows_its_own_calls_and_no_others(store: TranscriptStore, tmp_path: Path) -> None:
    first, *others = conversation("s1")
    await write(store, replace(first, data={**first.data, "tenant": "acme"}), *others)
    keys = tmp_path / "keys"
    keys.write_text("acme:acme-key\nother:other-key\n", encoding="utf-8")
    app = create_app(store, Authenticator(KeyStore(keys)))
    async with (
        serving(app, host="127.0.0.1", port=0) as server,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client,
    ):
        for key, status in ((None, 401), ("other-key", 404), ("acme-key", 200)):
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            assert (await client.get(PATH, headers=headers)).status_code == status


@pytest.mark.parametrize("last_event_id", ["x", "-1", "1" * 10])
async def test_a_place_that_is_none_is_a_422_problem(
    client: httpx2.AsyncClient, store: TranscriptStore, last_event_id: str
) -> None:
    await write(store, started("s1"))
    assert (await client.get(PATH, headers={"Last-Event-ID": last_event_id})).status_code == 422
