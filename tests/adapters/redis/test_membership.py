"""A worker on the bus: what it makes of what it hears of Redis."""

import pytest

from support.masters import another_is_the_master
from support.waiting import wait_until
from voicebus.adapters.redis.contact import Contact
from voicebus.adapters.redis.membership import joined
from voicebus.contracts.streams import Keys


async def test_a_worker_judges_nobody_for_a_while_once_another_redis_server_is_the_master(
    redis_url: str, stream_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broke: list[str | None] = []
    monkeypatch.setattr(Contact, "broke", lambda _, server=None: broke.append(server))
    async with joined(redis_url, Keys(stream_prefix), service="tried", describe=dict):
        another_is_the_master(monkeypatch)
        await wait_until(lambda: None in broke, description="the change to be noticed")
