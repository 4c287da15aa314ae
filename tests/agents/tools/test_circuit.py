"""Circuit breakers of tools: when one rests, who is told, and how it comes back."""

from typing import Any

import pytest

from support.tool_calls import Caller
from support.waiting import wait_until
from voicebus import CircuitBreaker, ToolWorker, UserError, function_tool
from voicebus.adapters.redis.circuits import Circuit, CircuitWatch
from voicebus.adapters.redis.dispatch import RedisToolDispatch
from voicebus.adapters.redis.refusals import OpenCircuits
from voicebus.agents.tools.circuit import FailureCounts
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import Outcome, ToolResult
from voicebus.engine.outputs import DispatchTool

CALL = DispatchTool("c1", "shop", "{}", "desk", "default", 10_000, idempotent=False)


class Shop:
    """A tool that fails while it is closed."""

    def __init__(self, **options: Any) -> None:
        self.closed = True

        async def shop(n: int = 0) -> str:
            """Shop."""
            if self.closed:
                raise OSError("closed")
            return "sold"

        self.tool: Any = function_tool(queue="default", **options)(shop)


@pytest.mark.parametrize(
    "wrong", [{"failures": 0}, {"failures": True}, {"recovery": 0}, {"recovery": float("inf")}, {"recovery": "1"}]
)
def test_a_breaker_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"CircuitBreaker: {next(iter(wrong))} must be"):
        CircuitBreaker(**wrong)
    with pytest.raises(UserError, match="circuit_breaker must be a CircuitBreaker or None, not 3"):
        function_tool(circuit_breaker=3, name_override="x")(lambda: "x")  # type: ignore[call-overload]


async def fail(caller: Caller, name: str, arguments: str = "{}") -> ToolResult:
    caller.call("shop", arguments, call_id=name)
    return await caller.result(name)


async def test_a_tool_that_fails_again_and_again_rests_and_a_success_ends_that(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    shop = Shop(circuit_breaker=CircuitBreaker(failures=3, recovery=60))
    watch = CircuitWatch(caller.bus, keys, caller.clock)
    async with ToolWorker([shop.tool], redis_url=redis_url, stream_prefix=keys.prefix):
        for n in range(2):
            await fail(caller, f"c{n}")
        await fail(caller, "bad", '{"n": "many"}')  # the model's mistake
        shop.closed = False
        await fail(caller, "good")
        shop.closed = True
        for n in range(2):
            await fail(caller, f"d{n}")
        assert await watch.read() == {}, "not three in a row"
        await fail(caller, "d2")
        found = await wait_until(watch.read, description="the open circuit")
        assert (found["shop"].failures, found["shop"].error, found["shop"].rest_ms) == (3, "closed", 60_000)
        assert watch.rests("shop")
        shop.closed = False
        await fail(caller, "good again")

        async def closed() -> bool:
            return not await watch.read()

        await wait_until(closed, description="the closed circuit")


async def test_calls_that_fail_beside_each_other_are_one_failure_and_lost_workers_are_none(
    keys: Keys, caller: Caller
) -> None:
    watch = CircuitWatch(caller.bus, keys, caller.clock)
    counts = FailureCounts(watch, {"shop": Shop(circuit_breaker=CircuitBreaker(failures=2)).tool}, worker="w1")

    def ended(outcome: Outcome, duration_ms: int = 0) -> ToolResult:
        return ToolResult(call_id="c", outcome=outcome, output="", worker="w1", duration_ms=duration_ms)

    for _ in range(20):  # a worker that was frozen for ten seconds, and one that is gone
        await counts.count("shop", ended(Outcome.TIMEOUT, 10_000))
        await counts.count("shop", ended(Outcome.UNKNOWN))
    assert await watch.read() == {}
    await counts.count("shop", ended(Outcome.TIMEOUT))
    assert list(await watch.read()) == ["shop"]


async def test_a_tool_may_be_without_a_breaker(redis_url: str, keys: Keys, caller: Caller) -> None:
    shop = Shop(circuit_breaker=None)
    async with ToolWorker([shop.tool], redis_url=redis_url, stream_prefix=keys.prefix):
        for n in range(12):
            await fail(caller, f"c{n}")
    assert await CircuitWatch(caller.bus, keys, caller.clock).read() == {}


class Hands:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 1_000_000

    def monotonic(self) -> float:
        return self.now / 1000

    def at_ms(self) -> int:
        return self.now


async def test_a_resting_tool_is_refused_and_tried_once_when_its_rest_is_over(keys: Keys, caller: Caller) -> None:
    clock = Hands()
    watch = CircuitWatch(caller.bus, keys, clock)
    open_circuits = OpenCircuits(watch, clock)
    assert open_circuits.refusal(CALL) is None
    await watch.open("shop", rest_ms=10_000, failures=3, worker="w1", error="closed")
    refusal = open_circuits.refusal(CALL)
    assert refusal is not None
    assert (refusal.kind, "closed" in refusal.message, "shop" in refusal.output) == ("circuit_open", True, True)
    clock.now += 10_000
    assert [open_circuits.refusal(CALL) is None for _ in range(3)] == [True, False, False]
    clock.now += 10_000
    assert open_circuits.refusal(CALL) is None, "nothing came of the first try, so it is tried again"
    await watch.close("shop")
    assert [open_circuits.refusal(CALL) is None for _ in range(3)] == [True, True, True]


async def test_a_refused_call_is_answered_at_once_and_not_sent(keys: Keys, caller: Caller) -> None:
    watch = CircuitWatch(caller.bus, keys, caller.clock)
    await watch.open("shop", rest_ms=60_000, failures=3, worker="w1", error="closed")
    answers: list[Entry] = []
    dispatch = RedisToolDispatch(
        caller.bus, caller.tools._outbox, caller.clock, keys, reply_to=caller.inbox.stream,
        refusing=[OpenCircuits(watch, caller.clock)], answer=answers.append,
    )  # fmt: skip
    dispatch.dispatch(caller.session, CALL)
    assert answers == [], "not while the session's outputs are performed"
    await wait_until(lambda: answers, description="the answer")
    result = ToolResult.of(answers[0])
    assert (result.call_id, result.outcome, result.worker) == ("c1", Outcome.ERROR, "gateway")
    assert result.error is not None
    assert result.error.kind == "circuit_open"
    assert await caller.stream(keys.tools("default")) == []


async def test_what_is_no_circuit_counts_as_none(keys: Keys, caller: Caller) -> None:
    await caller.bus.call("HSET", keys.circuits, "shop", "nonsense")
    await caller.bus.call("EXPIRE", keys.circuits, 60)
    assert await CircuitWatch(caller.bus, keys, caller.clock).read() == {}
    circuit = Circuit(since=1, until=2, rest_ms=1, failures=1, worker="w", error="e")
    await caller.bus.call("HSET", keys.circuits, "shop", circuit.model_dump_json())
    watch = CircuitWatch(caller.bus, keys, caller.clock)
    assert await watch.read() == {"shop": circuit}
    assert not watch.rests("shop")
