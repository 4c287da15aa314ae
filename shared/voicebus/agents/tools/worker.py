"""`ToolWorker`: runs function tools for the whole cluster. The service `voicebus tool-worker` is one; so can any
program be that already has an event loop.
"""

import asyncio
import contextlib
import inspect
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from types import CodeType
from typing import Any, Final, Self

from voicebus.adapters.redis.circuits import CircuitWatch
from voicebus.adapters.redis.membership import Membership, joined
from voicebus.adapters.redis.registry import ToolRegistry
from voicebus.adapters.redis.tail import StreamTail
from voicebus.agents import checking
from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.tools.calls import SERVICE, CallRunner
from voicebus.agents.tools.circuit import FailureCounts
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.kinds import tool_queue
from voicebus.agents.tools.limits import Turns
from voicebus.agents.tools.registering import Registrar
from voicebus.agents.tools.worker_settings import WorkerSettings
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import CONTROL_TTL_S, Keys
from voicebus.contracts.tools import (
    TOOL_CANCEL,
    TOOL_FOLLOW,
    TOOL_HANDOVER,
    ToolCancel,
    ToolFollow,
    ToolRegistration,
)
from voicebus.errors import BusError, ContractError, UserError
from voicebus.runtime.consumer import ConsumerLoop, until_reached
from voicebus.runtime.durations import Durations
from voicebus.runtime.processes import ProcessPool, default_processes
from voicebus.runtime.retrying import retry_delay
from voicebus.runtime.threads import DaemonThreadPool
from voicebus.telemetry import metrics, zeroed
from voicebus.telemetry.blocking import LoopGuard
from voicebus.telemetry.health import Health
from voicebus.telemetry.logging import get_logger
from voicebus.telemetry.probes import ASGIApp, probes

log: Final = get_logger(__name__)

# Calls that are worked on by turns. Hardly more fit into a processor's caches: each of 200 took a third more time.
_PORTION: Final = 64


