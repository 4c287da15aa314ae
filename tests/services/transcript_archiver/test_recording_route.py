"""Recordings over HTTP, over a real port, and in a player that reads them from there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import av
import httpx2
import pytest
from msgspec.structs import replace

from support.recorded import conversation, recorded, started
from support.recordings import write_parts
from support.sounds import opened, parts
from voicebus.adapters.database.store import TranscriptStore
from voicebus.adapters.recordings.storage import RecordingStorage
from voicebus_services.access.authenticator import Authenticator
from voicebus_services.access.keystore import KeyStore
from voicebus_services.http import serving
from voicebus_services.recordings import reader_at
from voicebus_services.transcript_archiver.app import create_app

KEY = {"Authorization": "Bearer acme-key"}
PATH = "/v1/transcripts/s1/recording"


@pytest.fixture
def storage(tmp_path: Path) -> RecordingStorage:
    return RecordingStorage.at(f"file://{tmp_path}/recordings")


@pytest.fixture
async def client(
    store: TranscriptStore, storage: RecordingStorage, tmp_path: Path
) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an archiver with the call `s1` of the tenant `acme`."""
    first, *others = conversation("s1")
    await store.write(recorded(replace(first, data={**first.data, "tenant": "acme"}), *others))
    async with asked_with(store, tmp_path) as client:
        yield client


@asynccontextmanager
async def asked_with(
    store: TranscriptStore, folder: Path, *, key: str | None = "acme-key", url: str | None = ""
) -> AsyncIterator[httpx2.AsyncClient]:
    keys = folder / "keys"
    keys.write_text("acme:acme-key\nother:other-key\n", encoding="utf-8")

    async def kept(tenant: str, session: str) -> bool:
        return await store.progress(session, tenant=tenant) is not None

    reader = reader_at(f"file://{folder}/recordings" if url == "" else url, kept)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    app = create_app(store, Authenticator(KeyStore(keys)), recordings=reader)
    async with (
        serving(app, host="127.0.0.1", port=0) as server,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", headers=headers) as client,
    ):
        yield client


async def write(storage: RecordingStorage, data: list[bytes], *, epoch: int = 1, begins_ms: int = 0) -> None:
    await write_parts(storage, "acme", "s1", data, epoch=epoch, begins_ms=begins_ms)


async def test_a_recording_is_sent_whole(client: httpx2.AsyncClient, storage: RecordingStorage) -> None:
    written = parts(3)
    await write(storage, written)
    answer = await client.get(PATH)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/ogg; codecs=opus"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"] == "inline; filename*=UTF-8''s1.ogg"
    assert answer.content == b"".join(written)
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert opened(answer.content)[0] == pytest.approx(3, abs=0.05)


