"""`ToolWorker`: runs function tools for the whole cluster. The service `voicebus tool-worker` is one; so can any
program be that already has an event loop.
"""

import asyncio
import contextlib
import inspect
import json
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from types import CodeType
from typing import Any, Final, Self

from voicebus.adapters.redis.circuits import CircuitWatch
from voicebus.adapters.redis.membership import Membership, joined
from voicebus.adapters.redis.registry import ToolRegistry
from voicebus.adapters.redis.tail import StreamTail
from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.tools.calls import SERVICE, CallRunner
from voicebus.agents.tools.circuit import FailureCounts
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.invoke import MAX_OUTPUT_CHARS
from voicebus.agents.tools.isolated import prepare
from voicebus.agents.tools.kinds import tool_queue
from voicebus.agents.tools.limits import turns
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import CONTROL_TTL_S, Keys
from voicebus.contracts.tools import TOOL_CANCEL, TOOL_HANDOVER, ToolCancel, ToolRegistration
from voicebus.errors import BusError, ContractError, UserError
from voicebus.runtime.consumer import MAX_DELIVERIES, ConsumerLoop, until_reached
from voicebus.runtime.processes import ProcessPool, default_processes
from voicebus.runtime.threads import DaemonThreadPool
from voicebus.telemetry import metrics
from voicebus.telemetry.blocking import LoopGuard
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

REGISTER_EVERY_S: Final = 10.0
TIDY_REGISTRY_EVERY_S: Final = 3600.0


