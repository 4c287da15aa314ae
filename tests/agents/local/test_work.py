"""Tools and guardrails of one session, run in this process: answered once, stopped with the session."""

import asyncio
import contextvars
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from support import computing
from support.computing import gone
from support.waiting import wait_until
from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.context import RunContextWrapper, ToolContext
from voicebus.agents.guardrails import GuardrailFunctionOutput, OutputGuardrail
from voicebus.agents.local import work
from voicebus.agents.local.work import LocalChecks, LocalTools
from voicebus.agents.tools.decorator import function_tool
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.results import background_result
from voicebus.contracts.tools import IN_PROCESS, Outcome
from voicebus.engine.inputs import ToolProgressArrived, ToolResultArrived, VerdictArrived
from voicebus.engine.outputs import CancelTool, DispatchCheck, DispatchTool
from voicebus.ports import SessionRef

REF = SessionRef("S", 1)
CALL = DispatchTool("c1", "greet", '{"name": "Ada"}', "desk", "q", 10_000, idempotent=False, snapshot=1)
CHECK = DispatchCheck("k1", "r1", "i1", "desk", ("judge",), "text", final=True, snapshot=1)
scope: contextvars.ContextVar[str] = contextvars.ContextVar("scope", default="none")


class Names:
    def __init__(self, *tools: FunctionTool, guardrails: tuple[OutputGuardrail[Any], ...] = ()) -> None:
        self.tools = {tool.name: tool for tool in tools}
        self.guardrails = {guardrail.get_name(): guardrail for guardrail in guardrails}
        self.desk = RealtimeAgent[Any]("desk")

    def agent(self, name: str) -> RealtimeAgent[Any]:
        assert name == "desk"
        return self.desk

    def tool(self, snapshot: int, name: str) -> FunctionTool | None:
        return self.tools.get(name) if snapshot == 1 else None

    def guardrail(self, snapshot: int, name: str) -> OutputGuardrail[Any] | None:
        return self.guardrails.get(name) if snapshot == 1 else None


class Tools:
    def __init__(self, *tools: FunctionTool) -> None:
        self.heard: list[Any] = []
        self.names = Names(*tools)
        self.context = RunContextWrapper({"caller": 1})
        self.tools = LocalTools(self.names, self.context, "S", self.heard.append)

    async def result(self, call: DispatchTool = CALL) -> Any:
        self.tools.dispatch(REF, call)
        results = await wait_until(
            lambda: [one.result for one in self.heard if isinstance(one, ToolResultArrived)], description="the result"
        )
        return results[-1]


async def test_a_tool_in_a_process_of_its_own_ends_with_its_session(tmp_path: Path) -> None:
    started = tmp_path / "started"
    tools = Tools(computing.later, computing.spin)
    ended = await tools.result(replace(CALL, tool="later", arguments='{"number": 1}', timeout_ms=60_000))
    assert (ended.outcome, ended.output) == (Outcome.OK, "2")
    arguments = json.dumps({"started": str(started)})
    tools.tools.dispatch(REF, replace(CALL, call_id="c2", tool="spin", arguments=arguments, timeout_ms=60_000))
    await wait_until(lambda: started.exists() and started.read_text(), description="the start", timeout=30)
    await tools.tools.aclose()
    await wait_until(lambda: gone(int(started.read_text())), description="the end of the process")


async def test_progress_is_heard_before_the_result_also_from_a_thread() -> None:
    @function_tool
    def greet(context: ToolContext[Any], name: str) -> str:
        """Greet."""
        context.progress("first")
        context.progress("last")
        return name

    tools = Tools(greet)
    await tools.result()
    assert [type(one) for one in tools.heard] == [ToolProgressArrived, ToolProgressArrived, ToolResultArrived]
    said = [(one.progress.call_id, one.progress.text) for one in tools.heard if isinstance(one, ToolProgressArrived)]
    assert said == [("c1", "first"), ("c1", "last")]
    await tools.tools.aclose()


