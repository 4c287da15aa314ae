"""What the registry knows of a tool, by whom, and for how long."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.heartbeat import Heartbeat
from voicebus.adapters.redis.registry import ToolRegistry
from voicebus.contracts.streams import REGISTRATION_KEPT_S, Keys
from voicebus.contracts.tools import ToolRegistration
from voicebus.errors import UserError

LIVING, GONE = "host-1-aaaaaa", "host-2-bbbbbb"


def registration(name: str, **said: Any) -> ToolRegistration:
    plain: dict[str, Any] = {"description": "", "parameters": {}, "queue": "default", "timeout_ms": 1000, "at": 0}
    return ToolRegistration(name=name, **plain | said)


@asynccontextmanager
async def beating(redis_url: str, keys: Keys, worker: str) -> AsyncIterator[None]:
    heartbeat = Heartbeat(redis_url, keys.worker(worker), dict)
    await heartbeat.start()
    try:
        yield
    finally:
        await heartbeat.stop()


async def test_a_tool_is_forgotten_a_day_after_its_last_worker(
    bus: RedisConnection, clock: RedisClock, keys: Keys, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = ToolRegistry(bus, keys, clock)
    async with beating(redis_url, keys, LIVING):
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


async def test_a_worker_that_registers_by_a_clock_of_its_own_is_told_of_with_each_registration(
    bus: RedisConnection, clock: RedisClock, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    registry = ToolRegistry(bus, keys, clock)

    async def told(seconds: int, *, worker: str = "depot-node") -> int:
        caplog.clear()
        said = registration("stock", workers=[worker], at=clock.at_ms() + seconds * 1000)
        await bus.call("HSET", keys.registry_tools, "stock", said.model_dump_json())
        for _ in range(3):
            await registry.survey()
        return sum("registered by another clock than Redis'" in message for message in caplog.messages)

    assert await told(-3600) == 0, "an hour ago, as far as anybody knows"
    assert await told(-3580) == 1
    assert await told(3600) == 1
    assert await told(0) == 0
    assert await told(-400) == 0, "it has begun anew, and was not heard of for a while"
    assert await told(3600, worker=LIVING) == 0


async def test_of_workers_that_say_it_differently_the_last_to_begin_counts_as_long_as_it_lives(
    bus: RedisConnection, clock: RedisClock, keys: Keys, redis_url: str
) -> None:
    registry = ToolRegistry(bus, keys, clock)
    old, new = (registration("stock", description=text, needs_approval=text == "new") for text in ("old", "new"))

    async def known() -> tuple[str, bool, list[str]]:
        found = (await registry.survey())["stock"]
        return found.description, found.needs_approval, found.workers

    async with beating(redis_url, keys, LIVING):
        async with beating(redis_url, keys, GONE):
            await registry.publish(old, worker=LIVING)
            await registry.publish(new, worker=GONE)
            for _ in range(2):  # as each does every few seconds
                await registry.publish(old, worker=LIVING, again=True)
                assert await known() == ("new", True, [LIVING, GONE])
                await registry.publish(new, worker=GONE, again=True)
                assert await known() == ("new", True, [LIVING, GONE])
        await registry.publish(old, worker=LIVING, again=True)
        assert await known() == ("old", False, [LIVING])


async def test_schemas_that_differ_in_words_are_of_one_tool_and_others_are_refused_with_both_workers_named(
    bus: RedisConnection, clock: RedisClock, keys: Keys, redis_url: str
) -> None:
    def takes(**item: str) -> dict[str, Any]:
        return {"type": "object", "properties": {"item": item}, "required": ["item"]}

    registry = ToolRegistry(bus, keys, clock)
    async with beating(redis_url, keys, LIVING), beating(redis_url, keys, GONE):
        await registry.publish(registration("stock", parameters=takes(type="string")), worker=LIVING)
        worded = takes(type="string", description="What is asked for.")
        await registry.publish(registration("stock", parameters=worded), worker=GONE)
        found = (await registry.survey())["stock"]
        assert (found.parameters, found.workers) == (worded, [LIVING, GONE])
        other = registration("stock", parameters=takes(type="integer"))
        with pytest.raises(UserError, match=f"by worker {LIVING} .* and by this worker host-3-cccccc"):
            await registry.publish(other, worker="host-3-cccccc")
