"""Tools and versions that a worker lacks: the calls reach those that have them, whoever reads them first."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from support.tasks import running
from support.tool_calls import Caller
from support.waiting import wait_until
from voicebus import FunctionTool, ToolWorker, UserError, function_tool
from voicebus.adapters.redis.registry import ToolRegistry
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import Outcome, ToolRegistration


@function_tool(queue="default")
async def other() -> str:
    """Do something else."""
    return "other"


@function_tool(queue="default")
async def rare() -> str:
    """Do what few can."""
    return "done"


@function_tool(queue="default", name_override="greet")
async def greet_1(name: str) -> str:
    """Greet."""
    return f"1: {name}"


@function_tool(queue="default", name_override="greet", version="2")
async def greet_2(name: str, words: str = "Hello") -> str:
    """Greet with words."""
    return f"2: {words} {name}"


@function_tool(queue="default", name_override="greet", version="3")
async def greet_3(first: str, last: str) -> str:
    """Greet by both names."""
    return f"3: {first} {last}"


@pytest.fixture
def worker(redis_url: str, keys: Keys) -> Callable[..., ToolWorker]:
    return lambda *tools: ToolWorker(tools, redis_url=redis_url, stream_prefix=keys.prefix, drain_timeout=10)


async def test_one_worker_among_many_that_lack_the_tool_gets_every_call(
    caller: Caller, worker: Callable[..., ToolWorker]
) -> None:
    async with AsyncExitStack() as workers:
        for _ in range(6):
            await workers.enter_async_context(worker(other))
        await workers.enter_async_context(worker(rare))
        calls = [f"c{n}" for n in range(20)]
        for call in calls:
            caller.call("rare", call_id=call)
        results = [await caller.result(call) for call in calls]
        assert {(result.outcome, result.output) for result in results} == {(Outcome.OK, "done")}
        assert all(len(caller.results(call)) == 1 for call in calls)

        async def done() -> bool:
            return await caller.pending(caller.keys.tools("default")) == 0

        await wait_until(done, description="the last acknowledgement")


async def test_a_worker_that_listens_to_no_handover_is_given_none(
    caller: Caller, worker: Callable[..., ToolWorker]
) -> None:
    """One of another language that has the tool, and beats, but is nowhere to be found: the call fails."""
    tool = ToolRegistration(
        name="rare", description="", parameters={}, queue="default", timeout_ms=1000, workers=["host-1-abcdef"], at=0
    )
    await caller.bus.call("HSET", caller.keys.registry_tools, "rare", tool.model_dump_json())
    await caller.bus.call("HSET", caller.keys.worker("host-1-abcdef"), "tools", '["rare"]')
    await caller.bus.call("EXPIRE", caller.keys.worker("host-1-abcdef"), 5)
    async with worker(other):
        caller.call("rare")
        result = await caller.result()
    assert result.error is not None
    assert result.error.kind == "unknown_tool"


# --- versions -------------------------------------------------------------------------------------


async def test_a_call_of_a_newer_version_is_run_by_no_older_worker(
    caller: Caller, worker: Callable[..., ToolWorker]
) -> None:
    async with AsyncExitStack() as workers:
        for tool in (greet_1, greet_1, greet_1, greet_1, greet_2):
            await workers.enter_async_context(worker(tool))
        for n in range(10):
            caller.call("greet", '{"name": "Ada", "words": "Hi"}', call_id=f"c{n}", version="2")
        assert {(await caller.result(f"c{n}")).output for n in range(10)} == {"2: Hi Ada"}


async def test_a_call_of_an_older_version_runs_on_a_newer_worker_where_it_fits(
    caller: Caller, worker: Callable[..., ToolWorker]
) -> None:
    async with worker(greet_2):
        caller.call("greet", '{"name": "Ada"}', version="1")
        assert (await caller.result()).output == "2: Hello Ada"


async def test_a_call_that_does_not_fit_the_newer_schema_runs_on_an_older_worker_while_there_is_one(
    caller: Caller, worker: Callable[..., ToolWorker]
) -> None:
    async with AsyncExitStack() as workers:
        for tool in (greet_3, greet_3, greet_3, greet_3):
            await workers.enter_async_context(worker(tool))
        async with worker(greet_1):
            for n in range(10):
                caller.call("greet", '{"name": "Ada"}', call_id=f"c{n}", version="1")
            assert {(await caller.result(f"c{n}")).output for n in range(10)} == {"1: Ada"}
        caller.call("greet", '{"name": "Ada"}', call_id="late", version="1")
        result = await caller.result("late")
    assert result.error is not None
    assert result.error.kind == "invalid_arguments"


async def test_a_version_that_nobody_has_yet_fails_at_once(caller: Caller, worker: Callable[..., ToolWorker]) -> None:
    async with worker(greet_1):
        caller.call("greet", '{"name": "Ada"}', version="2")
        result = await caller.result()
    assert result.error is not None
    assert result.error.kind == "unknown_tool"
    assert "version 2" in result.error.message


@pytest.mark.parametrize("version", ["", "v2", "1.x", "1.2.3.4.5", 2, None])
def test_a_version_is_made_of_numbers(version: Any) -> None:
    with pytest.raises(UserError, match=r"version must be a string of numbers such as '2' or '2\.1'"):
        function_tool(name_override="x", version=version)(lambda: "")


async def test_a_rolling_upgrade_under_load_loses_and_mis_runs_nothing(
    caller: Caller, worker: Callable[..., ToolWorker]
) -> None:
    """Calls go on being made while workers are exchanged: by a session that learns of the new schema, and by one that
    has not learnt of it yet.
    """
    registry = ToolRegistry(caller.bus, caller.keys, caller.clock)
    made: dict[str, str] = {}

    async def load() -> None:
        for n in itertools.count():
            offered = "1" if n % 2 else (await registry.survey())["greet"].version
            made[f"c{n}"] = offered
            arguments = '{"name": "Ada"}' if offered == "1" else '{"name": "Ada", "words": "Hi"}'
            caller.call("greet", arguments, call_id=f"c{n}", version=offered, timeout_ms=60_000)
            await asyncio.sleep(0.005)

    async def started(tool: FunctionTool) -> AsyncExitStack:
        stack = AsyncExitStack()
        await stack.enter_async_context(worker(tool))
        return stack

    async def calls_made(count: int) -> None:
        goal = len(made) + count
        await wait_until(lambda: len(made) >= goal, description="some load")

    old = [await started(greet_1) for _ in range(3)]
    new: list[AsyncExitStack] = []
    async with running(load()):
        await calls_made(30)
        for leaving in old:
            new.append(await started(greet_2))
            await calls_made(30)
            await leaving.aclose()
        await calls_made(30)
    ran: Counter[tuple[str, str]] = Counter()
    for call, version in made.items():
        result = await caller.result(call)
        assert result.outcome is Outcome.OK, (call, version, result)
        ran[version, result.output] += 1
        assert len(caller.results(call)) == 1
    for stack in new:
        await stack.aclose()
    assert set(ran) == {("1", "1: Ada"), ("1", "2: Hello Ada"), ("2", "2: Hi Ada")}
