"""Tool calls and checks of one session, run in the program's own process: what workers do in a cluster.

Both run what they are given in tasks of their own, functions that are not async in threads of their own, and answer
with engine inputs. A slow tool holds no guardrail up, and no other session.
"""

import asyncio
import contextvars
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from functools import cache, partial
from typing import Any, Final, Protocol

from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.context import RunContextWrapper, ToolContext
from voicebus.agents.guardrails import GuardrailFunctionOutput, InputGuardrail, OutputGuardrail
from voicebus.agents.judge import judge, side_by_side
from voicebus.agents.local import limiting
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.invoke import ToolOutcome, invoke
from voicebus.agents.tools.kinds import Tool
from voicebus.agents.tools.outcomes import expired
from voicebus.agents.tools.progress import Progress
from voicebus.contracts.guardrails import GuardrailResult, GuardrailVerdict
from voicebus.contracts.tools import IN_PROCESS, Outcome, ToolFailure, ToolProgress, ToolResult
from voicebus.engine.inputs import Input, ToolProgressArrived, ToolResultArrived, VerdictArrived
from voicebus.engine.outputs import CancelTool, DispatchCheck, DispatchTool
from voicebus.ports import SessionRef
from voicebus.runtime.processes import SHARED
from voicebus.runtime.threads import DaemonThreadPool
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

THREADS: Final = 16
"""Functions of one session that are not async and run at once; more wait."""

STOP_S: Final = 1.0
"""What tools and checks may take to end once their session does (parity 2.34)."""

# Raw outputs of tools and guardrails that wait to be shown; the oldest go.
_REMEMBERED: Final = 256


_duration_of: Final = cache(metrics.TOOL_DURATION.labels)


class Names(Protocol):
    """What names mean in a session: its author."""

    def agent(self, name: str) -> RealtimeAgent[Any]: ...

    def tool(self, snapshot: int, name: str) -> Tool | None: ...

    def guardrail(self, snapshot: int, name: str) -> OutputGuardrail[Any] | InputGuardrail[Any] | None: ...


