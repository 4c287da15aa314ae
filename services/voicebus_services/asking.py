"""Commands to sessions from a command line: written to their gateways' inboxes, and their answers heard."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.commanding import RedisCommands
from voicebus.adapters.redis.heartbeat import new_incarnation
from voicebus.adapters.redis.inbox import RedisInbox
from voicebus.adapters.redis.outbox import Outbox
from voicebus.contracts.streams import Keys


@asynccontextmanager
async def asking(bus: RedisConnection, keys: Keys, clock: RedisClock, *, service: str) -> AsyncIterator[RedisCommands]:
    """What sends commands, and hears what comes of them, for as long as this is open."""
    me = new_incarnation()
    outbox = Outbox(bus, clock, service=service)
    commands = RedisCommands(bus, outbox, clock, keys, me)
    inbox = RedisInbox(bus, keys, me, service=service, commands=commands)
    reading = [asyncio.create_task(each.run(), name=name) for each, name in ((outbox, "outbox"), (inbox, "inbox"))]
    try:
        yield commands
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        await bus.call("DEL", inbox.stream)
