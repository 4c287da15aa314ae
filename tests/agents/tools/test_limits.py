"""Limits of one tool on one worker: how many calls at once, how many in a time, and that others do not wait for it."""

import asyncio
import json
from typing import Any

import pytest

from support.counting import Counting, quick
from support.tool_calls import Caller, worker
from support.waiting import wait_until
from voicebus import UserError, function_tool
from voicebus.agents.tools.rate import Rate
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import Outcome


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/s", Rate(10, 1)),
        ("100/m", Rate(100, 60)),
        ("5/10s", Rate(5, 10)),
        ("1000/h", Rate(1000, 3600)),
        ("0/s", None),
        ("10", None),
        ("10/0s", None),
        ("10/d", None),
        ("1.5/s", None),
        ("٣/s", None),
        (10, None),
    ],
)
def test_rates_are_read(text: object, rate: Rate | None) -> None:
    assert Rate.parse(text) == rate


@pytest.mark.parametrize(
    "wrong", [{"concurrency": 0}, {"concurrency": True}, {"concurrency": 1.5}, {"rate_limit": "10"}, {"rate_limit": 3}]
)
def test_limits_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"tool 'add': {next(iter(wrong))} must be"):
        function_tool(name_override="add", **wrong)(lambda: "x")


async def test_a_tool_runs_as_often_at_once_as_it_may_and_holds_no_other_up(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    counting = Counting()
    async with worker(redis_url, keys, counting.tool(concurrency=2), quick, concurrency=4):
        for n in range(6):
            caller.call("count", call_id=f"c{n}")
        await wait_until(lambda: counting.running == 2, description="two of them")
        for n in range(5):  # more than slots that calls of the slow tool would leave
            caller.call("quick", call_id=f"q{n}")
        assert [(await caller.result(f"q{n}")).output for n in range(5)] == ["quick"] * 5
        assert counting.starts == 2
        counting.go.set()
        assert [(await caller.result(f"c{n}")).outcome for n in range(6)] == [Outcome.OK] * 6
    assert (counting.most, counting.starts) == (2, 6)


async def test_a_call_whose_turn_does_not_come_in_time_is_not_started(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    counting = Counting()
    async with worker(redis_url, keys, counting.tool(concurrency=1)):
        caller.call("count")
        await caller.started()
        caller.call("count", call_id="c2", timeout_ms=200)
        assert (await caller.result("c2")).outcome is Outcome.EXPIRED
        counting.go.set()
        await caller.result()
        caller.call("count", call_id="c3")
        assert (await caller.result("c3")).outcome is Outcome.OK  # the turn that was never taken is free
    assert counting.starts == 2


async def test_a_tool_starts_as_often_in_a_time_as_it_may(redis_url: str, keys: Keys, caller: Caller) -> None:
    counting = Counting()
    counting.go.set()
    async with worker(redis_url, keys, counting.tool(rate_limit="3/h"), quick):
        for n in range(5):
            caller.call("count", call_id=f"c{n}", timeout_ms=1500)
        outcomes = [(await caller.result(f"c{n}")).outcome for n in range(5)]
        assert outcomes.count(Outcome.OK) == 3
        assert outcomes.count(Outcome.EXPIRED) == 2
        caller.call("quick", call_id="q")
        assert (await caller.result("q")).output == "quick"
    assert counting.starts == 3


async def test_calls_that_were_cancelled_while_they_waited_use_up_no_start_of_their_tool(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    counting = Counting()
    counting.go.set()
    async with worker(redis_url, keys, counting.tool(rate_limit="1/s"), concurrency=40):
        caller.call("count")
        assert (await caller.result()).outcome is Outcome.OK
        for n in range(30):
            caller.call("count", call_id=f"c{n}", timeout_ms=60_000)
        for n in range(30):
            caller.cancel(f"c{n}")
        caller.call("count", call_id="wanted", timeout_ms=20_000)
        assert (await caller.result("wanted")).outcome is Outcome.OK
    assert counting.starts < 15, "those alone that had their turn before their cancel was known"


async def test_calls_that_wait_for_their_turn_when_the_worker_stops_are_left_to_others(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    first, second = Counting(), Counting()
    stop = asyncio.Event()
    stopping = asyncio.create_task(worker(redis_url, keys, first.tool(concurrency=1), drain_timeout=0.1).run(stop))
    caller.call("count")
    caller.call("count", call_id="c2")
    await caller.started()
    async with worker(redis_url, keys, second.tool(concurrency=1)):
        stop.set()
        await stopping
        second.go.set()
        assert (await caller.result("c2")).outcome is Outcome.OK
        assert (await caller.result()).outcome is Outcome.UNKNOWN
    assert (first.starts, second.starts) == (1, 1)


async def test_what_is_no_call_waits_for_no_turn(redis_url: str, keys: Keys, caller: Caller) -> None:
    counting = Counting()
    async with worker(redis_url, keys, counting.tool(concurrency=1)):
        for data in ("no json", "[]", json.dumps({"tool": 3})):
            await caller.bus.call("XADD", keys.tools("default"), "*", "v", "1", "data", data)

        async def letters() -> bool:
            return len(await caller.stream(keys.dead("default"))) == 3

        await wait_until(letters, description="the dead letters")
