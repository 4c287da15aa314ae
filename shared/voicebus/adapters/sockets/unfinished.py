"""What has come of messages and requests' bodies that are not whole, over all connections of a process, and its bound.

One connection may bring a message of `MAX_MESSAGE`; hundreds that begin one and stop would hold gigabytes.
"""

import ctypes
import mmap
from collections.abc import Callable
from typing import Final, Protocol

from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

LARGE: Final = 64 * 1024
"""Bytes from which an unfinished message counts."""

ROOM: Final = 256 * 1024 * 1024
"""Bytes that unfinished messages may have together. Beyond it those that began first are given up, one by one."""

_DONTNEED: Final = 4  # of Linux, for memory of a process's own
_madvise: Final[Callable[[ctypes.c_void_p, ctypes.c_size_t, int], int] | None] = (
    ctypes.CDLL(None).madvise if hasattr(mmap, "MADV_DONTNEED") and mmap.MADV_DONTNEED == _DONTNEED else None
)


class Receiver(Protocol):
    def give_up(self) -> None:
        """Forget what has come of its message, and take no more of it."""
        ...


class Unfinished:
    """Those who wait for the rest of a large message, in the order in which they began. `size` is in bytes."""

    def __init__(self, room: int = ROOM) -> None:
        self.room = room
        self.size: int = 0
        self._of: dict[Receiver, int] = {}

    def hold(self, receiver: Receiver, size: int) -> None:
        """So much has come of this one's message by now; below `LARGE` it does not count, or not any more."""
        self.size -= self._of.get(receiver, 0)
        if size < LARGE:
            self._of.pop(receiver, None)
            return
        self._of[receiver] = size
        self.size += size
        while self.size > self.room:
            first = next(iter(self._of))
            self.size -= self._of.pop(first)
            metrics.LIMITS_REACHED.labels(limit="unfinished_messages").inc()
            log.warning("too much has come of messages that are not whole, giving up the one that began first")
            first.give_up()


everybody: Final = Unfinished()
"""Of this process."""


def give_back(memory: memoryview) -> None:
    """Give the system the pages of a buffer that hold nothing; what stood there is lost.

    Does nothing where that is not known to be possible.
    """
    if _madvise is None or not memory:
        return
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (start + len(memory)) // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:
        _madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _DONTNEED)
