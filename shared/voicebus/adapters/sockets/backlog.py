"""What one connection said at once, beyond its share of a turn of the event loop, is delivered in later turns.

A peer that sends faster than it is heard has thousands of messages in a buffer, and all other connections (Redis, with
a verdict on what is being said) would wait for each of them. Bounded by what was read: nothing more is read meanwhile.
"""

import asyncio
from collections import deque
from typing import Final, Protocol

from voicebus.adapters.sockets.burst import burst
from voicebus.adapters.sockets.large import LARGE_MESSAGE, large_messages

SHARE: Final = 16
"""Messages of one connection in one turn."""


class Connection(Protocol):
    """Whose messages they are."""

    def deliver(self, message: bytes, binary: bool) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Backlog:
    """What waits of one connection."""

    __slots__ = ("_burst", "_dropped", "_large", "_waiting", "taken")

    def __init__(self) -> None:
        self._burst = burst()
        self._large = large_messages()
        self._waiting: deque[tuple[bytes, bool]] = deque()
        self._dropped = False
        self.taken: int = 0
        """Messages in a row of one buffer, up to a share."""

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    def is_its_turn(self, size: int) -> bool:
        """Whether a message of so many bytes may be delivered in this turn of the loop; it counts then."""
        return size <= LARGE_MESSAGE or self._large.takes(size)

    def wait(self, connection: Connection, message: bytes, *, binary: bool) -> None:
        """Deliver this, and what comes behind it, in a later turn of the loop, and have no more read until then."""
        if not self._waiting:
            self.taken = SHARE
            connection.pause_reading()
            asyncio.get_running_loop().call_soon(self._go_on, connection)
        self._waiting.append((message, binary))

    def deliver_all(self, connection: Connection) -> None:
        """Deliver all that waits, as the end comes behind it."""
        while self._waiting:
            connection.deliver(*self._waiting.popleft())

    def drop(self) -> None:
        """The connection is being closed: nothing of it is delivered any more, and its reading is its own affair."""
        self._dropped = True
        self._waiting.clear()

    def _go_on(self, connection: Connection) -> None:
        """Deliver the next share."""
        left, self._burst.open = SHARE, True
        while left and self._waiting and self.is_its_turn(len(self._waiting[0][0])):
            left -= 1
            connection.deliver(*self._waiting.popleft())
        self._burst.end()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._go_on, connection)
        elif not self._dropped:
            self.taken = 0
            connection.resume_reading()
