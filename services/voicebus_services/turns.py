"""Whose turn it is: of many who come in one moment only a few are served in a turn of the event loop.

A request is the work of a third of a millisecond, a thousand of them that of a third of a second, in which no sound of
any call would be forwarded.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE: Final = 16


class Turns:
    """Lets `at_once` of those who wait go on in each turn of the loop, in the order in which they came."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._left = at_once
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def mine(self) -> None:
        """Return once it is one's turn, which is at once where nobody waits."""
        if self._waiting or not self._left:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        else:
            self._take()

    def before(self, does: Callable[[T], Awaitable[R]]) -> Callable[[T], Awaitable[R]]:
        """What waits for its turn before it `does` this."""

        async def in_turn(asked: T) -> R:
            await self.mine()
            return await does(asked)

        return in_turn

    def _take(self) -> None:
        if self._left == self._at_once:
            asyncio.get_running_loop().call_soon(self._next)
        self._left -= 1

    def _next(self) -> None:
        self._left = self._at_once
        while self._waiting and self._left:
            turn = self._waiting.popleft()
            if not turn.done():  # else whoever waited has gone
                self._take()
                turn.set_result(None)