async def test_a_recording_is_sent_in_ranges(client: httpx2.AsyncClient, storage: RecordingStorage) -> None:
    await write(storage, parts(3))
    whole = (await client.get(PATH)).content
    size = len(whole)
    for text, start, end in (
        ("bytes=0-99", 0, 100),
        (f"bytes={size // 2}-", size // 2, size),
        ("bytes=-10", size - 10, size),
        ("bytes=10-999999999", 10, size),
    ):
        answer = await client.get(PATH, headers={"Range": text})
        assert answer.status_code == 206
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        assert answer.content == whole[start:end]
    answer = await client.get(PATH, headers={"Range": f"bytes={size}-"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{size}")
    assert answer.json()["code"] == "no_such_range"
    answer = await client.get(PATH, headers={"Range": "bytes=0-1,5-6"})
    assert (answer.status_code, answer.content) == (200, whole)


async def test_a_range_of_what_has_grown_meanwhile_is_answered_with_everything(
    client: httpx2.AsyncClient, storage: RecordingStorage
) -> None:
    written = parts(3)
    await write(storage, written[:2])
    etag = (await client.get(PATH)).headers["etag"]
    same = {"Range": "bytes=0-9", "If-Range": etag}
    assert (await client.get(PATH, headers=same)).status_code == 206
    assert (await client.get(PATH, headers={"If-None-Match": etag})).status_code == 304
    await write(storage, written)
    answer = await client.get(PATH, headers=same)
    assert (answer.status_code, answer.content) == (200, b"".join(written))
    assert (await client.get(PATH, headers={"If-None-Match": etag})).status_code == 200


async def test_what_a_head_tells_is_what_a_get_answers(client: httpx2.AsyncClient, storage: RecordingStorage) -> None:
    await write(storage, parts(2))
    told = await client.head(PATH, headers={"Range": "bytes=0-9"})
    answer = await client.get(PATH)
    assert (told.status_code, told.content) == (200, b"")
    for name in ("content-length", "content-type", "etag", "last-modified", "accept-ranges"):
        assert told.headers[name] == answer.headers[name]
    assert (await client.head("/v1/transcripts/none/recording")).status_code == 404


async def test_a_player_opens_a_recording_from_its_address_and_jumps_in_it(
    client: httpx2.AsyncClient, storage: RecordingStorage
) -> None:
    await write(storage, parts(30))

    def play() -> tuple[float, float]:
        options = {"headers": "Authorization: Bearer acme-key\r\n", "seekable": "1"}
        with av.open(f"{client.base_url}{PATH}", "r", options=options) as container:
            assert container.duration is not None
            container.seek(20_000_000)
            frame = next(container.decode(audio=0))
            assert frame.time is not None
            return container.duration / 1_000_000, frame.time

    duration, jumped_to = await asyncio.to_thread(play)
    assert duration == pytest.approx(30, abs=0.05)
    assert 15 <= jumped_to <= 20


async def test_a_call_that_goes_on_elsewhere_is_heard_from_its_beginning(
    client: httpx2.AsyncClient, store: TranscriptStore, storage: RecordingStorage
) -> None:
    first = started("s2")
    await store.write(recorded(replace(first, data={**first.data, "tenant": "acme"})))
    for epoch, begins_ms in ((1, 0), (2, 4000)):
        await write_parts(storage, "acme", "s2", parts(2, ended=False), epoch=epoch, begins_ms=begins_ms)
    answer = await client.get("/v1/transcripts/s2/recording")
    assert 4.5 <= opened(answer.content)[0] <= 6.05
    again = await client.get(
        "/v1/transcripts/s2/recording", headers={"Range": "bytes=100-199", "If-Range": answer.headers["etag"]}
    )
    assert (again.status_code, again.content) == (206, answer.content[100:200])


async def test_what_a_killed_gateway_left_is_put_together_when_it_is_asked_for(
    client: httpx2.AsyncClient, storage: RecordingStorage
) -> None:
    await write(storage, parts(2, ended=False))
    await write(storage, parts(2, ended=False), epoch=2, begins_ms=3000)
    answer = await client.get(PATH)  # its call ended long ago
    assert 3.5 <= opened(answer.content)[0] <= 5.05
    stored = await storage.find("acme", "s1")
    assert stored.whole is not None
    assert stored.segments == ()


async def problem(client: httpx2.AsyncClient, path: str = PATH) -> tuple[int, str]:
    answer = await client.get(path)
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def test_a_tenant_hears_its_own_calls_and_no_trace_of_anothers(
    client: httpx2.AsyncClient, store: TranscriptStore, storage: RecordingStorage, tmp_path: Path
) -> None:
    await write(storage, parts(1))
    assert (await client.get(PATH)).status_code == 200
    async with asked_with(store, tmp_path, key="other-key") as other:
        assert await problem(other) == (404, "unknown_session")
    async with asked_with(store, tmp_path, key=None) as nobody:
        assert await problem(nobody) == (401, "unauthorized")


async def test_what_was_not_recorded_is_a_404_problem(
    client: httpx2.AsyncClient, store: TranscriptStore, storage: RecordingStorage, tmp_path: Path
) -> None:
    assert await problem(client) == (404, "no_recording")
    assert await problem(client, "/v1/transcripts/none/recording") == (404, "unknown_session")
    await write(storage, parts(1))
    async with asked_with(store, tmp_path, url=None) as without:
        assert await problem(without) == (404, "no_recording")


async def test_a_storage_that_fails_is_a_503_problem(client: httpx2.AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "recordings" / "acme").write_text("in the way")
    assert await problem(client) == (503, "store_unavailable")
    assert str(tmp_path) not in (await client.get(PATH)).text


async def test_a_recording_that_is_deleted_while_it_is_sent_ends_short(
    client: httpx2.AsyncClient, storage: RecordingStorage
) -> None:
    await write(storage, [bytes(200_000)] * 400)

    async def fetch() -> None:
        async with client.stream("GET", PATH) as answer:
            assert answer.status_code == 200
            chunks = answer.aiter_raw()
            await anext(chunks)
            await storage.erase("acme", "s1")
            async for _ in chunks:
                pass

    with pytest.raises(httpx2.RemoteProtocolError):
        await fetch()
