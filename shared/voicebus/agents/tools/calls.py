"""One tool call on a worker, from its claim to its answer (contract sections 2 and 8).

The order is the guarantee: claimed before it starts, its result stored before it is sent, sent before its entry is
acknowledged. Whatever dies in between, the call is neither lost nor, unless it is idempotent, started twice.
"""

import asyncio
import copy
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final

import structlog
from msgspec.structs import replace

from voicebus.adapters.redis.membership import Membership
from voicebus.adapters.redis.new_calls import NEW_MS
from voicebus.adapters.redis.registry import ToolRegistry
from voicebus.adapters.redis.scripts import ENDED
from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.context import ToolContext
from voicebus.agents.context_model import is_declared
from voicebus.agents.shared_context import CallContext
from voicebus.agents.tools.circuit import FailureCounts
from voicebus.agents.tools.done import DoneCalls
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.handing import Handing
from voicebus.agents.tools.handling import CallHandling, finished, refuse
from voicebus.agents.tools.invoke import MAX_OUTPUT_CHARS, ToolOutcome, invoke
from voicebus.agents.tools.outcomes import given_up, not_started, unknown_tool
from voicebus.agents.tools.progress import Progress
from voicebus.agents.tools.starts import Starts
from voicebus.contracts.envelope import Entry
from voicebus.contracts.tools import (
    CONTEXT_LOST,
    TOOL_CALL,
    Outcome,
    ToolCall,
    ToolFailure,
    ToolResult,
)
from voicebus.errors import BusError, ContractError, UserError
from voicebus.ports import Delivery
from voicebus.runtime.consumer import until_reached
from voicebus.runtime.durations import Durations
from voicebus.runtime.processes import ProcessPool
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger
from voicebus.telemetry.tracing import exemplar, is_traced, trace_id

log: Final = get_logger(__name__)
_LINES: Final = logging.getLogger(__name__)

SERVICE: Final = "tool-worker"

# Consumers without heartbeats may take an entry over after 30 s: a long call must not look idle for that long.
RENEW_EVERY_S: Final = 10.0

# A call that waited longer for a worker is not started before its session is known to go on.
ORPHAN_AFTER_MS: Final = NEW_MS

_REMEMBERED: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Ended:
    """What came of a run; `took_s` in s."""

    outcome: ToolOutcome
    took_s: float


@dataclass(slots=True)
class _Running:
    """A call under way in `task`; `cancelled` once it was told to stop."""

    task: asyncio.Task[Any]
    handling: CallHandling
    cancelled: bool = False

    @property
    def is_stopped(self) -> bool:
        """Whether its cancellation is its own; else the worker ends, and leaves the call to others."""
        return self.cancelled and self.task.cancelling() <= 1


