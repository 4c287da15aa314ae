"""The tool-worker service: a `ToolWorker` with the tools of its TARGETs, its ops port, and an end by signal."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

from voicebus.adapters.redis.client import connect
from voicebus.adapters.redis.config import pin_config
from voicebus.agents.targets import Targets, load_targets
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.worker import ToolWorker
from voicebus.contracts.streams import Keys
from voicebus.errors import BusError
from voicebus.runtime.lifecycle import operating, spare_the_collector, stop_event
from voicebus.telemetry.health import Health
from voicebus.telemetry.logging import get_logger
from voicebus_services.settings import ToolWorkerSettings
from voicebus_services.tool_worker.mounting import Mounts
from voicebus_services.tool_worker.reloading import reloading

log = get_logger(__name__)

_PROBE_S: Final = 1.0

# The calls in hand of a busy worker are made of some ten thousand objects, of which none is garbage before they end.
# Full collections come about as often as in other services.
_COLLECTIONS: Final = (50_000, 1, 1)


async def serve(
    settings: ToolWorkerSettings, targets: Sequence[str], *, ready: Callable[[], None] | None = None
) -> None:
    """Run the tools of `targets` until SIGINT or SIGTERM; `ready` is called once calls are taken.

    Raises:
        TargetError: a target cannot be loaded.
        MCPServerError: an MCP server cannot be reached.
        UsageError: what `reload` needs is not installed.
        SettingsError: the ops port is taken, or the installation is configured otherwise.
        UserError: a living worker offers one of these tools with another schema, or MCP headers are for no server.
        BusError: Redis cannot be reached or refuses the password.
    """
    if settings.reload:
        await reloading(targets, drain_timeout_s=settings.drain_timeout.total_seconds())
        return
    stop = stop_event()
    loaded = Targets() if settings.mcp and not targets else load_targets(targets)
    own = list(loaded.tools.values())
    mounts = Mounts(
        settings.mcp, prefixed=settings.mcp_prefix, connect_s=settings.mcp_connect_timeout.total_seconds(),
        timeout_s=settings.tool_timeout.total_seconds(), headers=settings.mcp_headers,
    )  # fmt: skip
    health = Health("redis")

    def started() -> None:
        spare_the_collector(_COLLECTIONS)
        health.set("redis", True)
        mounts.look()  # another worker may know a newer version of what was found at the start
        if ready is not None:
            ready()

    async with operating(health, host=settings.ops_host, port=settings.ops_port), mounts.opened():
        background = [asyncio.create_task(health.drain_at(stop), name="drain")]
        try:
            tools = [*own, *await mounts.tools()]
            if tools:
                worker = _worker(settings, tools, loaded, health)
                health.lives_while(lambda: worker.health.live)
                if settings.mcp:
                    background.append(asyncio.create_task(mounts.follow(worker, own), name="mcp"))
                await worker.run(stop, ready=started)
            else:
                # One module is deployed to every service; an agent without a tool must not keep its worker from
                # starting.
                log.warning("the targets hold no function tool: there is nothing to run", targets=list(targets))
                await _idle(settings, health, stop, started)
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)


def _worker(settings: ToolWorkerSettings, tools: Sequence[FunctionTool], loaded: Targets, health: Health) -> ToolWorker:
    return ToolWorker(
        tools,
        redis_url=settings.redis_url,
        queue=settings.queue,
        concurrency=settings.concurrency,
        max_deliveries=settings.max_deliveries,
        processes=settings.processes or None,
        tool_timeout=settings.tool_timeout.total_seconds(),
        drain_timeout=settings.drain_timeout.total_seconds(),
        stream_prefix=settings.stream_prefix,
        event_shards=settings.event_shards,
        guardrail_shards=settings.guardrail_shards,
        agents=loaded.agents.values(),
        context_models=loaded.context_models,
        on_reachable=lambda reached: health.set("redis", reached),
    )


async def _idle(settings: ToolWorkerSettings, health: Health, stop: asyncio.Event, started: Callable[[], None]) -> None:
    """Be there until `stop`, with an honest readiness."""
    async with await connect(settings.redis_url) as redis:
        await pin_config(redis, Keys(settings.stream_prefix, settings.event_shards, settings.guardrail_shards))
        started()
        while not stop.is_set():
            try:
                await redis.call("PING")
            except BusError:
                health.set("redis", False)
            else:
                health.set("redis", True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PROBE_S):
                    await stop.wait()
