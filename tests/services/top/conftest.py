"""One connection to a real Redis, and keys of this test's own."""

from collections.abc import AsyncIterator

import pytest

from voicebus.adapters.redis.client import RedisConnection, connect


@pytest.fixture
async def bus(redis_url: str) -> AsyncIterator[RedisConnection]:
    async with await connect(redis_url) as connection:
        yield connection
