"""Recordings as they are read: whole, in parts, in segments, and while somebody else puts them together or erases."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.recordings import write_parts
from support.sounds import opened, parts, stretches
from voicebus.adapters.recordings.reading import SETTLED, Recording, RecordingReader
from voicebus.adapters.recordings.storage import RecordingStorage, Stored

LONG_AGO = datetime.now(UTC) - SETTLED - timedelta(seconds=1)


class Shelf:
    """A storage, and what reads it; sessions are to be kept until somebody says otherwise."""

    def __init__(self, folder: Path) -> None:
        self.storage = RecordingStorage.at(f"file://{folder}/recordings")
        self.erased: set[str] = set()
        self.reader = RecordingReader(self.storage, self._kept)

    async def _kept(self, _: str, session: str) -> bool:
        return session not in self.erased

    async def write(self, session: str, data: list[bytes], *, epoch: int = 1, begins_ms: int = 0) -> None:
        await write_parts(self.storage, "acme", session, data, epoch=epoch, begins_ms=begins_ms)

    async def open(self, session: str, *, ended_at: datetime | None = None) -> Recording:
        recording = await self.reader.open("acme", session, ended_at=ended_at)
        assert recording is not None
        return recording

    async def is_whole(self, session: str) -> bool:
        stored = await self.storage.find("acme", session)
        return stored.whole is not None and not stored.segments


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


async def read(recording: Recording, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in recording.read(start, recording.size if end is None else end)])


async def test_nothing_recorded_is_nothing_to_read(shelf: Shelf) -> None:
    assert await shelf.reader.open("acme", "s1", ended_at=None) is None


async def test_a_recording_without_sound_so_far_is_nothing_to_read(shelf: Shelf) -> None:
    written = parts(3, ended=False)
    assert len(written[0]) < 1000  # what it is, and no more
    await shelf.write("s1", written[:1])
    assert await shelf.reader.open("acme", "s1", ended_at=None) is None
    await shelf.write("s1", written[:2])
    assert opened(await read(await shelf.open("s1")))[0] > 0.5


async def test_parts_read_as_one_from_any_place_to_any_other(shelf: Shelf) -> None:
    written = [b"OggS" * 3, b"abc", b"defg", b"h"]
    await shelf.write("s1", written)
    recording = await shelf.open("s1")
    whole = b"".join(written)
    assert recording.size == len(whole)
    for start in range(len(whole)):
        for end in range(start, len(whole) + 1):
            assert await read(recording, start, end) == whole[start:end]


async def test_what_is_written_meanwhile_is_another_version(shelf: Shelf) -> None:
    await shelf.write("s1", [b"OggS" * 3])
    first = await shelf.open("s1")
    assert (await shelf.open("s1")).version == first.version
    await shelf.write("s1", [b"OggS" * 3, b"def"])
    second = await shelf.open("s1")
    assert second.version != first.version
    assert second.modified >= first.modified
    assert await read(first) == b"OggS" * 3


async def test_a_call_that_ends_while_it_is_read_is_read_to_where_it_was(shelf: Shelf) -> None:
    written = parts(3)
    await shelf.write("s1", written)
    recording = await shelf.open("s1")
    chunks = recording.read(0, recording.size)
    first = await anext(chunks)
    await shelf.reader.complete("acme", "s1")
    assert await shelf.is_whole("s1")
    assert first + b"".join([chunk async for chunk in chunks]) == b"".join(written)


async def test_a_whole_that_is_another_stream_is_not_taken_for_the_rest(shelf: Shelf) -> None:
    await shelf.write("s1", parts(3))
    recording = await shelf.open("s1")
    chunks = recording.read(0, recording.size)
    await anext(chunks)
    await shelf.write("s1", parts(3), epoch=2, begins_ms=5000)  # with this it is encoded anew
    await shelf.reader.complete("acme", "s1")
    with pytest.raises(FileNotFoundError):
        [chunk async for chunk in chunks]


async def test_segments_of_a_call_that_goes_on_are_put_together_for_its_readers(shelf: Shelf) -> None:
    await shelf.write("s1", parts(2), epoch=1)
    await shelf.write("s1", parts(2, ended=False), epoch=2, begins_ms=4000)
    recording = await shelf.open("s1")
    duration, caller, _ = opened(await read(recording))
    assert 4.5 <= duration <= 6.05  # a part holds whole pages, of a second each
    assert [begins for begins, _ in stretches(caller)] == pytest.approx([0, 4], abs=0.05)
    assert (await shelf.open("s1")).version == recording.version
    assert not await shelf.is_whole("s1")
    assert await read(recording, 100, 200) == (await read(recording))[100:200]


async def test_segments_of_a_call_that_ended_just_now_are_left_to_its_gateway(shelf: Shelf) -> None:
    await shelf.write("s1", parts(1), begins_ms=1000)
    assert opened(await read(await shelf.open("s1", ended_at=datetime.now(UTC))))[0] == pytest.approx(2, abs=0.05)
    assert not await shelf.is_whole("s1")


async def test_segments_of_a_call_that_is_long_over_are_put_together_for_good(shelf: Shelf) -> None:
    await shelf.write("s1", parts(1), begins_ms=1000)
    recording = await shelf.open("s1", ended_at=LONG_AGO)
    assert await shelf.is_whole("s1")
    assert opened(await read(recording))[0] == pytest.approx(2, abs=0.05)


async def test_several_that_put_one_together_at_once_do_no_harm(shelf: Shelf, tmp_path: Path) -> None:
    await shelf.write("s1", parts(2), begins_ms=1000)
    other = Shelf(tmp_path)
    found = await asyncio.gather(*(each.open("s1", ended_at=LONG_AGO) for each in (shelf, other, shelf, other)))
    assert await shelf.is_whole("s1")
    for recording in found:
        assert opened(await read(recording))[0] == pytest.approx(3, abs=0.05)


async def test_what_somebody_else_puts_together_at_the_last_moment_is_read_from_there(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shelf.write("s1", parts(2), begins_ms=1000)
    other, find = Shelf(tmp_path), shelf.storage.find

    async def outrun(tenant: str, session: str) -> Stored:
        found = await find(tenant, session)
        await other.reader.complete(tenant, session)
        return found

    monkeypatch.setattr(shelf.storage, "find", outrun)
    recording = await shelf.open("s1")
    assert opened(await read(recording))[0] == pytest.approx(3, abs=0.05)


async def test_what_is_erased_while_it_is_put_together_stays_erased(shelf: Shelf) -> None:
    await shelf.write("s1", parts(1), begins_ms=1000)
    shelf.erased.add("s1")
    await shelf.reader.complete("acme", "s1")
    stored = await shelf.storage.find("acme", "s1")
    assert (stored.whole, stored.segments) == (None, ())


async def test_a_segment_that_lost_its_beginning_does_not_spoil_the_rest(shelf: Shelf) -> None:
    await shelf.write("s1", parts(2))
    await shelf.write("s1", [b"no sound at all"], epoch=2, begins_ms=3000)
    await shelf.write("s1", parts(2), epoch=3, begins_ms=5000)
    duration, caller, _ = opened(await read(await shelf.open("s1")))
    assert duration == pytest.approx(7, abs=0.05)
    assert [begins for begins, _ in stretches(caller)] == pytest.approx([0, 5], abs=0.05)