@pytest.mark.parametrize(("hangs_up", "reason"), [(False, "interrupted"), (True, "session_ended")])
async def test_a_thread_in_process_is_told_that_nobody_waits_any_more(hangs_up: bool, reason: str) -> None:
    began, saw = threading.Event(), list[str | None]()

    @function_tool
    def greet(context: ToolContext[Any], name: str) -> str:
        """Greet."""
        began.set()
        context.cancellation.wait(20)
        saw.append(context.cancellation.reason)
        return name

    tools = Tools(greet)
    tools.tools.dispatch(REF, CALL)
    await wait_until(began.is_set, description="the start")
    if not hangs_up:
        tools.tools.cancel(REF, CancelTool("c1", "q", IN_PROCESS, "interrupted"))
    await tools.tools.aclose()
    await wait_until(lambda: saw, description="the thread to see it")
    assert saw == [reason]


async def test_a_tool_answers_with_its_object() -> None:
    seen: list[ToolContext[Any]] = []

    @function_tool
    async def greet(context: ToolContext[Any], name: str) -> dict[str, str]:
        """Greet."""
        seen.append(context)
        return {"hello": name}

    scope.set("caller's")
    tools = Tools(greet)
    result = await tools.result()
    assert (result.call_id, result.outcome, result.output) == ("c1", Outcome.OK, '{"hello": "Ada"}')
    assert (result.worker, result.background) == (IN_PROCESS, False)
    assert tools.tools.outputs == {"c1": {"hello": "Ada"}}
    assert seen[0].context is tools.context.context
    assert (seen[0].agent, seen[0].session, seen[0].deadline_s) == (tools.names.desk, "S", 10.0)
    await tools.tools.aclose()


async def test_a_tool_that_is_not_async_runs_in_a_thread_and_sees_what_the_program_set() -> None:
    @function_tool
    def greet(name: str) -> Any:
        """Greet."""
        return background_result(f"{scope.get()} in {threading.current_thread().name}")

    scope.set("mine")
    tools = Tools(greet)
    result = await tools.result()
    assert result.output.startswith("mine in tools-S-")
    assert result.background
    await tools.tools.aclose()


async def test_a_tool_that_fails_has_no_object() -> None:
    @function_tool
    async def greet(name: str) -> str:
        """Greet."""
        raise ValueError(name)

    tools = Tools(greet)
    result = await tools.result()
    assert result.outcome is Outcome.ERROR
    assert tools.tools.outputs == {}
    await tools.tools.aclose()


async def test_a_tool_that_is_gone_is_answered_for() -> None:
    tools = Tools()
    result = await tools.result()
    assert (result.outcome, result.error.kind) == (Outcome.ERROR, "unknown_tool")
    await tools.tools.aclose()


async def test_a_tool_past_its_time_is_answered_for() -> None:
    @function_tool
    async def greet(name: str) -> str:
        """Greet."""
        await asyncio.Event().wait()
        return name

    tools = Tools(greet)
    assert (await tools.result(replace(CALL, timeout_ms=10))).outcome is Outcome.TIMEOUT
    await tools.tools.aclose()


async def test_a_cancelled_call_and_a_closed_session_answer_nothing() -> None:
    started: list[str] = []
    stopped: list[str] = []

    @function_tool
    async def greet(name: str) -> str:
        """Greet."""
        started.append(name)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(name)
        return name

    tools = Tools(greet)
    for call_id in ("c1", "c2"):
        tools.tools.dispatch(REF, replace(CALL, call_id=call_id))
    await wait_until(lambda: len(started) == 2, description="both to start")
    tools.tools.cancel(REF, CancelTool("c1", "q", None, "timeout"))
    tools.tools.cancel(REF, CancelTool("unknown", "q", None, "timeout"))
    await wait_until(lambda: len(stopped) == 1, description="the first to stop")
    await tools.tools.aclose()
    assert len(stopped) == 2
    assert tools.heard == []


