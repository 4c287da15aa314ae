"""Places for work that goes on at once: taken without waiting where one is free, else given in the order of asking."""

import asyncio
from collections import deque


class Slots:
    """`count` places. `take` one before the work and `give` it back after it."""

    def __init__(self, count: int) -> None:
        self._count = count
        # Below 0 while more is under way than there are places since `resize`.
        self._free = count
        # Bounded by whoever takes: it reads no more than there is room for.
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take_now(self) -> bool:
        """Take a place if one is free and nobody waits for it; tells whether it did."""
        if self._free <= 0 or self._waiting:
            return False
        self._free -= 1
        return True

    async def take(self) -> None:
        """Take a place, once there is one."""
        if self.take_now():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was given a place in the same turn of the loop
                self.give()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def give(self) -> None:
        """Give a place back: to who has waited longest."""
        self._free += 1
        self._hand_on()

    def resize(self, count: int) -> None:
        """Have `count` places from now on; what is under way keeps its own."""
        self._free += count - self._count
        self._count = count
        self._hand_on()

    def _hand_on(self) -> None:
        while self._free > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self._free -= 1
                turn.set_result(None)
