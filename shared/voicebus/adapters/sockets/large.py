"""Large messages of all connections of an event loop take turns: only so many bytes of them are delivered in one turn.

What is done about a message takes as long as it is large, some milliseconds for 100 kB of text. Fifty that came at once
would be half a second in which nothing of anybody else's is heard.
"""

import asyncio
from typing import Final
from weakref import WeakKeyDictionary

LARGE_MESSAGE: Final = 32 * 1024
"""Bytes above which a message has to wait for its turn; hardly ever one of sound."""

AT_ONCE: Final = 512 * 1024
"""Bytes of them in one turn of the loop, and the last one of any size."""


class LargeMessages:
    """Those of one event loop."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._left = at_once

    def takes(self, size: int) -> bool:
        """Whether a message of so many bytes may be delivered in this turn of the loop; it counts then."""
        if self._left <= 0:
            return False
        if self._left == self._at_once:
            asyncio.get_running_loop().call_soon(self._next)
        self._left -= size
        return True

    def _next(self) -> None:
        self._left = self._at_once


_of_loops: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, LargeMessages]] = WeakKeyDictionary()


def large_messages() -> LargeMessages:
    """The running event loop's."""
    return _of_loops.setdefault(asyncio.get_running_loop(), LargeMessages())