class ToolWorker:
    """Takes calls of `tools` from their queues.

        async with ToolWorker([get_weather], redis_url="redis://redis:6379/0"):
            ...  # for as long as the block runs, for instance in a FastAPI lifespan

    Args:
        tools: function tools; their names must differ.
        redis_url: the cluster's Redis.
        queue: the queue of tools that name none; otherwise the top-level package of each tool's module.
        concurrency: calls at once, and threads for functions that are not async.
        tool_timeout: s, for calls that carry no deadline and in the registry.
        drain_timeout: s that calls in hand are given at the end; what is left then goes to other workers.
        processes: processes for tools of `executor="process"`; None means one for each processor.
        max_result: characters that a tool's result may have; a longer one is an error that says so.
        max_deliveries: how often a call is delivered that never comes to an end, before it goes to the dead letters.
        stream_prefix, event_shards, guardrail_shards: as everywhere in the cluster.
        context: what tools find as `ToolContext.context` that do not say what the session's is (`ToolContext[Guest]`).
        context_models: by agent, what the context of its sessions is, for tools that do not say it themselves.
        agents: those that tools find as `ToolContext.agent` when they are called by them; others have their name only.
        on_reachable: hears whether the bus is reachable.

    Raises:
        UserError: two tools of one name, or none at all.
    """

    def __init__(
        self,
        tools: Iterable[FunctionTool],
        *,
        redis_url: str,
        queue: str | None = None,
        concurrency: int = 20,
        tool_timeout: float = 30.0,
        drain_timeout: float = 60.0,
        max_deliveries: int = MAX_DELIVERIES,
        max_result: int = MAX_OUTPUT_CHARS,
        processes: int | None = None,
        stream_prefix: str = "vb",
        event_shards: int = 16,
        guardrail_shards: int = 4,
        context: Any = None,
        agents: Iterable[RealtimeAgent[Any]] = (),
        context_models: Mapping[str, Any] | None = None,
        on_reachable: Callable[[bool], None] | None = None,
    ) -> None:
        self._tools: dict[str, FunctionTool] = {}
        for tool in tools:
            if not isinstance(tool, FunctionTool):
                raise UserError(f"a tool worker runs function tools, made by @function_tool; not {tool!r}")
            if tool.name in self._tools and self._tools[tool.name] is not tool:
                origins = f"{self._tools[tool.name].origin} and {tool.origin}"
                raise UserError(f"two tools are named {tool.name!r}: {origins}; rename one")
            self._tools[tool.name] = tool
        if not self._tools:
            raise UserError("a tool worker needs at least one function tool")
        self._redis_url = redis_url
        self._keys = Keys(stream_prefix, event_shards, guardrail_shards)
        self._queues = {tool.name: tool_queue(tool, queue) for tool in self._tools.values()}
        self._concurrency = concurrency
        self._tool_timeout = tool_timeout
        self._drain_timeout = drain_timeout
        self._max_deliveries = max_deliveries
        self._max_result = max_result
        self._processes = processes
        self._context = context
        self._context_models = context_models
        self._agents = {agent.name: agent for agent in agents}
        self._on_reachable = on_reachable
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        ready = asyncio.Event()
        self._stop.clear()
        self._task = asyncio.create_task(self.run(self._stop, ready=ready.set), name="tool-worker")
        waiting = asyncio.create_task(ready.wait(), name="tool-worker ready")
        try:
            await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            raise
        finally:
            waiting.cancel()
        if self._task.done():
            self._task.result()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        if self._task is not None:
            await self._task

    async def run(self, stop: asyncio.Event, *, ready: Callable[[], object] | None = None) -> None:
        """Work until `stop` is set, then finish what is in hand. `ready` is called once calls are taken.

        Raises:
            BusError: Redis cannot be reached at the start; later outages are waited out.
            SettingsError: the installation is configured otherwise.
            UserError: a living worker offers one of these tools with another schema.
        """
        async with joined(self._redis_url, self._keys, service=SERVICE, describe=self._describe) as member:
            registry = ToolRegistry(member.bus, self._keys, member.clock)
            await self._register(registry, member.id)
            streams = {self._keys.tools(queue): queue for queue in sorted(set(self._queues.values()))}
            processes = ProcessPool(self._processes or default_processes())
            executor = DaemonThreadPool(self._concurrency, name="tool")
            circuits = CircuitWatch(member.bus, self._keys, member.clock)
            member.spawn(circuits.run(), name="circuits")
            breakers = {name: tool.circuit_breaker for name, tool in self._tools.items()}
            runner = CallRunner(
                member, registry, self._tools, streams,
                executor=executor, timeout_s=self._tool_timeout, context=self._context,
                processes=lambda: processes, agents=self._agents, context_models=self._context_models,
                max_result=self._max_result,
                failures=FailureCounts(circuits, breakers, worker=member.id),
            )  # fmt: skip
            member.spawn(runner.keep(), name="renew")
            member.spawn(LoopGuard(self._codes(), _blocked).run(), name="loop-guard")
            isolated = [tool.function for tool in self._tools.values() if tool.executor == "process"]
            if isolated:
                member.spawn(prepare(processes, isolated), name="prepare")
            member.spawn(self._keep_registered(registry, member.id, stop), name="registry")
            loop = ConsumerLoop(
                member.consume(streams), runner.handle, clock=member.clock, service=SERVICE,
                concurrency=self._concurrency, on_reachable=self._on_reachable,
                given_up=runner.given_up, max_deliveries=self._max_deliveries,
                turn=turns(self._tools, member.clock),
            )  # fmt: skip
            control = self._control(member, runner, loop)
            member.masters.on_change(lambda _: control.rewind())
            member.masters.on_change(lambda since: member.spawn(runner.restore(since), name="restore"))
            member.spawn(control.run(), name="control")
            log.info("tool worker ready", worker=member.id, tools=sorted(self._tools), queues=sorted(streams.values()))
            if ready is not None:
                ready()
            try:
                await loop.run(stop, drain_timeout=self._drain_timeout)
            finally:
                executor.shutdown()
                processes.close()
            await self._withdraw(registry, member.id)
        log.info("tool worker stopped", worker=member.id)

    def _codes(self) -> dict[CodeType, str]:
        """The code of every tool that runs on the event loop, by which one that blocks it is known."""
        functions = {name: inspect.unwrap(tool.function) for name, tool in self._tools.items() if tool.is_async}
        codes = {name: getattr(function, "__code__", None) for name, function in functions.items()}
        return {code: name for name, code in codes.items() if isinstance(code, CodeType)}

    def _describe(self) -> dict[str, str]:
        return {
            "queues": json.dumps(sorted(set(self._queues.values()))),
            "tools": json.dumps(sorted(self._tools)),
            "version": version("voicebus"),
            "concurrency": str(self._concurrency),
            "handover": "1",
        }

    def _control(self, member: Membership, runner: CallRunner, loop: ConsumerLoop) -> StreamTail:
        async def route(entry_id: str, fields: dict[str, str]) -> None:
            try:
                entry = Entry.parse(fields)
                if entry.type == TOOL_CANCEL:
                    cancel = ToolCancel.of(entry)
                    runner.cancel(entry.session, cancel.call_id, cancel.reason)
                elif entry.type == TOOL_HANDOVER:
                    await until_reached(loop.recover)
            except ContractError as error:
                log.warning("control entry refused", entry=entry_id, reason=error.reason, error=str(error))

        stream = self._keys.control(member.id)
        return StreamTail(member.bus, stream, route, ttl_s=CONTROL_TTL_S, service=SERVICE)

    async def _register(self, registry: ToolRegistry, worker: str) -> None:
        for tool in self._tools.values():
            hold = tool.hold
            registration = ToolRegistration(
                name=tool.name, description=tool.description, parameters=tool.params_json_schema,
                queue=self._queues[tool.name], timeout_ms=round((tool.timeout or self._tool_timeout) * 1000),
                idempotent=tool.idempotent, version=tool.version, needs_approval=tool.needs_approval is not False,
                approval_timeout_ms=None if tool.approval_timeout is None else round(tool.approval_timeout * 1000),
                respond=tool.respond, background=tool.background, speak_progress=tool.speak_progress,
                hold_phrases=None if hold.phrases is None else list(hold.phrases),
                hold_after_ms=hold.after_ms, hold_every_ms=hold.every_ms,
                cancel_on_interrupt=tool.cancel_on_interrupt, at=0,
            )  # fmt: skip
            await registry.publish(registration, worker=worker)

    async def _keep_registered(self, registry: ToolRegistry, worker: str, stop: asyncio.Event) -> None:
        """Register again now and then, as Redis may have lost the registry, and remove tools that are long gone.

        From `stop` on nothing is offered any more, as no more calls are taken.
        """
        tidied = float("-inf")
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REGISTER_EVERY_S):
                    await stop.wait()
            if stop.is_set():
                break
            try:
                await self._register(registry, worker)
                if time.monotonic() - tidied > TIDY_REGISTRY_EVERY_S:
                    tidied = time.monotonic()
                    for name in await registry.tidy():
                        log.info("tool without a worker forgotten", tool=name)
            except (BusError, UserError) as error:
                log.warning("tools not registered", error=str(error))
        await self._withdraw(registry, worker)

    async def _withdraw(self, registry: ToolRegistry, worker: str) -> None:
        try:
            for name in self._tools:
                await registry.withdraw(name, worker=worker)
        except BusError as error:
            log.debug("tools not withdrawn, they are known to have no living worker", error=str(error))


def _blocked(tool: str, seconds: float) -> None:
    metrics.TOOL_BLOCKED.labels(tool=tool or "other").inc(seconds)
