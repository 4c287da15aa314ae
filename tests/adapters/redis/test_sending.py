"""Which streams entries are on their way to."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from support.tasks import running
from support.waiting import wait_until
from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.dispatch import new_entry
from voicebus.adapters.redis.sending import Outgoing, Sender
from voicebus.contracts.tools import TOOL_PROGRESS, ToolProgress
from voicebus.ports import SessionRef


class SlowBus:
    """Takes commands once `go` is set, each time anew."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = asyncio.Event()

    async def submit_all(self, commands: Sequence[Any]) -> list[Any]:
        self.asked += 1
        await self.go.wait()
        self.go.clear()
        return ["1-0" for _ in commands]


async def test_a_stream_is_held_until_its_own_entries_are_sent_though_others_always_wait(clock: RedisClock) -> None:
    bus = SlowBus()
    sender = Sender(cast("RedisConnection", bus), clock, lambda item, at: None, service="test")

    def put(stream: str) -> None:
        entry = new_entry(SessionRef("s1", 1), TOOL_PROGRESS, ToolProgress(call_id="c1", text="half"), clock)
        sender.put(Outgoing(stream, entry, None))

    put("a")
    put("b")
    async with running(sender.run()):
        await wait_until(lambda: bus.asked == 1, description="the first to be under way")
        put("a")
        assert sender.holds("a")
        assert sender.holds("b")
        bus.go.set()
        await wait_until(lambda: bus.asked == 2, description="the second")
        assert sender.holds("a")
        assert not sender.holds("b")
