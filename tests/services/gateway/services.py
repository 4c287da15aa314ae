"""The services that answer a gateway, in the test's own process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from support.waiting import wait_until
from voicebus.agents.targets import Targets
from voicebus.agents.tools.worker import ToolWorker
from voicebus.telemetry.health import Health
from voicebus_services.guardrail_worker.wiring import work
from voicebus_services.settings import GuardrailWorkerSettings


@asynccontextmanager
async def working(targets: Targets, **bus: Any) -> AsyncIterator[None]:
    """A tool worker and a guardrail worker for `targets` while the block runs; `bus` says where."""
    settings = GuardrailWorkerSettings(**bus, ops_port=0, drain_timeout=0)
    stop, ready = asyncio.Event(), asyncio.Event()
    models = targets.context_models
    async with ToolWorker(targets.tools.values(), **bus, agents=targets.agents.values(), context_models=models):
        judging = asyncio.create_task(work(settings, targets, Health("redis"), stop, ready=ready.set), name="judging")
        try:
            await wait_until(lambda: ready.is_set() or judging.done(), description="the guardrail worker")
            yield
        finally:
            stop.set()
            await judging
