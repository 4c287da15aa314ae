"""Retry policies: which tools are tried again, how often, when, and after what."""

import asyncio
from typing import Any

import pytest

from support.tool_calls import Caller
from support.waiting import wait_until
from voicebus import FunctionTool, RetryPolicy, ToolContext, ToolWorker, UserError, function_tool
from voicebus.agents.tools.invoke import invoke
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import Outcome

QUICK = RetryPolicy(attempts=3, backoff=0.001)


class Shaky:
    """A tool that raises as often as it is told, and notes the attempts."""

    def __init__(self, *failures: Exception, retry: RetryPolicy | None = QUICK, is_async: bool = True) -> None:
        self.attempts: list[int] = []
        self.failing = list(failures)

        def look(context: ToolContext[Any], n: int = 0) -> str:
            """Look."""
            self.attempts.append(context.attempt)
            if self.failing:
                raise self.failing.pop(0)
            return context.idempotency_key

        async def look_async(context: ToolContext[Any], n: int = 0) -> str:
            """Look."""
            return look(context, n)

        make = function_tool(queue="default", idempotent=True, retry=retry, name_override="look")
        self.tool: FunctionTool = make(look_async if is_async else look)


async def run(tool: FunctionTool, arguments: str = "{}", *, limit: float = 5, **more: Any) -> Any:
    context = ToolContext(None, tool_name=tool.name, tool_call_id="c1", tool_arguments=arguments, session="s1")
    return await invoke(tool, context, arguments, timeout=limit, **more)


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_tool_that_raised_is_tried_again_under_the_same_key(is_async: bool) -> None:
    shaky = Shaky(OSError("down"), OSError("down"), is_async=is_async)
    told = await run(shaky.tool)
    assert (told.outcome, told.output, shaky.attempts) == (Outcome.OK, "s1:c1", [1, 2, 3])


async def test_the_last_error_is_the_answer_once_the_attempts_are_used_up() -> None:
    shaky = Shaky(OSError("one"), OSError("two"), OSError("three"), OSError("four"))
    told = await run(shaky.tool)
    assert told.outcome is Outcome.ERROR
    assert "three" in told.output
    assert shaky.attempts == [1, 2, 3]


async def test_a_tool_without_a_policy_is_tried_once() -> None:
    shaky = Shaky(OSError("down"), retry=None)
    assert (await run(shaky.tool)).outcome is Outcome.ERROR
    assert shaky.attempts == [1]


@pytest.mark.parametrize(
    ("on", "tried"),
    [
        (OSError, 2),
        ((ValueError, ConnectionError), 2),
        (ValueError, 1),
        (lambda error: "reset" in str(error), 2),
        (lambda error: "other" in str(error), 1),
        (lambda error: error.no_such_thing, 1),
    ],
)
async def test_only_the_errors_that_it_names_are_worth_another_attempt(on: Any, tried: int) -> None:
    shaky = Shaky(ConnectionResetError("reset by peer"), retry=RetryPolicy(backoff=0, on=on))
    await run(shaky.tool)
    assert len(shaky.attempts) == tried


async def test_arguments_that_do_not_fit_are_not_tried_again() -> None:
    shaky = Shaky()
    told = await run(shaky.tool, '{"n": "many"}')
    assert told.error is not None
    assert told.error.kind == "invalid_arguments"
    assert shaky.attempts == []


async def test_no_attempt_is_waited_for_that_would_start_after_the_deadline() -> None:
    shaky = Shaky(OSError("down"), retry=RetryPolicy(backoff=60, max_backoff=60, jitter=0))
    started = asyncio.get_running_loop().time()
    told = await run(shaky.tool, limit=20)
    assert told.outcome is Outcome.ERROR  # and not a time-out, 20 s later
    assert asyncio.get_running_loop().time() - started < 15
    assert shaky.attempts == [1]


async def test_a_call_that_may_not_start_again_ends_with_its_last_error() -> None:
    shaky = Shaky(OSError("one"), OSError("two"))
    asked: list[int] = []

    async def again(attempt: int) -> int | None:
        asked.append(attempt)
        return None

    told = await run(shaky.tool, again=again)
    assert "one" in told.output
    assert (asked, shaky.attempts) == ([2], [1])


def test_waits_grow_up_to_a_limit_and_leave_a_part_to_chance() -> None:
    policy = RetryPolicy(attempts=10, backoff=1, factor=2, max_backoff=5, jitter=0.5)
    waits = [policy.wait(OSError(), attempt, chance=0) for attempt in range(1, 6)]
    assert waits == [1, 2, 4, 5, 5]
    assert policy.wait(OSError(), 3, chance=1) == 2
    assert policy.wait(OSError(), 10, chance=0) is None
    assert RetryPolicy(attempts=100, factor=1e200).wait(OSError(), 99, chance=0) == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"attempts": 1.5},
        {"attempts": True},
        {"attempts": 101},
        {"backoff": -1},
        {"backoff": float("inf")},
        {"factor": 0.5},
        {"max_backoff": "5"},
        {"jitter": 1.5},
        {"on": "OSError"},
        {"on": ()},
        {"on": BaseException},
    ],
)
def test_a_policy_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"RetryPolicy: {next(iter(wrong))} must be"):
        RetryPolicy(**wrong)


def test_only_a_tool_that_may_start_again_has_a_policy() -> None:
    with pytest.raises(UserError, match=r"tool 'look': retry .* add idempotent=True"):
        function_tool(retry=QUICK, name_override="look")(lambda: "x")
    with pytest.raises(UserError, match="tool 'look': retry must be a RetryPolicy or None, not 3"):
        function_tool(idempotent=True, retry=3, name_override="look")(lambda: "x")  # type: ignore[call-overload]


# --- on a worker -------------------------------------------------------------------------------------


async def test_each_attempt_on_a_worker_is_claimed_and_told(redis_url: str, keys: Keys, caller: Caller) -> None:
    shaky = Shaky(OSError("down"))
    async with ToolWorker([shaky.tool], redis_url=redis_url, stream_prefix=keys.prefix):
        caller.call("look", idempotent=True)
        assert (await caller.result()).output == "s1:c1"
    starts = [entry.data["attempt"] for entry in caller.received if entry.type == "tool.started"]
    record = await caller.bus.call("HMGET", keys.call("default", "s1", "c1"), "attempt", "history")
    assert (shaky.attempts, starts, record[0]) == ([1, 2], [1, 2], "2")
    assert len(record[1].splitlines()) == 2


async def test_a_cancelled_call_is_not_tried_again(redis_url: str, keys: Keys, caller: Caller) -> None:
    shaky = Shaky(*[OSError("down")] * 50, retry=RetryPolicy(attempts=100, backoff=0.05, factor=1))
    async with ToolWorker([shaky.tool], redis_url=redis_url, stream_prefix=keys.prefix):
        caller.call("look", idempotent=True)
        started = await caller.started()
        caller.cancel(worker=started.worker)
        assert (await caller.result()).outcome is Outcome.CANCELLED
        so_far = len(shaky.attempts)
        caller.call("look", call_id="c2", idempotent=True)
        await wait_until(lambda: len(shaky.attempts) > so_far, description="another call's attempts")
        assert shaky.attempts[so_far] == 1
        caller.cancel("c2")
        await caller.result("c2")
