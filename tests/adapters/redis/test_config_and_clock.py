"""The pinned configuration, and the clock that all processes share."""

import asyncio
import time

import pytest

from support.tasks import running
from support.waiting import wait_until
from voicebus.adapters.redis import clock as clock_module
from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.config import event_groups, keep_pinned, pin_config, register_event_group
from voicebus.adapters.redis.inbox import RedisInbox
from voicebus.adapters.redis.membership import joined
from voicebus.contracts.streams import Keys
from voicebus.errors import SettingsError
from voicebus.ports import Clock


async def test_the_first_service_pins_the_shards_and_others_must_agree(bus: RedisConnection, keys: Keys) -> None:
    await asyncio.gather(*(pin_config(bus, keys) for _ in range(3)))
    with pytest.raises(SettingsError, match=r"^VOICEBUS_EVENT_SHARDS: 8 was read, but .* says 16; set it to 16"):
        await pin_config(bus, Keys(keys.prefix, event_shards=8))
    with pytest.raises(SettingsError, match=r"^VOICEBUS_GUARDRAIL_SHARDS: 2 was read"):
        await pin_config(bus, Keys(keys.prefix, guardrail_shards=2))


async def test_a_redis_that_came_back_empty_is_pinned_again_by_those_that_run(
    bus: RedisConnection, keys: Keys, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicebus.adapters.redis.config.PIN_EVERY_S", 0.02)

    async def pinned() -> bool:
        return bool(await bus.call("HGETALL", keys.config) == {"event_shards": "16", "guardrail_shards": "4"})

    async with joined(redis_url, keys, service="worker", describe=dict):
        await bus.call("DEL", keys.config)
        await wait_until(pinned, description="the worker's pin")
    async with running(RedisInbox(bus, keys, "g1").run()):
        await bus.call("DEL", keys.config)
        await wait_until(pinned, description="the gateway's pin")


async def test_who_runs_on_with_other_shards_says_so_and_goes_on(
    bus: RedisConnection, keys: Keys, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("voicebus.adapters.redis.config.PIN_EVERY_S", 0.02)
    await pin_config(bus, Keys(keys.prefix, event_shards=8))

    def heard() -> bool:
        return caplog.text.count("16 was read") >= 2

    async with running(keep_pinned(bus, keys)):
        await wait_until(heard, description="two complaints")


async def test_event_groups_are_those_that_registered(bus: RedisConnection, keys: Keys) -> None:
    await pin_config(bus, keys)
    assert await event_groups(bus, keys) == frozenset()
    await register_event_group(bus, keys, "archiver")
    assert await event_groups(bus, keys) == {"archiver"}


async def test_the_clock_tells_the_servers_time(bus: RedisConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)  # a pod whose own clock is decades off
    clock = RedisClock(bus)
    _: Clock = clock
    await clock.synchronise()
    before = clock.at_ms()
    seconds, microseconds = await bus.call("TIME")
    server = int(seconds) * 1000 + int(microseconds) // 1000
    assert before - 50 <= server <= clock.at_ms() + 50


async def test_a_clock_that_is_doubted_is_set_at_once_and_not_with_the_next_look(
    bus: RedisConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_module, "REFRESH_S", 3600.0)
    clock = RedisClock(bus)
    await clock.synchronise()
    right = clock._offset_ms
    async with running(clock.keep()):
        clock._offset_ms += 60_000  # the master is another server now, whose clock is a minute behind
        clock.doubt()
        await wait_until(lambda: abs(clock._offset_ms - right) < 1000, description="the new server's time")
