"""How long the registry knows a tool."""

import pytest

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.heartbeat import Heartbeat
from voicebus.adapters.redis.registry import ToolRegistry
from voicebus.contracts.streams import REGISTRATION_KEPT_S, Keys
from voicebus.contracts.tools import ToolRegistration

LIVING, GONE = "host-1-aaaaaa", "host-2-bbbbbb"


def registration(name: str) -> ToolRegistration:
    return ToolRegistration(name=name, description="", parameters={}, queue="default", timeout_ms=1000, at=0)


async def test_a_tool_is_forgotten_a_day_after_its_last_worker(
    bus: RedisConnection, clock: RedisClock, keys: Keys, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = ToolRegistry(bus, keys, clock)
    heartbeat = Heartbeat(redis_url, keys.worker(LIVING), dict)
    await heartbeat.start()
    try:
        await registry.publish(registration("offered"), worker=LIVING)
        await registry.publish(registration("crashed"), worker=GONE)
        await registry.publish(registration("withdrawn"), worker=GONE)
        await registry.withdraw("withdrawn", worker=GONE)
        assert await registry.tidy() == []  # agents may still be resolved while a worker is exchanged

        later = clock.at_ms() + REGISTRATION_KEPT_S * 1000 + 1_000
        monkeypatch.setattr(clock, "at_ms", lambda: later)
        await registry.publish(registration("new"), worker=GONE)
        assert sorted(await registry.tidy()) == ["crashed", "withdrawn"]
        assert set(await bus.call("HKEYS", keys.registry_tools)) == {"offered", "new"}
    finally:
        await heartbeat.stop()
