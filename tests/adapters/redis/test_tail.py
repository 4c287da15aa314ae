"""The reader of one stream, beside a loop that has much to do."""

import asyncio
import itertools
import time
from typing import Any

from voicebus.adapters.redis.former import FormerInboxes
from voicebus.adapters.redis.portions import ALL_BYTES, FIRST, MOST
from voicebus.adapters.redis.tail import StreamTail
from voicebus.contracts.streams import Keys

STREAM = "vb:inbox:{g}"


class Bus:
    """Brings one entry, then none."""

    def __init__(self) -> None:
        self.reads = 0
        self.asked_again = asyncio.Event()

    async def call(self, *_: Any) -> int:
        return 1

    async def read_blocking(self, *_: Any) -> Any:
        self.reads += 1
        if self.reads == 1:
            return [(STREAM, [("1-0", {})])]
        self.asked_again.set()
        return await asyncio.Event().wait()


async def test_where_turns_of_the_loop_are_long_the_next_entry_does_not_wait_for_several() -> None:
    bus: Any = Bus()
    turns: list[int] = []
    loop = asyncio.get_running_loop()

    def much_to_do() -> None:
        time.sleep(0.003)
        turns.append(bus.reads)
        if not bus.asked_again.is_set():
            loop.call_soon(much_to_do)

    async def route(_: str, fields: dict[str, str]) -> None:
        loop.call_soon(much_to_do)

    reading = asyncio.create_task(StreamTail(bus, STREAM, route, ttl_s=60, service="test").run())
    await bus.asked_again.wait()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert turns.count(1) == 1, "one turn for what the entry caused, and the next read"


class Backlog:
    """Brings as many entries as are asked for, each of this size; then of the next size. Then it has no more."""

    def __init__(self, *sizes: int, reads: int) -> None:
        self._sizes = [size for size in sizes for _ in range(reads)]
        self._ids = itertools.count(1)
        self.asked: list[int] = []
        self.emptied = asyncio.Event()

    async def call(self, *command: Any) -> Any:
        return await self.read_blocking(*command) if command[0] == "XREAD" else 1

    async def read_blocking(self, *command: Any) -> Any:
        if not self._sizes:
            self.emptied.set()
            return await asyncio.Event().wait()
        count = command[command.index("COUNT") + 1]
        self.asked.append(count)
        fields = {"session": "s", "data": "x" * (self._sizes.pop(0) - 1)}
        return [(STREAM, [(f"{next(self._ids)}-0", fields) for _ in range(count)])]


async def test_of_answers_that_are_large_an_inbox_is_read_a_few_at_a_time() -> None:
    bus: Any = Backlog(ALL_BYTES // 4, 100, reads=9)
    routed: list[str] = []

    async def route(entry_id: str, _: dict[str, str]) -> None:
        routed.append(entry_id)

    reading = asyncio.create_task(StreamTail(bus, STREAM, route, ttl_s=60, service="test").run())
    await bus.emptied.wait()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert bus.asked[:3] == [FIRST, 4, 4]
    assert bus.asked[-1] == MOST, "small ones are read by hundreds again"
    assert routed == [f"{number}-0" for number in range(1, sum(bus.asked) + 1)], "each once, in order"


async def test_so_is_that_of_a_sessions_former_owner() -> None:
    bus: Any = Backlog(ALL_BYTES // 4, reads=3)
    brought = 0

    async def late(_: Any) -> None:
        nonlocal brought
        brought += 1

    inboxes = FormerInboxes(bus, Keys("vb", 16, 4), late)
    inboxes.follow("gone", "s")
    await bus.emptied.wait()
    await inboxes.aclose()
    assert (bus.asked, brought) == ([FIRST, 4, 4], FIRST + 8)
