"""A file that is followed: its changes count, and a wrong one changes nothing."""

import asyncio
import os
from pathlib import Path

import pytest

from support.waiting import wait_until
from voicebus.errors import SettingsError
from voicebus_services.privacy.policy import read_policies
from voicebus_services.watched import Watched


def write(file: Path, text: str) -> None:
    """With a time of its own: two writes within one tick of the file system's clock would look alike."""
    at = file.stat().st_mtime_ns + 1_000_000_000 if file.exists() else 1_000_000_000
    file.write_text(text)
    os.utime(file, ns=(at, at))


async def test_a_change_counts_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    file = tmp_path / "privacy.yaml"
    write(file, "default: {keep: 1d}")
    watched = Watched(file, read_policies)
    for text in ("default: {keep: 2026-13-45}", "default: {keep: yes}", "[" * 5_000, "a: ["):
        write(file, text)
        await watched.refresh()
        assert watched.now.default.keep is not None
        assert watched.now.default.keep.days == 1
    write(file, "default: {keep: 2d}")
    await watched.refresh()
    assert watched.now.default.keep is not None
    assert watched.now.default.keep.days == 2


async def test_a_reader_that_fails_ends_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicebus_services.watched.POLL_S", 0.001)
    file = tmp_path / "file"
    write(file, "good")
    looked = asyncio.Event()

    def read(path: Path) -> str:
        text = path.read_text()
        if text == "bad":
            looked.set()
            raise KeyError("of a library")
        return text

    watched = Watched(file, read)
    keeping = asyncio.create_task(watched.keep())
    write(file, "bad")
    async with asyncio.timeout(30):
        await looked.wait()
    write(file, "better")
    async with asyncio.timeout(30):
        while watched.now != "better":
            assert not keeping.done()
            await asyncio.sleep(0.001)
    keeping.cancel()


def test_a_file_that_is_wrong_from_the_start_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        Watched(tmp_path / "none", read_policies)


async def test_a_file_that_was_not_readable_when_it_changed_counts_once_it_is(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    write(file, "old")
    may_be_read = True

    def read(path: Path) -> str:
        if not may_be_read:
            raise SettingsError("permission denied")
        return path.read_text()

    watched = Watched(file, read)
    write(file, "new")
    may_be_read = False
    await watched.refresh()
    assert watched.now == "old"
    may_be_read = True

    async def counts() -> bool:  # the time of the status has the tick of the file system's clock
        file.chmod(0o600)
        await watched.refresh()
        return watched.now == "new"

    await wait_until(counts, description="the file that may be read now")
