"""What is sent because of one read leaves in one write for each connection.

A peer often says several things at once (sound and its words, the end of a turn). A message of its own for each that
comes of it costs a system call, a packet, and the receiver a turn of its loop. So while the messages of one read are
being delivered, what is sent is gathered; it leaves behind the last of them, in the same turn of the event loop.
"""

import asyncio
from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary


class Burst:
    """The messages of one read, of whichever connection of an event loop; `open` while there are more to come."""

    __slots__ = ("_leaving", "open")

    def __init__(self) -> None:
        self.open: bool = False
        self._leaving: list[Callable[[], None]] = []

    def at_end(self, leave: Callable[[], None]) -> None:
        """Call this once the last message has been delivered."""
        self._leaving.append(leave)

    def end(self) -> None:
        """The last message has been delivered."""
        self.open = False
        leaving, self._leaving = self._leaving, []
        for leave in leaving:
            leave()


_bursts: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Burst]] = WeakKeyDictionary()


def burst() -> Burst:
    """The running event loop's: it reads of one connection at a time."""
    return _bursts.setdefault(asyncio.get_running_loop(), Burst())


def head(size: int, *, binary: bool) -> bytes:
    """What a server writes before a whole message of so many bytes, fewer than 65,536 (RFC 6455, 5.2)."""
    first = 0x82 if binary else 0x81
    return bytes((first, size)) if size < 126 else bytes((first, 126)) + size.to_bytes(2, "big")