async def test_a_tool_that_will_not_stop_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "STOP_S", 0.01)
    gate = asyncio.Event()
    heard: list[Any] = []

    async def stubborn() -> None:
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                heard.append("cancelled")

    tasks = work._Tasks("tools", "S")
    left = tasks.start("c1", "stubborn", stubborn())
    await asyncio.sleep(0)
    await tasks.aclose()
    assert heard == ["cancelled"]
    gate.set()
    await left


async def test_work_that_breaks_is_logged_and_harms_nothing() -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    tasks = work._Tasks("tools", "S")
    await asyncio.wait({tasks.start("c1", "broken", broken())})
    await tasks.aclose()


async def test_what_tools_returned_is_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_REMEMBERED", 2)

    @function_tool
    async def greet(name: str) -> str:
        """Greet."""
        return name

    tools = Tools(greet)
    for number in range(3):
        await tools.result(replace(CALL, call_id=f"c{number}"))
        tools.heard.clear()
    assert list(tools.tools.outputs) == ["c1", "c2"]
    await tools.tools.aclose()


async def test_guardrails_of_a_check_judge_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_REMEMBERED", 1)
    together = asyncio.Barrier(2)
    found = object()

    async def first(_: Any, who: Any, text: str) -> GuardrailFunctionOutput:
        await together.wait()
        return GuardrailFunctionOutput(found, tripwire_triggered=True)

    async def second(_: Any, who: Any, text: str) -> GuardrailFunctionOutput:
        await together.wait()
        return GuardrailFunctionOutput(None, tripwire_triggered=False)

    heard: list[Any] = []
    names = Names(guardrails=(OutputGuardrail(first), OutputGuardrail(second)))
    checks = LocalChecks(names, RunContextWrapper(None), "S", heard.append)
    checks.check(REF, replace(CHECK, guardrails=("first", "second", "gone")), timeout_ms=5000)
    await wait_until(lambda: heard, description="the verdict")
    assert isinstance(heard[0], VerdictArrived)
    results = {result.name: (result.tripped, result.error) for result in heard[0].verdict.results}
    assert results == {"first": (True, None), "second": (False, None), "gone": (False, "it is not there any more")}
    finding = checks.finding("i1", "first")
    assert finding is not None
    assert finding.output_info is found
    assert checks.finding("i1", "second") is None
    checks.check(REF, replace(CHECK, item_id="i2", guardrails=("first", "second")), timeout_ms=5000)
    await wait_until(lambda: len(heard) == 2, description="the second verdict")
    assert checks.finding("i1", "first") is None
    await checks.aclose()


async def test_no_guardrail_of_a_check_waits_for_a_slower_one() -> None:
    gate = asyncio.Event()

    async def quick(_: Any, who: Any, text: str) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(None, tripwire_triggered=True)

    async def slow(_: Any, who: Any, text: str) -> GuardrailFunctionOutput:
        await gate.wait()
        return GuardrailFunctionOutput(None, tripwire_triggered=False)

    heard: list[Any] = []
    names = Names(guardrails=(OutputGuardrail(quick), OutputGuardrail(slow)))
    checks = LocalChecks(names, RunContextWrapper(None), "S", heard.append)
    checks.check(REF, replace(CHECK, guardrails=("quick", "slow")), timeout_ms=60_000)
    await wait_until(lambda: heard, description="the quick one's verdict")
    assert [(result.name, result.tripped) for result in heard[0].verdict.results] == [("quick", True)]
    assert heard[0].verdict.pending == ["slow"]
    gate.set()
    await wait_until(lambda: len(heard) == 2, description="the slow one's verdict")
    assert [(result.name, result.tripped) for result in heard[1].verdict.results] == [("slow", False)]
    assert heard[1].verdict.pending == []
    await checks.aclose()
