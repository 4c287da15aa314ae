"""The tool-worker service: a `ToolWorker` with the tools of its TARGETs, its ops port, and an end by signal."""

import asyncio
import gc
from collections.abc import Callable, Sequence

from voicebus.adapters.redis.client import connect
from voicebus.adapters.redis.config import pin_config
from voicebus.agents.targets import load_targets
from voicebus.agents.tools.worker import ToolWorker
from voicebus.contracts.streams import Keys
from voicebus.runtime.lifecycle import operating, stop_event
from voicebus.telemetry.health import Health
from voicebus.telemetry.logging import get_logger
from voicebus_services.settings import ToolWorkerSettings

log = get_logger(__name__)


async def serve(
    settings: ToolWorkerSettings, targets: Sequence[str], *, ready: Callable[[], None] | None = None
) -> None:
    """Run the tools of `targets` until SIGINT or SIGTERM; `ready` is called once calls are taken.

    Raises:
        TargetError: a target cannot be loaded.
        SettingsError: the ops port is taken, or the installation is configured otherwise.
        UserError: a living worker offers one of these tools with another schema.
        BusError: Redis cannot be reached or refuses the password.
    """
    stop = stop_event()
    loaded = load_targets(targets)
    health = Health("redis")
    if not loaded.tools:
        # One module is deployed to every service; an agent without a tool must not keep its worker from starting.
        log.warning("the targets hold no function tool: there is nothing to run", targets=list(targets))
        await _idle(settings, health, stop, ready)
        return
    worker = ToolWorker(
        loaded.tools.values(),
        redis_url=settings.redis_url,
        queue=settings.queue,
        concurrency=settings.concurrency,
        tool_timeout=settings.tool_timeout.total_seconds(),
        drain_timeout=settings.drain_timeout.total_seconds(),
        stream_prefix=settings.stream_prefix,
        event_shards=settings.event_shards,
        guardrail_shards=settings.guardrail_shards,
        on_reachable=lambda reached: health.set("redis", reached),
    )

    def started() -> None:
        gc.freeze()  # what the imports left is never garbage: full collections need not look at it
        health.set("redis", True)
        if ready is not None:
            ready()

    async with operating(health, host=settings.ops_host, port=settings.ops_port):
        draining = asyncio.create_task(health.drain_at(stop), name="drain")
        try:
            await worker.run(stop, ready=started)
        finally:
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)


async def _idle(
    settings: ToolWorkerSettings, health: Health, stop: asyncio.Event, ready: Callable[[], None] | None
) -> None:
    async with (
        await connect(settings.redis_url) as redis,
        operating(health, host=settings.ops_host, port=settings.ops_port),
    ):
        await pin_config(redis, Keys(settings.stream_prefix, settings.event_shards, settings.guardrail_shards))
        health.set("redis", True)
        if ready is not None:
            ready()
        await health.drain_at(stop)
