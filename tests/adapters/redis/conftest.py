"""What the tests of the Redis adapter share: a connection, keys and a clock."""

from collections.abc import AsyncIterator

import pytest

from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.adapters.redis.clock import RedisClock


@pytest.fixture
async def bus(redis_url: str) -> AsyncIterator[RedisConnection]:
    async with await connect(redis_url) as connection:
        yield connection


@pytest.fixture
async def clock(bus: RedisConnection) -> RedisClock:
    clock = RedisClock(bus)
    await clock.synchronise()
    return clock
