"""Another Redis server as the master, as far as those can see who ask."""

from collections.abc import Mapping
from typing import Any

import pytest

from voicebus.adapters.redis.client import RedisConnection


def another_is_the_master(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on each connection tells of another server than it has told of so far."""

    async def masters(_: RedisConnection) -> Mapping[str, Mapping[str, Any]]:
        return {"": {"run_id": "another"}}

    monkeypatch.setattr(RedisConnection, "masters", masters)
