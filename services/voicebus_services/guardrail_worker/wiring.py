"""The guardrail-worker service: the guardrails of its TARGETs on every guardrail stream, until SIGTERM."""

import asyncio
import json
from collections.abc import Callable, Sequence
from importlib.metadata import version

from voicebus.adapters.redis.membership import joined
from voicebus.agents.targets import Targets, load_targets
from voicebus.contracts.streams import GUARDRAILS_QUEUE, Keys
from voicebus.ports import Delivery
from voicebus.runtime.consumer import ConsumerLoop
from voicebus.runtime.lifecycle import operating, spare_the_collector, stop_event
from voicebus.telemetry import zeroed
from voicebus.telemetry.health import Health
from voicebus.telemetry.logging import get_logger
from voicebus_services.guardrail_worker.checks import SERVICE, CheckRunner
from voicebus_services.guardrail_worker.lanes import Lanes
from voicebus_services.guardrail_worker.waiting import WAITING_ROOM, Waitlist
from voicebus_services.settings import GuardrailWorkerSettings

log = get_logger(__name__)


async def serve(
    settings: GuardrailWorkerSettings, targets: Sequence[str], *, ready: Callable[[], None] | None = None
) -> None:
    """Judge with the guardrails of `targets` until SIGINT or SIGTERM; `ready` is called once checks are taken.

    Raises:
        TargetError: a target cannot be loaded.
        SettingsError: the ops port is taken, or the installation is configured otherwise.
        BusError: Redis cannot be reached or refuses the password.
    """
    stop = stop_event()
    loaded = load_targets(targets)
    if not loaded.guardrails:
        # One module is deployed to every service; an agent without a guardrail must not keep its worker from starting.
        log.warning("the targets hold no guardrail: there is nothing to judge", targets=list(targets))
    health = Health("redis")
    async with operating(health, host=settings.ops_host, port=settings.ops_port):
        draining = asyncio.create_task(health.drain_at(stop), name="drain")
        try:
            await work(settings, loaded, health, stop, ready=ready)
        finally:
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)


async def work(
    settings: GuardrailWorkerSettings,
    targets: Targets,
    health: Health,
    stop: asyncio.Event,
    *,
    ready: Callable[[], None] | None = None,
) -> None:
    """Judge until `stop` is set; `health` hears whether Redis is reachable.

    Raises:
        SettingsError, BusError: as `serve`.
    """
    zeroed.judged_guardrails(targets.guardrails)
    keys = Keys(settings.stream_prefix, settings.event_shards, settings.guardrail_shards)

    def describe() -> dict[str, str]:
        return {
            "queues": json.dumps([GUARDRAILS_QUEUE]),
            "guardrails": json.dumps(sorted(targets.guardrails)),
            "version": version("voicebus"),
            "concurrency": str(settings.concurrency),
        }

    async with joined(settings.redis_url, keys, service=SERVICE, describe=describe) as member:
        lanes = Lanes(targets.guardrails, settings.concurrency, service=SERVICE)
        health.lives_while(lambda: not lanes.stuck)
        budget_s = settings.guardrail_timeout.total_seconds()
        waitlist = Waitlist(settings.concurrency)
        member.spawn(lanes.prepare(), name="prepare")

        def set_aside(delivery: Delivery) -> None:
            loop.set_aside(delivery)

        runner = CheckRunner(
            member,
            targets,
            lanes=lanes,
            budget_s=budget_s,
            waitlist=waitlist,
            aside=set_aside,
        )
        streams = {keys.guardrails(shard): GUARDRAILS_QUEUE for shard in range(keys.guardrail_shards)}
        loop = ConsumerLoop(
            member.consume(streams),
            runner.handle,
            clock=member.clock,
            service=SERVICE,
            concurrency=settings.concurrency + WAITING_ROOM,
            turn=waitlist.turn,
            on_reachable=lambda reached: health.set("redis", reached),
        )
        spare_the_collector()
        health.set("redis", True)
        log.info("guardrail worker ready", worker=member.id, guardrails=sorted(targets.guardrails))
        if ready is not None:
            ready()
        try:
            await loop.run(stop, drain_timeout=settings.drain_timeout.total_seconds())
        finally:
            lanes.close()
    log.info("guardrail worker stopped", worker=member.id)
