"""`ToolWorker.offer`: tools that come and change while a worker runs are bounded and watched as those before them."""

import time

import pytest
from prometheus_client import REGISTRY

from support.counting import Counting, quick
from support.tool_calls import Caller, worker
from support.waiting import wait_until
from voicebus import CircuitBreaker, FunctionTool, UserError, function_tool
from voicebus.adapters.redis.circuits import CircuitWatch
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import Outcome, ToolResult


async def test_a_tool_that_is_offered_later_runs_as_often_at_once_as_it_may(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    counting = Counting()
    async with worker(redis_url, keys, quick, concurrency=4) as offering:
        await offering.offer([quick, counting.tool(concurrency=2)])
        for n in range(5):
            caller.call("count", call_id=f"c{n}")
        await wait_until(lambda: counting.running == 2, description="two of them")
        for n in range(5):
            caller.call("quick", call_id=f"q{n}")
        assert [(await caller.result(f"q{n}")).output for n in range(5)] == ["quick"] * 5
        assert counting.starts == 2
        counting.go.set()
        assert [(await caller.result(f"c{n}")).outcome for n in range(5)] == [Outcome.OK] * 5


async def test_a_limit_that_changes_counts_what_runs_already(redis_url: str, keys: Keys, caller: Caller) -> None:
    counting = Counting()
    async with worker(redis_url, keys, quick, counting.tool(concurrency=2)) as offering:
        for n in range(4):
            caller.call("count", call_id=f"c{n}")
        await wait_until(lambda: counting.running == 2, description="two of them")
        await offering.offer([quick, counting.tool(concurrency=3)])
        await wait_until(lambda: counting.running == 3, description="a third")
        await offering.offer([quick, counting.tool()])
        await wait_until(lambda: counting.running == 4, description="all")
        counting.go.set()
        assert [(await caller.result(f"c{n}")).outcome for n in range(4)] == [Outcome.OK] * 4


async def test_a_rate_that_was_used_up_stays_so_when_the_tool_is_offered_again(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    counting = Counting()
    counting.go.set()

    async def outcomes(name: str) -> list[Outcome]:
        for n in range(3):
            caller.call("count", call_id=f"{name}{n}", timeout_ms=1500)
        return sorted([(await caller.result(f"{name}{n}")).outcome for n in range(3)])

    async with worker(redis_url, keys, quick) as offering:
        await offering.offer([quick, counting.tool(rate_limit="2/h")])
        assert await outcomes("a") == [Outcome.EXPIRED, Outcome.OK, Outcome.OK]
        await offering.offer([quick, counting.tool(rate_limit="2/h")])
        assert await outcomes("b") == [Outcome.EXPIRED] * 3
        await offering.offer([quick, counting.tool(rate_limit="5/h")])
        assert await outcomes("c") == [Outcome.OK] * 3


async def test_the_breaker_of_a_tool_that_is_offered_later_counts_and_one_that_lost_it_is_let_go(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    broken = True

    async def shop() -> str:
        """Shop."""
        if broken:
            raise OSError("closed")
        return "sold"

    def tool(breaker: CircuitBreaker | None) -> FunctionTool:
        return function_tool(queue="default", circuit_breaker=breaker)(shop)

    async def buy(name: str) -> ToolResult:
        caller.call("shop", call_id=name)
        return await caller.result(name)

    watch = CircuitWatch(caller.bus, keys, caller.clock)
    async with worker(redis_url, keys, quick) as offering:
        await offering.offer([quick, tool(CircuitBreaker(failures=2, recovery=60))])
        for n in range(2):
            await buy(f"c{n}")
        found = await wait_until(watch.read, description="the open circuit")
        assert found["shop"].failures == 2
        await offering.offer([quick, tool(None)])
        broken = False
        await buy("good")

        async def closed() -> bool:
            return not await watch.read()

        await wait_until(closed, description="the closed circuit")


async def test_a_tool_that_is_offered_later_is_named_when_it_blocks_the_loop(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    async def count() -> str:
        """Sleep where nobody should."""
        time.sleep(0.6)  # noqa: ASYNC251 - that is what is found
        return "slept"

    def seconds() -> float:
        return REGISTRY.get_sample_value("voicebus_tool_loop_blocked_seconds_total", {"tool": "later"}) or 0.0

    before = seconds()
    async with worker(redis_url, keys, quick) as offering:
        await offering.offer([quick, function_tool(queue="default", name_override="later")(count)])
        caller.call("later")
        assert (await caller.result()).output == "slept"
        await wait_until(lambda: seconds() > before, description="the metric")


async def test_a_conflict_of_one_tool_keeps_no_other_from_being_offered(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    def shop(number: int) -> int:
        """Shop."""
        return number

    ours = function_tool(queue="default", name_override="count")(shop)
    async with worker(redis_url, keys, Counting().tool()), worker(redis_url, keys, quick) as offering:
        later = function_tool(queue="default", name_override="later")(shop)
        with pytest.raises(UserError, match="'count'"):
            await offering.offer([quick, ours, later])
        offered = await caller.bus.call("HKEYS", keys.registry_tools)
    assert sorted(offered) == ["count", "later", "quick"]