class ToolWorker:
    """Takes calls of `tools` from their queues.

        async with ToolWorker([get_weather], redis_url="redis://redis:6379/0"):
            ...  # for as long as the block runs, for instance in a FastAPI lifespan

    It takes no signals: whoever runs the program ends it. What is not given is read from the environment: `redis_url`
    from `VOICEBUS_REDIS_URL`, and so on for all that is a number, a text or a bool.

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
        wait_for_redis: begin also where Redis cannot be reached: the block runs, and calls are taken once it is there.

    Raises:
        UserError: two tools of one name, or none at all; or an argument that cannot be.
        SettingsError: a variable that cannot be.
    """

    def __init__(
        self,
        tools: Iterable[FunctionTool],
        *,
        redis_url: str | None = None,
        queue: str | None = None,
        concurrency: int | None = None,
        tool_timeout: float | None = None,
        drain_timeout: float | None = None,
        max_deliveries: int | None = None,
        max_result: int | None = None,
        processes: int | None = None,
        stream_prefix: str | None = None,
        event_shards: int | None = None,
        guardrail_shards: int | None = None,
        wait_for_redis: bool | None = None,
        context: Any = None,
        agents: Iterable[RealtimeAgent[Any]] = (),
        context_models: Mapping[str, Any] | None = None,
        on_reachable: Callable[[bool], None] | None = None,
    ) -> None:
        where = "ToolWorker"
        checking.iterable(where, "tools", tools, "function tools")
        checking.iterable(where, "agents", agents, "RealtimeAgent objects")
        checking.mapping(where, "context_models", context_models, optional=True)
        checking.function(where, "on_reachable", on_reachable, optional=True)
        agents = list(agents)
        checking.listed(where, "agents", agents, RealtimeAgent)
        self._tools = _by_name(tools)
        read = WorkerSettings.read(
            redis_url=redis_url, queue=queue, concurrency=concurrency, tool_timeout=tool_timeout,
            drain_timeout=drain_timeout, max_deliveries=max_deliveries, max_result=max_result, processes=processes,
            stream_prefix=stream_prefix, event_shards=event_shards, guardrail_shards=guardrail_shards,
            wait_for_redis=wait_for_redis,
        )  # fmt: skip
        self._redis_url = read.redis_url
        self._keys = Keys(read.stream_prefix, read.event_shards, read.guardrail_shards)
        self._queue = read.queue
        self._queues = {tool.name: tool_queue(tool, read.queue) for tool in self._tools.values()}
        self._registrar: Registrar | None = None
        self._durations: Mapping[str, Durations] = {}
        # Has what runs know the tools that there are now; None while nothing runs.
        self._follow: Callable[[], None] | None = None
        self._prepared: set[Callable[..., Any]] = set()
        self._concurrency = read.concurrency
        self._tool_timeout = read.tool_timeout.total_seconds()
        self._drain_timeout = read.drain_timeout.total_seconds()
        self._max_deliveries = read.max_deliveries
        self._max_result = read.max_result
        self._processes = read.processes or None
        self._wait_for_redis = read.wait_for_redis
        self._health = Health("redis", "working")
        self._executor: DaemonThreadPool | None = None
        self._health.lives_while(lambda: self._executor is None or not self._executor.stuck)
        self._id: str | None = None
        self._context = context
        self._context_models = context_models
        self._agents = {agent.name: agent for agent in agents}
        self._on_reachable = on_reachable
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._task is not None and not self._task.done():
            raise UserError("this ToolWorker runs already; a second one needs an object of its own")
        ready = asyncio.Event()
        self._stop.clear()
        self._task = asyncio.create_task(self.run(self._stop, ready=ready.set), name="tool-worker")
        if self._wait_for_redis:
            return self
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

    @property
    def health(self) -> Health:
        """Whether calls are taken (`ready`), and whether the event loop turns (`live`)."""
        return self._health

    @property
    def probes(self) -> ASGIApp:
        """`/livez` and `/readyz` to mount in an application: `app.mount("/tools", worker.probes)`."""
        return probes(self._health)

    @property
    def id(self) -> str | None:
        """This incarnation, as results and the registry name it; None while it is not on the bus."""
        return self._id

    async def offer(self, tools: Iterable[FunctionTool]) -> None:
        """Offer these tools from now on, in place of those before. Calls under way run on.

        Raises:
            UserError: as the constructor; or one of them is in a queue that is not read, or in conflict with another
                worker's.
            BusError: Redis cannot be reached; they are registered once it can.
        """
        offered = _by_name(tools)
        queues = {tool.name: tool_queue(tool, self._queue) for tool in offered.values()}
        for name, queue in queues.items():
            if queue not in self._queues.values():
                raise UserError(f"tool {name!r} has queue {queue!r}, which this worker did not read when it began")
        gone = [name for name in self._tools if name not in offered]
        self._queues.update(queues)
        self._tools.update(offered)
        for name in gone:
            del self._tools[name]
        if self._follow is not None:
            self._follow()
        if self._registrar is not None:
            await self._registrar.withdraw(gone)
            await self._registrar.register()

    async def registered(self, names: Iterable[str]) -> dict[str, list[ToolRegistration]]:
        """What workers of the cluster offer under these names: of each its versions, newest first. Empty while this
        worker is not on the bus.

        Raises:
            BusError: Redis cannot be reached.
        """
        return {} if self._registrar is None else await self._registrar.registered(names)

    async def run(self, stop: asyncio.Event, *, ready: Callable[[], object] | None = None) -> None:
        """Work until `stop` is set, then finish what is in hand. `ready` is called once calls are taken.

        Raises:
            BusError: Redis cannot be reached at the start, and is not waited for; later outages are waited out.
            SettingsError: the installation is configured otherwise.
            UserError: a living worker offers one of these tools with another schema.
        """
        watching = asyncio.create_task(self._health.watch_loop(), name="tool-worker loop")
        try:
            for failures in itertools.count():
                try:
                    await self._work(stop, ready)
                except BusError as error:
                    if self._id is not None or not self._wait_for_redis:
                        raise
                    if failures == 0:
                        log.warning("tool worker waits for Redis", error=str(error))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(retry_delay(failures)):
                            await stop.wait()
                else:
                    return
                if stop.is_set():
                    return
        finally:
            self._id = self._registrar = self._follow = None
            for condition in ("redis", "working"):
                self._health.set(condition, False)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _work(self, stop: asyncio.Event, ready: Callable[[], object] | None) -> None:
        async with joined(
            self._redis_url, self._keys, service=SERVICE, describe=self._describe, lost=self._register_again
        ) as member:
            zeroed.run_tools(self._tools)
            registry = ToolRegistry(member.bus, self._keys, member.clock)
            registrar = Registrar(registry, member.id, self._tools, self._queues, timeout_s=self._tool_timeout)
            await registrar.register()
            self._registrar = registrar
            streams = {self._keys.tools(queue): queue for queue in sorted(set(self._queues.values()))}
            processes = ProcessPool(self._processes or default_processes())
            executor = self._executor = DaemonThreadPool(
                self._concurrency, name="tool", on_left=metrics.THREADS_STUCK.labels(service=SERVICE).set
            )
            circuits = CircuitWatch(member.bus, self._keys, member.clock)
            member.spawn(circuits.run(), name="circuits")
            runner = CallRunner(
                member, registry, self._tools, streams,
                executor=executor, timeout_s=self._tool_timeout, context=self._context,
                processes=lambda: processes, agents=self._agents, context_models=self._context_models,
                max_result=self._max_result,
                failures=FailureCounts(circuits, self._tools, worker=member.id),
            )  # fmt: skip
            self._durations = runner.durations
            member.spawn(runner.keep(), name="renew")
            codes, self._prepared = self._codes(), set()
            turns = Turns(self._tools, member.clock, runner.is_cancelled)
            member.spawn(LoopGuard(codes, _blocked).run(), name="loop-guard")

            def follow() -> None:
                turns.follow()
                codes.update(self._codes())
                self._prepare(member, processes)

            self._prepare(member, processes)
            self._follow = follow
            member.spawn(registrar.keep(stop), name="registry")
            loop = ConsumerLoop(
                member.consume(streams, tools=turns.unlimited), runner.handle, clock=member.clock, service=SERVICE,
                concurrency=self._concurrency, on_reachable=self._reached,
                given_up=runner.given_up, max_deliveries=self._max_deliveries,
                turn=turns, portion=_PORTION,
            )  # fmt: skip
            control = self._control(member, runner, loop)
            member.masters.on_change(lambda _: control.rewind())
            member.masters.on_change(lambda since: member.spawn(runner.restore(since), name="restore"))
            member.masters.on_change(lambda _: registrar.again())
            member.spawn(control.run(), name="control")
            log.info("tool worker ready", worker=member.id, tools=sorted(self._tools), queues=sorted(streams.values()))
            self._id = member.id
            self._health.set("working", True)
            self._reached(True)
            member.spawn(self._stops(stop), name="readiness")
            if ready is not None:
                ready()
            try:
                await loop.run(stop, drain_timeout=self._drain_timeout)
            finally:
                executor.shutdown()
                processes.close()
            await registrar.withdraw()
        log.info("tool worker stopped", worker=member.id)

    def _prepare(self, member: Membership, processes: ProcessPool) -> None:
        isolated = {tool.function for tool in self._tools.values() if tool.executor == "process"}
        new = isolated - self._prepared
        self._prepared |= new
        if new:
            member.spawn(processes.prepare(new), name="prepare")

    def _register_again(self) -> None:
        if self._registrar is not None:
            self._registrar.again()

    async def _stops(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._health.set("working", False)

    def _reached(self, reached: bool) -> None:
        self._health.set("redis", reached)
        if self._on_reachable is not None:
            self._on_reachable(reached)

    def _codes(self) -> dict[CodeType, str]:
        """The code of every tool that runs on the event loop, by which one that blocks it is known."""
        functions = {name: inspect.unwrap(tool.function) for name, tool in self._tools.items() if tool.is_async}
        codes = {name: getattr(function, "__code__", None) for name, function in functions.items()}
        return {code: name for name, code in codes.items() if isinstance(code, CodeType)}

    def _describe(self) -> dict[str, str]:
        quick = ((queue, took.quick_ms()) for queue, took in self._durations.items())
        return {
            "queues": json.dumps(sorted(set(self._queues.values()))),
            "tools": json.dumps(sorted(self._tools)),
            "version": version("voicebus"),
            "concurrency": str(self._concurrency),
            "takes": json.dumps({queue: took_ms for queue, took_ms in quick if took_ms is not None}),
            "handover": "1",
            "follow": "1",
        }

    def _control(self, member: Membership, runner: CallRunner, loop: ConsumerLoop) -> StreamTail:
        async def route(entry_id: str, fields: dict[str, str]) -> None:
            try:
                entry = Entry.parse(fields)
                if entry.type == TOOL_CANCEL:
                    cancel = ToolCancel.of(entry)
                    runner.cancel(entry.session, cancel.call_id, cancel.reason)
                elif entry.type == TOOL_FOLLOW:
                    follow = ToolFollow.of(entry)
                    self._keys.require_reply_to(follow.reply_to)
                    runner.follow((entry.session, follow.call_id), follow.reply_to, entry.epoch)
                elif entry.type == TOOL_HANDOVER:
                    await until_reached(loop.recover)
            except ContractError as error:
                log.warning("control entry refused", entry=entry_id, reason=error.reason, error=str(error))

        stream = self._keys.control(member.id)
        return StreamTail(member.bus, stream, route, ttl_s=CONTROL_TTL_S, service=SERVICE)


def _by_name(tools: Iterable[FunctionTool]) -> dict[str, FunctionTool]:
    """Raises:
    UserError: one is none, two have one name, or there are none.
    """
    named: dict[str, FunctionTool] = {}
    for tool in tools:
        if not isinstance(tool, FunctionTool):
            raise UserError(f"a tool worker runs function tools, made by @function_tool; not {tool!r}")
        if tool.name in named and named[tool.name] is not tool:
            origins = f"{named[tool.name].origin} and {tool.origin}"
            raise UserError(f"two tools are named {tool.name!r}: {origins}; rename one")
        named[tool.name] = tool
    if not named:
        raise UserError("a tool worker needs at least one function tool")
    return named


def _blocked(tool: str, seconds: float) -> None:
    metrics.TOOL_BLOCKED.labels(tool=tool or "other").inc(seconds)
