"""Somebody who lives, as far as their heartbeats tell."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from voicebus.adapters.redis.heartbeat import Heartbeat


@asynccontextmanager
async def beating(redis_url: str, key: str, **fields: str) -> AsyncIterator[None]:
    """For the length of the block the heartbeat `key` is there, with these fields."""
    heartbeat = Heartbeat(redis_url, key, lambda: fields)
    await heartbeat.start()
    try:
        yield
    finally:
        await heartbeat.stop()
