"""The reader of one stream, beside a loop that has much to do."""

import asyncio
import time
from typing import Any

from voicebus.adapters.redis.tail import StreamTail

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
