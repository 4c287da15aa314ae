"""Telling that a call has started: after a short while, as most calls have ended by then and are told by their result.

One timer is for all of them, as setting and cancelling one for each costs as much as reading the call.
"""

import asyncio
from collections.abc import Callable
from typing import Final

# What ends sooner is told by its result alone.
TELL_START_S: Final = 0.002


class Starts:
    """The calls of a worker that were begun, and of which that is not told yet. On one event loop."""

    def __init__(self) -> None:
        # When each is due, in this order: all wait equally long.
        self._begun: dict[Callable[[], None], float] = {}
        self._timer: asyncio.Handle | None = None

    def begun(self, tell: Callable[[], None]) -> None:
        """Have `tell` called in `TELL_START_S`, unless the call has `ended` before."""
        loop = asyncio.get_running_loop()
        self._begun[tell] = loop.time() + TELL_START_S
        if self._timer is None:
            self._timer = loop.call_later(TELL_START_S, self._after_this_turn)

    def ended(self, tell: Callable[[], None]) -> bool:
        """Nobody need be told any more; returns whether that was still to be done."""
        return self._begun.pop(tell, None) is not None

    def _after_this_turn(self) -> None:
        # A loop that is busy comes late to this, and may be about to go on with calls that have ended long since; and
        # those that begin in this turn, however long it takes, have had no other to end in.
        loop = asyncio.get_running_loop()
        self._timer = loop.call_soon(self._tell, loop.time())

    def _tell(self, now: float) -> None:
        self._timer = None
        while self._begun:
            tell, due = next(iter(self._begun.items()))
            if due > now:
                self._timer = asyncio.get_running_loop().call_at(due, self._after_this_turn)
                return
            del self._begun[tell]
            tell()
