"""A disk that is full as soon as a test says so: a file system of its own, or a process's limit for its files."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_CHUNK = bytes(64 * 1024)
_BALLAST = "ballast"


class SmallDisk:
    """A file system in memory, mounted at `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Leave no room at all."""
        assert self.folder.is_mount(), f"{self.folder} is on a disk that others use, too"
        with (self.folder / _BALLAST).open("ab", buffering=0) as file:
            for chunk in (_CHUNK, _CHUNK[:4096], _CHUNK[:1]):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(chunk)
        assert os.statvfs(self.folder).f_bavail == 0

    def make_room(self) -> None:
        (self.folder / _BALLAST).unlink()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A disk of this size at `folder`, which must be there and empty; skips the test where none can be mounted."""
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root can mount a small disk")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"no small disk can be mounted here ({made.stderr.strip()})")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
