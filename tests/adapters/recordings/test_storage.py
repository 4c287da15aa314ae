"""Where recordings lie, in a folder and in a bucket."""

import asyncio
from pathlib import Path

import pytest

from voicebus.adapters.recordings.storage import RecordingStorage, folder, segment_folder
from voicebus.errors import SettingsError, StoreError


@pytest.fixture
def storage(tmp_path: Path) -> RecordingStorage:
    return RecordingStorage.at(f"file://{tmp_path}/recordings")


async def read(storage: RecordingStorage, path: str, start: int, end: int) -> bytes:
    return b"".join([chunk async for chunk in storage.stream(path, start, end)])


async def test_parts_are_found_in_the_order_of_the_call(storage: RecordingStorage) -> None:
    for epoch, begins, part in ((2, 9000, 0), (1, 0, 10), (1, 0, 9), (1, 0, 0)):
        await storage.put(f"{segment_folder('acme', 's1', epoch, begins)}/{part:08d}", b"%d" % part)
    await storage.put(f"{segment_folder('acme', 's10', 1, 0)}/{0:08d}", b"another session")
    stored = await storage.find("acme", "s1")
    assert [(one.epoch, one.begins_ms, [part.path[-2:] for part in one.parts]) for one in stored.segments] == [
        (1, 0, ["00", "09", "10"]), (2, 9000, ["00"])
    ]  # fmt: skip
    assert stored.pieces is None


async def test_the_whole_takes_the_place_of_its_parts(storage: RecordingStorage) -> None:
    await storage.put(f"{segment_folder('acme', 's1', 1, 0)}/{0:08d}", b"abc")
    await storage.put(f"{segment_folder('acme', 's1', 1, 0)}/{1:08d}", b"def")
    before = await storage.find("acme", "s1")
    assert before.pieces is not None
    assert [part.size for part in before.pieces] == [3, 3]
    await storage.complete("acme", "s1", before, b"abcdef")
    after = await storage.find("acme", "s1")
    assert after.segments == ()
    assert after.pieces is not None
    assert await read(storage, after.pieces[0].path, 2, 5) == b"cde"
    with pytest.raises(FileNotFoundError):
        await storage.read(before.pieces[0].path)


async def test_what_is_erased_is_gone_and_nothing_else(storage: RecordingStorage) -> None:
    for session in ("s1", "s2"):
        await storage.put(f"{segment_folder('acme', session, 1, 0)}/{0:08d}", b"abc")
    assert await storage.size("acme", "s1") == 3
    assert await storage.erase("acme", "s1") == 3
    assert await storage.size("acme", "s1") == 0
    assert await storage.erase("acme", "s1") == 0
    assert (await storage.find("acme", "s1")).pieces is None
    assert (await storage.find("acme", "s2")).pieces is not None


async def test_no_folder_with_the_name_of_what_was_erased_is_left(storage: RecordingStorage, tmp_path: Path) -> None:
    for session in ("s1", "s2"):
        await storage.put(f"{segment_folder('acme', session, 1, 0)}/{0:08d}", b"abc")
    await storage.erase("acme", "s1")
    assert list(tmp_path.rglob("s1")) == []
    await storage.erase("acme", "s2")
    await storage.put(f"{segment_folder('acme', 's3', 1, 0)}/{0:08d}", b"abc")
    assert list(tmp_path.rglob("s2")) == []
    assert (await storage.find("acme", "s3")).pieces is not None


@pytest.mark.parametrize("name", ["..", ".", "../other", "a/b", "a\\b", "%2e%2e", "ä ö", "~"])
async def test_no_name_leads_out_of_its_place(storage: RecordingStorage, tmp_path: Path, name: str) -> None:
    await storage.put(f"{segment_folder(name, name, 1, 0)}/{0:08d}", b"abc")
    stored = await storage.find(name, name)
    assert stored.pieces is not None
    assert await read(storage, stored.pieces[0].path, 0, 3) == b"abc"
    files = [path.relative_to(tmp_path / "recordings") for path in tmp_path.rglob("*") if path.is_file()]
    assert [len(path.parts) for path in files] == [4]
    assert folder(name, "x") != folder("other", "x")


async def test_names_of_any_length_have_places_of_their_own(storage: RecordingStorage) -> None:
    long = [
        ("声" * 100, "x" * 200),
        ("声" * 100, "x" * 199),
        ("声" * 99, "x" * 200),
        ("t", "🙂" * 200),
        ("t", "🙂" * 199),
    ]
    for index, (tenant, session) in enumerate(long):
        assert await storage.erase(tenant, session) == 0
        await storage.put(f"{folder(tenant, session)}/recording.ogg", b"x" * (index + 1))
    for index, (tenant, session) in enumerate(long):
        assert await storage.erase(tenant, session) == index + 1


async def test_a_storage_that_fails_is_told_of_in_a_sentence(storage: RecordingStorage, tmp_path: Path) -> None:
    (tmp_path / "recordings" / "acme").write_text("in the way")
    with pytest.raises(StoreError, match=r"^file://.*/recordings: "):
        await storage.put(f"{segment_folder('acme', 's1', 1, 0)}/{0:08d}", b"abc")


async def test_a_bucket_beside_the_cluster_is_reached_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n")).strip())
        writer.write(b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        for name, value in (
            ("ENDPOINT_URL", f"http://127.0.0.1:{port}"),
            ("ACCESS_KEY_ID", "key"),
            ("SECRET_ACCESS_KEY", "secret"),
            ("REGION", "us-east-1"),
        ):
            monkeypatch.setenv(f"AWS_{name}", value)
        await RecordingStorage.at("s3://calls/prod").put("acme/s1/recording.ogg", b"abc")
    assert asked == [b"PUT /calls/prod/acme/s1/recording.ogg HTTP/1.1"]


def test_an_address_of_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^VOICEBUS_RECORDINGS_URL: .* is allowed$"):
        RecordingStorage.at("s3://")
