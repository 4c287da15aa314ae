"""Entries on their way to a stream: what is given up, and what holds nothing else up."""

import asyncio

from support.tasks import running
from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.dispatch import new_entry
from voicebus.adapters.redis.outbox import Outbox
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import TOOL_PROGRESS, ToolProgress
from voicebus.ports import SessionRef


async def test_an_entry_that_redis_refuses_for_good_is_given_up_and_holds_nothing_else_up(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    await bus.call("SET", keys.inbox("text"), "no stream", "EX", 60)
    outbox = Outbox(bus, clock, service="tool-worker")
    entry = new_entry(SessionRef("s1", 1), TOOL_PROGRESS, ToolProgress(call_id="c1", text="half"), clock)
    async with running(outbox.run()), asyncio.timeout(10):
        await asyncio.gather(
            outbox.deliver(keys.inbox("text"), entry, ttl_s=60), outbox.deliver(keys.inbox("g1"), entry, ttl_s=60)
        )
    assert len(outbox) == 0
    assert await bus.call("XLEN", keys.inbox("g1")) == 1
