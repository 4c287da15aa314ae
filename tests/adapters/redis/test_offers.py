"""What a gateway knows of the tools that workers offer, and what counts as offered."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from support.tasks import running
from support.waiting import wait_until
from voicebus.adapters.redis import offers as offers_module
from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.heartbeat import Heartbeat
from voicebus.adapters.redis.offers import Offers
from voicebus.adapters.redis.registry import BASIC_KEPT_S, ToolRegistry
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import ToolRegistration
from voicebus.errors import UserError

OLD, NEW, OTHER = "host-1-aaaaaa", "host-2-bbbbbb", "host-3-cccccc"
BASIC = "plain-worker"


def registration(name: str = "price", version: str = "1", *, queue: str = "q", **properties: Any) -> ToolRegistration:
    parameters = {"type": "object", "properties": properties}
    return ToolRegistration(
        name=name, description="", parameters=parameters, queue=queue, version=version, timeout_ms=1000, at=0
    )


@asynccontextmanager
async def beating(redis_url: str, keys: Keys, *workers: str) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for worker in workers:
            heartbeat = Heartbeat(redis_url, keys.worker(worker), dict)
            await heartbeat.start()
            stack.push_async_callback(heartbeat.stop)
        yield


@pytest.fixture
def registry(bus: RedisConnection, clock: RedisClock, keys: Keys) -> ToolRegistry:
    return ToolRegistry(bus, keys, clock)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offers_module, "EVERY_S", 0.02)
    monkeypatch.setattr(offers_module, "VANISHED_AFTER_S", 0.1)


# --- versions -------------------------------------------------------------------------------------


async def test_the_newest_version_that_lives_is_the_one_that_is_offered(
    registry: ToolRegistry, redis_url: str, keys: Keys
) -> None:
    async with beating(redis_url, keys, OLD):
        await registry.publish(registration(version="9", nights={}), worker=OLD)
        async with beating(redis_url, keys, NEW, OTHER):
            await registry.publish(registration(version="10", rooms={}), worker=NEW)
            await registry.publish(registration(version="9", nights={}), worker=OTHER)  # restarted meanwhile
            await registry.publish(registration(version="10", rooms={}), worker=NEW)
            found = (await registry.survey())["price"]
            assert (found.version, found.workers) == ("10", [NEW])
            [older] = (await registry.lookup(["price"]))["price"].older
            assert (older.version, older.workers) == ("9", [OLD, OTHER])
            assert await registry.offered("price", version="10")
            assert not await registry.offered("price", version="10.1")
            assert await registry.offered("price", version="10", older=True)
            assert not await registry.offered("price", version="9", older=True)
        # Rolled back, the new ones by a crash: the old version counts again without anybody registering.
        found = (await registry.survey())["price"]
        assert (found.version, found.workers) == ("9", [OLD])


async def test_a_worker_that_leaves_leaves_the_version_of_the_others(
    registry: ToolRegistry, redis_url: str, keys: Keys
) -> None:
    async with beating(redis_url, keys, OLD, NEW):
        await registry.publish(registration(nights={}), worker=OLD)
        await registry.publish(registration(version="2", rooms={}), worker=NEW)
        await registry.withdraw("price", worker=NEW)
        assert (await registry.lookup(["price"]))["price"].version == "1"
        await registry.withdraw("price", worker=OLD)
        known = (await registry.lookup(["price"]))["price"]
        assert (known.version, known.workers) == ("1", [])
        assert await registry.survey() == {}


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (registration(rooms={}), "version 1, and by this worker"),
        (registration(version="1.0", rooms={}), "version 1.0"),
        (registration(version="2", rooms={}, queue="elsewhere"), "queue 'elsewhere'"),
    ],
)
async def test_what_is_no_newer_version_of_the_same_tool_is_refused_with_both_workers(
    registry: ToolRegistry, redis_url: str, keys: Keys, second: ToolRegistration, why: str
) -> None:
    async with beating(redis_url, keys, OLD, NEW):
        await registry.publish(registration(nights={}), worker=OLD)
        with pytest.raises(UserError, match=f"'price'.*{OLD}.*{NEW}") as refused:
            await registry.publish(second, worker=NEW)
        assert why in str(refused.value)


# --- workers without heartbeats -------------------------------------------------------------------


async def test_a_worker_without_heartbeats_counts_for_some_minutes_after_it_registered(
    registry: ToolRegistry, bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    async def put(workers: list[str], age_s: float) -> None:
        entry = registration().model_copy(update={"workers": workers, "at": clock.at_ms() - round(age_s * 1000)})
        await bus.call("HSET", keys.registry_tools, "price", entry.model_dump_json())

    await put([BASIC], BASIC_KEPT_S - 60)
    assert (await registry.survey())["price"].workers == [BASIC]
    await put([BASIC], BASIC_KEPT_S + 1)
    assert await registry.survey() == {}
    await put([OLD], 0)  # whoever promises heartbeats is believed by them alone
    assert await registry.survey() == {}


# --- following ------------------------------------------------------------------------------------


class Follower:
    def __init__(self, registry: ToolRegistry) -> None:
        self.wanted = True
        self.seen: list[Mapping[str, ToolRegistration]] = []
        self.offers = Offers(registry, wanted=lambda: self.wanted, follow=self._follow)

    def _follow(self, tools: Mapping[str, ToolRegistration]) -> None:
        if not self.seen or self.seen[-1] is not tools:
            self.seen.append(tools)

    @property
    def names(self) -> list[list[str]]:
        return [sorted(tools) for tools in self.seen]


async def test_followers_learn_of_new_changed_and_vanished_tools_and_of_nothing_else(
    registry: ToolRegistry, redis_url: str, keys: Keys
) -> None:
    follower = Follower(registry)
    async with running(follower.offers.run()):
        await wait_until(lambda: follower.names == [[]], description="the first reading")
        async with beating(redis_url, keys, OLD, NEW):
            await registry.publish(registration(nights={}), worker=OLD)
            await wait_until(lambda: len(follower.seen) == 2, description="the new tool")
            await registry.publish(registration(nights={}), worker=NEW)  # one more worker is no change
            await registry.publish(registration(version="2", rooms={}), worker=NEW)
            await wait_until(lambda: len(follower.seen) == 3, description="the newer version")
            await registry.withdraw("price", worker=NEW)
            await wait_until(lambda: len(follower.seen) == 4, description="the older version")
            await registry.withdraw("price", worker=OLD)
            await wait_until(lambda: len(follower.seen) == 5, description="the end of the tool")
    assert follower.names == [[], ["price"], ["price"], ["price"], []]
    assert [tools["price"].version for tools in follower.seen[1:4]] == ["1", "2", "1"]


async def test_a_tool_that_is_back_soon_was_never_gone(
    registry: ToolRegistry, redis_url: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offers_module, "VANISHED_AFTER_S", 60.0)
    follower = Follower(registry)
    async with beating(redis_url, keys, OLD), running(follower.offers.run()):
        await registry.publish(registration(), worker=OLD)
        await wait_until(lambda: follower.names[-1:] == [["price"]], description="the tool")
        await registry.withdraw("price", worker=OLD)
        await registry.publish(registration("taxi"), worker=OLD)
        await wait_until(lambda: follower.names[-1] == ["price", "taxi"], description="another reading")


async def test_nothing_is_read_for_nobody(registry: ToolRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = 0
    survey = registry.survey

    async def counted() -> dict[str, ToolRegistration]:
        nonlocal readings
        readings += 1
        return await survey()

    monkeypatch.setattr(registry, "survey", counted)
    follower = Follower(registry)
    follower.wanted = False
    async with running(follower.offers.run()):
        await asyncio.sleep(0.1)
        assert readings == 0
        await asyncio.gather(*(follower.offers.current() for _ in range(20)))
        assert readings == 1, "whoever asks at the same time shares one reading"