class _Tasks:
    """Tasks of one session, by what they are for, and their threads; ended together."""

    def __init__(self, what: str, session: str) -> None:
        self._what = what
        self._session = session
        self._running: dict[str, asyncio.Task[None]] = {}
        # What the program has set for itself (a logger's fields, a tracer's span) when it entered the session.
        self._scope = contextvars.copy_context()
        self.pool = DaemonThreadPool(THREADS, name=f"{what}-{session}")

    def start(self, key: str, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # By the loop itself: `asyncio.create_task` makes a name up first.
        loop = asyncio.get_running_loop()
        task = loop.create_task(work, name=f"{name}-{self._session}", context=self._scope.copy())
        self._running[key] = task
        task.add_done_callback(partial(self._ended, key))
        return task

    def runs(self, key: str) -> bool:
        return key in self._running

    def cancel(self, key: str, reason: str) -> None:
        """Stop this one, if it runs."""
        task = self._running.get(key)
        if task is not None:
            task.cancel(reason)

    async def aclose(self) -> None:
        """Cancel what runs; what has not ended after `STOP_S` is left behind, and can do nothing more."""
        tasks = set(self._running.values())
        for task in tasks:
            task.cancel("session_ended")
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=STOP_S)
            if stuck:
                log.warning("work goes on after its session", what=self._what, session=self._session, tasks=len(stuck))
        self.pool.shutdown()

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        if self._running.get(key) is task:
            del self._running[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("work broke", what=self._what, session=self._session, exc_info=error)


class LocalTools:
    """Implements `ToolDispatch`. `outputs` are what tools returned, by call, for whoever shows it."""

    def __init__(
        self, names: Names, context: RunContextWrapper[Any], session: str, feed: Callable[[Input], None]
    ) -> None:
        self._names = names
        self._context = context
        self._feed = feed
        self._tasks = _Tasks("tools", session)
        self.outputs: OrderedDict[str, Any] = OrderedDict()

    def dispatch(self, session: SessionRef, call: DispatchTool) -> None:
        self._tasks.start(call.call_id, f"tool-{call.tool}-{call.call_id}", self._run(session, call))

    def cancel(self, session: SessionRef, cancel: CancelTool) -> None:
        self._tasks.cancel(cancel.call_id, cancel.reason)

    def runs(self, call_id: str) -> bool:
        return self._tasks.runs(call_id)

    async def aclose(self) -> None:
        await self._tasks.aclose()
        SHARED.give_back(self)

    async def _run(self, session: SessionRef, call: DispatchTool) -> None:
        tool = self._names.tool(call.snapshot, call.tool)
        if not isinstance(tool, FunctionTool):
            # The engine dispatches what its agent's snapshot has: only one that was resolved too long ago is gone.
            why = f"the tool {call.tool} is not there any more"
            self._answer(call, ToolOutcome(Outcome.ERROR, f"{why}.", ToolFailure(kind="unknown_tool", message=why)), 0)
            return
        refusal = limiting.SHARED.refusal(tool)
        if refusal is not None:
            failure = ToolFailure(kind=refusal.kind, message=refusal.message)
            self._answer(call, ToolOutcome(Outcome.ERROR, refusal.output, failure), 0)
            return
        limit_s = call.timeout_ms / 1000
        turn = limiting.SHARED.turn(tool, limit_s)
        if turn is None:
            await self._start(session, call, tool, limit_s)
            return
        end = time.monotonic() + limit_s
        try:
            await turn.wait()
            if (left_s := end - time.monotonic()) > 0:
                await self._start(session, call, tool, left_s)
            else:
                self._answer(call, expired(call.tool), 0)
        finally:
            turn.end()

    async def _start(self, session: SessionRef, call: DispatchTool, tool: FunctionTool, left_s: float) -> None:
        progress = Progress(lambda text: self._feed(ToolProgressArrived(ToolProgress(call_id=call.call_id, text=text))))
        context = ToolContext.from_agent_context(
            self._context,
            call.call_id,
            agent=self._names.agent(call.agent),
            tool_name=call.tool,
            tool_arguments=call.arguments,
            session=session.id,
            deadline_s=left_s,
            reports=progress.say,
        )
        started = time.monotonic()
        try:
            outcome = await invoke(
                tool, context, call.arguments, timeout=left_s, executor=self._tasks.pool, vetted=call.vetted,
                processes=lambda: SHARED.borrow(self),
            )  # fmt: skip
        finally:
            progress.close()
        took_s = time.monotonic() - started
        _duration_of(call.tool).observe(took_s)
        limiting.SHARED.ended(tool, outcome.outcome, outcome.error, took_s)
        self._answer(call, outcome, round(took_s * 1000))

    def _answer(self, call: DispatchTool, outcome: ToolOutcome, duration_ms: int) -> None:
        if outcome.outcome is Outcome.OK:
            self.outputs[call.call_id] = outcome.value
        if len(self.outputs) > _REMEMBERED:
            self.outputs.popitem(last=False)
        result = ToolResult(
            call_id=call.call_id,
            outcome=outcome.outcome,
            output=outcome.output,
            error=outcome.error,
            worker=IN_PROCESS,
            duration_ms=duration_ms,
            background=outcome.background,
        )
        self._feed(ToolResultArrived(result))


class LocalChecks:
    """Implements `GuardrailDispatch`: the guardrails of a check judge side by side."""

    def __init__(
        self, names: Names, context: RunContextWrapper[Any], session: str, feed: Callable[[Input], None]
    ) -> None:
        self._names = names
        self._context = context
        self._feed = feed
        self._tasks = _Tasks("guardrails", session)
        self._findings: OrderedDict[tuple[str, str], GuardrailFunctionOutput] = OrderedDict()

    def check(self, session: SessionRef, check: DispatchCheck, *, timeout_ms: int) -> None:
        self._tasks.start(check.check_id, f"check-{check.check_id}", self._run(check, timeout_ms / 1000))

    def finding(self, item_id: str, guardrail: str) -> GuardrailFunctionOutput | None:
        """What a guardrail has last returned about an item that tripped it."""
        return self._findings.get((item_id, guardrail))

    async def aclose(self) -> None:
        await self._tasks.aclose()
        SHARED.give_back(self)

    async def _run(self, check: DispatchCheck, limit_s: float) -> None:
        started = time.monotonic()
        judging = {name: self._judge(check, name, limit_s) for name in check.guardrails}
        async with aclosing(side_by_side(judging)) as judged:
            async for results, pending in judged:
                verdict = GuardrailVerdict(
                    check_id=check.check_id,
                    response_id=check.response_id,
                    results=results,
                    worker=IN_PROCESS,
                    duration_ms=round((time.monotonic() - started) * 1000),
                    pending=pending,
                )
                self._feed(VerdictArrived(verdict))

    async def _judge(self, check: DispatchCheck, name: str, limit_s: float) -> GuardrailResult:
        guardrail = self._names.guardrail(check.snapshot, name)
        if guardrail is None:
            return GuardrailResult(name=name, tripped=False, error="it is not there any more")

        def found(output: GuardrailFunctionOutput) -> None:
            if output.tripwire_triggered:
                self._findings[check.item_id, name] = output
                if len(self._findings) > _REMEMBERED:
                    self._findings.popitem(last=False)

        agent = self._names.agent(check.agent)
        result = await judge(
            guardrail, self._context, agent, check.text, final=check.final, timeout=limit_s, executor=self._tasks.pool,
            found=found, processes=lambda: SHARED.borrow(self),
        )  # fmt: skip
        # Of two of one name the session calls the second by another, which it does not know itself.
        return result if result.name == name else result.model_copy(update={"name": name})