class CallRunner:
    """Handles the entries of a worker's queues. `queues` names the queue of each stream.

    `context` is given as `ToolContext.context` to tools that do not say what the session's is, the one of `agents` that
    calls as `ToolContext.agent`; `context_models` are what the contexts of agents' sessions are, by agent.
    `timeout_s` bounds calls that carry no deadline, `max_result` the characters of a result. `failures` counts how
    calls end. Tools of `executor="process"` run in the pool that `processes` gives.
    """

    def __init__(
        self,
        member: Membership,
        registry: ToolRegistry,
        tools: Mapping[str, FunctionTool],
        queues: Mapping[str, str],
        *,
        executor: Executor,
        timeout_s: float,
        processes: Callable[[], ProcessPool] | None = None,
        max_result: int = MAX_OUTPUT_CHARS,
        context: Any = None,
        agents: Mapping[str, RealtimeAgent[Any]] | None = None,
        failures: FailureCounts | None = None,
        context_models: Mapping[str, Any] | None = None,
    ) -> None:
        self._failures = failures
        self._member = member
        self._handing = Handing(member, registry, tools, queues)
        self._tools = tools
        self._queues = queues
        self._executor = executor
        self._timeout_s = timeout_s
        self._max_result = max_result
        self._processes = processes
        self._context = context
        self._agents = agents or {}
        self._context_models = context_models or {}
        self._running: dict[tuple[str, str], _Running] = {}
        self._cancelled: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._done = DoneCalls()
        self.durations: Mapping[str, Durations] = {queue: Durations() for queue in queues.values()}
        """How long calls take, by queue."""
        self._starts = Starts()
        self._traced = is_traced()
        self._took = lru_cache(maxsize=256)(lambda tool: metrics.TOOL_DURATION.labels(tool=tool))
        # Ended here, and not stored yet. The oldest goes beyond `_REMEMBERED`: its entry was dead-lettered long ago.
        self._ended: OrderedDict[tuple[str, str], _Ended] = OrderedDict()

    def cancel(self, session: str, call_id: str, reason: str) -> None:
        """Stop a call if it runs here; a thread is told, and its result is dropped."""
        # A cancel may overtake the answer to our own claim, so it is remembered for a call that is about to start.
        self._cancelled[session, call_id] = None
        if len(self._cancelled) > _REMEMBERED:
            self._cancelled.popitem(last=False)
        running = self._running.get((session, call_id))
        if running is not None and not running.cancelled:
            running.cancelled = True
            running.task.cancel(reason)

    async def is_cancelled(self, delivery: Delivery, call_id: str) -> bool:
        """Whether a call that has not started is not wanted any more, as far as can be told now."""
        key = self._member.keys.call(self._queues[delivery.stream], delivery.fields.get("session", ""), call_id)
        try:
            return bool(await self._member.bus.call("HEXISTS", key, "cancelled"))
        except BusError:
            return False

    def follow(self, key: tuple[str, str], reply_to: str, epoch: int) -> None:
        """Whoever is at `reply_to` owns the session of this call (session, call id) now, if it runs here."""
        running = self._running.get(key)
        if running is not None:
            running.handling.follow(reply_to, epoch)

    async def handle(self, entry: Entry, delivery: Delivery) -> bool:
        """See a call through to its answer; whether its entry is acknowledged by then.

        Raises:
            ContractError: the entry is no tool call, or is to be answered where no answer belongs.
        """
        if entry.type != TOOL_CALL:
            raise ContractError(f"a tool queue holds tool.call, not {entry.type!r}", reason="unexpected_type")
        call = ToolCall.of(entry)
        self._member.keys.require_reply_to(call.reply_to)
        handling = CallHandling(self._member, self._starts, entry, delivery, call, self._queues[delivery.stream])
        # Each entry has a task, and so a context, of its own: there is nothing to put back.
        structlog.contextvars.bind_contextvars(
            session=entry.session, tenant=None if call.caller is None else call.caller.tenant, agent=call.agent,
            call=call.call_id, tool=call.tool, trace=trace_id(entry.traceparent),
        )  # fmt: skip
        lacks = self._handing.lacks(call)
        if lacks or self._handing.misfits(call):
            await handling.release()
            if await self._handing.on(entry, delivery, call):
                return False
        if not lacks and await self._orphaned(handling):
            return await self._finish(handling, not_started("cancelled", "", call.tool))
        # Also of a tool that is not here: a worker that is gone may have begun, or ended, what nobody can run now.
        status, detail = await handling.claim()
        if status == "start" and lacks:
            return await self._finish(handling, unknown_tool(call, handling.queue))
        if status == "start":
            return await self._start(handling, self._tools[call.tool], int(detail or 1))
        if status == "finished":
            await handling.answer(detail)
            return False
        if status == "running":
            await handling.tell(detail)
            return False
        return await self._finish(handling, not_started(status, detail, call.tool))

    async def _orphaned(self, handling: CallHandling) -> bool:
        """Whether the call's session has ended, so that nobody waits for it."""
        # A caller that hangs up cancels what it waits for, so one that was just written need not be asked about. Of one
        # that waited, or was taken over, the cancel may have been lost with its gateway.
        if handling.call.replayed or (handling.taken_over is None and handling.waited_ms() < ORPHAN_AFTER_MS):
            return False
        end = self._member.keys.session_end(handling.entry.session)
        (ended,) = await until_reached(self._member.bus.script, ENDED, [end])
        return bool(ended)

    async def given_up(self, delivery: Delivery, reason: str, error: str) -> Mapping[str, str]:
        """The entry goes to the dead letters: tell its caller, unless the call has an answer; its starts, for the
        letter.
        """
        why = f"the call was given up ({reason}): {error}"
        try:
            entry = Entry.parse(delivery.fields)
            call = ToolCall.of(entry)
            self._member.keys.require_reply_to(call.reply_to)
        except ContractError:
            await refuse(self._member, delivery, why)
            return {}
        handling = CallHandling(self._member, self._starts, entry, delivery, call, self._queues[delivery.stream])
        starts = await handling.starts()
        await self._finish(handling, given_up(call, why, started=bool(starts)), acknowledging=False)
        return {"history": json.dumps(starts)}

    async def _start(self, handling: CallHandling, tool: FunctionTool, attempt: int) -> bool:
        call, key = handling.call, (handling.entry.session, handling.call.call_id)
        if key in self._running:  # published a second time: the claim has put down where its runner is to answer
            self.follow(key, call.reply_to, handling.entry.epoch)
            return False
        if key in self._cancelled:
            return await self._finish(handling, not_started("cancelled", "", tool.name))
        done = None if handling.call.replayed else self._done.find(key)
        if done is not None:  # Redis has forgotten it, as by a fail-over; it is not run again
            _, acknowledged = await handling.finish(done)
            return acknowledged
        if key in self._ended:  # storing its result failed, and its entry is handled again: the run is not
            return await self._store(handling, key)
        started = time.monotonic()
        left_s = handling.seconds_left(self._timeout_s)
        try:
            shared = CallContext(call.context, self._declared(tool, call.agent), self._context)
        except UserError as error:
            failure = ToolFailure(kind="invalid_context", message=str(error))
            text = f"The tool {tool.name} cannot be used in this conversation."
            return await self._finish(handling, ToolOutcome(Outcome.ERROR, text, failure))
        progress = Progress(handling.say_progress)
        context = ToolContext(
            shared.value, tool_name=tool.name, tool_call_id=call.call_id, tool_arguments=call.arguments,
            agent=self._agent(call.agent), session=handling.entry.session, deadline_s=left_s,
            state=copy.deepcopy(call.context) if call.context else {},
            attempt=max(attempt, call.attempt),
            reports=progress.say, caller=call.caller,
        )  # fmt: skip
        handling.say_started(context.attempt)
        run = invoke(
            tool, context, call.arguments, timeout=left_s, executor=self._executor, vetted=call.vetted,
            again=handling.again, max_chars=self._max_result, processes=self._processes,
        )  # fmt: skip
        try:
            outcome = await self._outcome(key, handling, run, attempt=context.attempt)
        finally:
            progress.close()
            handling.ended()
        if outcome.outcome is Outcome.OK:
            outcome = _with_changes(outcome, shared)
        self._ended[key] = _Ended(outcome, time.monotonic() - started)
        if len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)
        return await self._store(handling, key)

    async def _outcome(
        self, key: tuple[str, str], handling: CallHandling, run: Coroutine[Any, Any, ToolOutcome], *, attempt: int
    ) -> ToolOutcome:
        """Run a call in this task, where `cancel` reaches it, and under a span of its own where that is wanted."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call runs in a task")
        # From here on, before anything is waited for: the same call may come a second time at any moment.
        running = self._running[key] = _Running(task, handling)
        try:
            if not self._traced:
                return await self._result(running, run)
            received = await handling.received(attempt)
            with received.running() as told:
                outcome = await self._result(running, run)
                told.ended(outcome.outcome.value, good=outcome.outcome is Outcome.OK)
                return outcome
        except asyncio.CancelledError:
            run.close()  # it may not have begun
            if not running.is_stopped:
                raise
            return not_started("cancelled", "", "")
        finally:
            del self._running[key]
            if running.cancelled:
                task.uncancel()

    @staticmethod
    async def _result(running: _Running, run: Coroutine[Any, Any, ToolOutcome]) -> ToolOutcome:
        try:
            return await run
        except asyncio.CancelledError:
            if not running.is_stopped:
                raise
            return not_started("cancelled", "", "")
        except Exception as error:
            # `invoke` does not raise. Should it, the call has been started all the same, and must not be a second time.
            log.exception("tool call broke")
            return ToolOutcome(Outcome.ERROR, "The tool failed.", ToolFailure(kind="internal", message=repr(error)))

    async def restore(self, since: float) -> None:
        """Another server is the master: store and send again what ended since then (monotonic, s)."""
        await self._done.repeat(since, partial(finished, self._member))

    async def keep(self) -> None:
        """Renew what runs until cancelled, so that no long call looks idle and its record lasts."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            await asyncio.gather(*(running.handling.renew() for running in self._running.values()))

    def _declared(self, tool: FunctionTool, agent: str) -> Any:
        """What the context of this agent's sessions is: the tool's own word, else the program's."""
        own = tool.context_type
        return own if is_declared(own) else self._context_models.get(agent)

    def _agent(self, name: str) -> RealtimeAgent[Any]:
        """The agent that calls; one that this worker does not know by its name only."""
        return self._agents.get(name) or _stranger(name or "?")

    async def _store(self, handling: CallHandling, key: tuple[str, str]) -> bool:
        ended = self._ended[key]
        acknowledged = await self._finish(handling, ended.outcome, took=ended.took_s)
        self._ended.pop(key, None)  # another entry of the same call may have stored it meanwhile
        return acknowledged

    async def _finish(
        self, handling: CallHandling, outcome: ToolOutcome, *, took: float | None = None, acknowledging: bool = True
    ) -> bool:
        """Measure, store and answer; `took` in s, None where nothing was started. Whether its entry is acknowledged."""
        result = ToolResult(
            call_id=handling.call.call_id, outcome=outcome.outcome, output=outcome.output, error=outcome.error,
            worker=self._member.id, duration_ms=round((took or 0) * 1000), background=outcome.background,
            context=outcome.context,
        )  # fmt: skip
        if took is not None:
            self._took(handling.call.tool).observe(took, exemplar(handling.entry.traceparent))
            self.durations[handling.queue].ended(result.duration_ms)
        if _LINES.isEnabledFor(logging.INFO):  # asked first: one that is not shown costs as much as a claim
            log.info(
                "tool call done", outcome=outcome.outcome.value,
                error=None if result.error is None else result.error.kind, queued_ms=handling.queued_ms,
                duration_ms=result.duration_ms, deliveries=handling.deliveries,
            )  # fmt: skip
        ending, acknowledged = await handling.finish(result, acknowledging=acknowledging)
        self._done.add((handling.entry.session, handling.call.call_id), ending)
        if self._failures is not None:
            await self._failures.count(handling.call.tool, result)
        return acknowledged


@lru_cache(maxsize=256)
def _stranger(name: str) -> RealtimeAgent[Any]:
    return RealtimeAgent(name)


def _with_changes(outcome: ToolOutcome, shared: CallContext) -> ToolOutcome:
    changes, lost = shared.changes()
    if not changes and not lost:
        return outcome
    failure = ToolFailure(kind=CONTEXT_LOST, message=lost) if lost else None
    return replace(outcome, context=changes, error=failure)
