"""The tool-worker service: a `ToolWorker` with the tools of its TARGETs, its ops port, and an end by signal."""

import asyncio
import gc
from collections.abc import Callable, Sequence

from voicebus.agents.targets import load_targets
from voicebus.agents.tools.worker import ToolWorker
from voicebus.errors import TargetError
from voicebus.runtime.lifecycle import operating, stop_event
from voicebus.telemetry.health import Health
from voicebus_services.settings import ToolWorkerSettings


async def serve(
    settings: ToolWorkerSettings, targets: Sequence[str], *, ready: Callable[[], None] | None = None
) -> None:
    """Run the tools of `targets` until SIGINT or SIGTERM; `ready` is called once calls are taken.

    Raises:
        TargetError: a target cannot be loaded, or none holds a function tool.
        SettingsError: the ops port is taken, or the installation is configured otherwise.
        UserError: a living worker offers one of these tools with another schema.
        BusError: Redis cannot be reached or refuses the password.
    """
    stop = stop_event()
    loaded = load_targets(targets)
    if not loaded.tools:
        raise TargetError(f"TARGET {', '.join(targets)}: it holds no function tool, and a tool worker runs those")
    health = Health("redis")
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
        draining = asyncio.create_task(_drain(stop, health), name="drain")
        try:
            await worker.run(stop, ready=started)
        finally:
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)


async def _drain(stop: asyncio.Event, health: Health) -> None:
    await stop.wait()
    health.drain()
