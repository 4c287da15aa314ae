"""A file whose changes count without a restart."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

from voicebus.errors import SettingsError
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

POLL_S: Final = 1.0
"""How often the file is looked at: a key that is revoked opens nothing this much later."""

T = TypeVar("T")


class Watched(Generic[T]):
    """What a file says now, as `read` makes it. Run `keep` as a task."""

    def __init__(self, path: Path, read: Callable[[Path], T]) -> None:
        """Read the file.

        Raises:
            SettingsError: `read` refuses it.
        """
        self._path = path
        self._read = read
        self._version = _version(path)
        self.now: T = read(path)

    async def keep(self) -> None:
        """Look at the file until cancelled. What cannot be used is logged once, and what it said before stays."""
        while True:
            await asyncio.sleep(POLL_S)
            await self.refresh()

    async def refresh(self) -> None:
        """Read the file again if it has changed."""
        version = await asyncio.to_thread(_version, self._path)
        if version == self._version:
            return
        self._version = version
        try:
            self.now = await asyncio.to_thread(self._read, self._path)
        except SettingsError as error:
            log.error("what the file said before counts on", error=str(error))  # noqa: TRY400 - the sentence says it all
        except Exception:  # whoever edits a file must not end the service by it
            log.exception("what the file said before counts on", path=str(self._path))
        else:
            log.info("file read again", path=str(self._path))


def _version(path: Path) -> tuple[int, int, int, int] | None:
    """What changes with the file, also where a mounted one is swapped by its link; None where there is none.

    The time of its status tells that it may be read now which was written as somebody else's.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
