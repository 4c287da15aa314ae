"""Tools that run in the program's own process: their limits and rests count for all its sessions."""

import asyncio
import gc
from typing import Any

import pytest
from msgspec.structs import replace

from support.waiting import wait_until
from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.local import limiting
from voicebus.agents.local.limiting import ToolLimits
from voicebus.agents.local.work import LocalTools
from voicebus.agents.tools.circuit import CircuitBreaker
from voicebus.agents.tools.decorator import function_tool
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.contracts.tools import IN_PROCESS, Outcome, ToolResult
from voicebus.engine.inputs import ToolResultArrived
from voicebus.engine.outputs import CancelTool, DispatchTool
from voicebus.ports import SessionRef

REF = SessionRef("S", 1)
CALL = DispatchTool("c1", "work", "{}", "desk", "q", 60_000, idempotent=False, snapshot=1)


class Session:
    """The local tools of one session."""

    def __init__(self, *tools: FunctionTool) -> None:
        self._named = {tool.name: tool for tool in tools}
        self.results: dict[str, ToolResult] = {}
        self.tools = LocalTools(self, RunContextWrapper(None), "S", self._heard)

    def _heard(self, told: Any) -> None:
        if isinstance(told, ToolResultArrived):
            self.results[told.result.call_id] = told.result

    def agent(self, name: str) -> RealtimeAgent[Any]:
        return RealtimeAgent(name)

    def tool(self, snapshot: int, name: str) -> FunctionTool | None:
        return self._named.get(name)

    def guardrail(self, snapshot: int, name: str) -> None:
        raise AssertionError("it has none")

    def call(self, call_id: str, tool: str = "work", *, timeout_ms: int = 60_000) -> None:
        self.tools.dispatch(REF, replace(CALL, call_id=call_id, tool=tool, timeout_ms=timeout_ms))

    async def result(self, call_id: str) -> ToolResult:
        await wait_until(lambda: call_id in self.results, description=f"the result of {call_id}")
        return self.results[call_id]


class Waiting:
    """A tool that waits to be let go, and knows how many of its calls run."""

    def __init__(self, **limits: Any) -> None:
        self.running: list[str] = []
        self.go = asyncio.Event()

        async def work() -> str:
            """Work."""
            self.running.append("one")
            await self.go.wait()
            return "done"

        self.tool: FunctionTool = function_tool(name_override="work", **limits)(work)


@function_tool
async def quick() -> str:
    """Be quick."""
    return "quick"


async def test_no_more_calls_run_at_once_than_the_tool_allows_in_all_sessions_together() -> None:
    waiting = Waiting(concurrency=2)
    first, second = Session(waiting.tool, quick), Session(waiting.tool, quick)
    for number in range(2):
        first.call(f"a{number}")
        second.call(f"b{number}")
    await wait_until(lambda: len(waiting.running) == 2, description="two calls")
    second.call("q", "quick")
    assert (await second.result("q")).output == "quick"
    assert len(waiting.running) == 2
    waiting.go.set()
    for session, call in ((first, "a0"), (first, "a1"), (second, "b0"), (second, "b1")):
        assert (await session.result(call)).outcome is Outcome.OK
    for session in (first, second):
        await session.tools.aclose()


async def test_a_call_whose_time_is_over_before_its_turn_has_expired_and_one_that_is_cancelled_leaves_the_row() -> None:
    waiting = Waiting(concurrency=1)
    session = Session(waiting.tool)
    session.call("c1")
    await wait_until(lambda: waiting.running, description="the first call")
    session.call("c2", timeout_ms=50)
    session.call("c3")
    expired = await session.result("c2")
    assert (expired.outcome, expired.output) == (Outcome.EXPIRED, "The tool work was not started in time.")
    session.tools.cancel(REF, CancelTool("c3", "q", IN_PROCESS, "interrupted"))
    session.call("c4")
    waiting.go.set()
    assert (await session.result("c4")).outcome is Outcome.OK
    assert len(waiting.running) == 2
    await session.tools.aclose()


async def test_a_tool_starts_no_more_calls_in_a_time_than_its_rate() -> None:
    waiting = Waiting(rate_limit="2/h")
    waiting.go.set()
    session = Session(waiting.tool)
    for number in range(3):
        session.call(f"c{number}")
    session.call("late", timeout_ms=50)
    assert (await session.result("late")).outcome is Outcome.EXPIRED
    assert len(waiting.running) == 2
    await session.tools.aclose()


async def test_limits_go_on_with_another_event_loop() -> None:
    waiting = Waiting(concurrency=1)
    waiting.go.set()

    async def talk() -> Outcome:
        waiting.go = asyncio.Event()
        session = Session(waiting.tool)
        session.call("c1")
        session.call("c2")
        await wait_until(lambda: waiting.running, description="the first call")
        waiting.go.set()
        outcome = (await session.result("c2")).outcome
        await session.tools.aclose()
        return outcome

    assert await talk() is Outcome.OK
    assert await asyncio.to_thread(asyncio.run, talk()) is Outcome.OK


async def test_a_tool_that_fails_again_and_again_rests_is_tried_and_works_again() -> None:
    works = False
    runs = 0

    @function_tool(circuit_breaker=CircuitBreaker(failures=2, recovery=0.2))
    async def work() -> str:
        """Work."""
        nonlocal runs
        runs += 1
        if not works:
            raise OSError("the shop is closed")
        return "sold"

    session, other = Session(work), Session(work)
    for number in range(2):
        session.call(f"c{number}")
        assert (await session.result(f"c{number}")).error is not None
    other.call("refused")
    refused = await other.result("refused")
    assert refused.error is not None
    assert (refused.error.kind, runs) == ("circuit_open", 2)
    assert "out of order at the moment" in refused.output
    works = True

    async def sold() -> bool:
        call = f"try{len(session.results)}"
        session.call(call)
        return (await session.result(call)).outcome is Outcome.OK

    await wait_until(sold, description="the end of the rest")
    other.call("again")
    assert (await other.result("again")).output == "sold"
    for one in (session, other):
        await one.tools.aclose()


async def test_arguments_that_do_not_fit_and_tools_without_a_breaker_open_none() -> None:
    @function_tool(circuit_breaker=CircuitBreaker(failures=1))
    async def count(number: int) -> int:
        """Count."""
        return number

    @function_tool(circuit_breaker=None)
    async def work() -> str:
        """Fail."""
        raise OSError("closed")

    session = Session(count, work)
    for number in range(3):
        for name in ("count", "work"):
            session.call(f"{name}{number}", name)
            failure = (await session.result(f"{name}{number}")).error
            assert failure is not None
            assert failure.kind == {"count": "invalid_arguments", "work": "raised"}[name]
    await session.tools.aclose()


def test_what_is_known_of_a_tool_ends_with_it() -> None:
    limits = ToolLimits()

    @function_tool(circuit_breaker=CircuitBreaker(failures=1))
    async def work() -> str:
        """Work."""
        return ""

    limits.ended(work, Outcome.ERROR, None, 0.0)
    assert limits.refusal(work) is not None
    del work
    gc.collect()
    assert limits._known == {}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "SHARED", ToolLimits())
