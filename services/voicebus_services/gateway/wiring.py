"""Builds a gateway from its settings, runs it until SIGTERM, and takes it down in order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voicebus.adapters.openai_calls import OpenAICalls
from voicebus.adapters.redis.answers import KeptAnswers
from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.config import pin_config
from voicebus.adapters.redis.directory import SessionDirectory
from voicebus.adapters.redis.former import FormerInboxes
from voicebus.adapters.redis.gateway_calls import GatewayCalls
from voicebus.adapters.redis.gateways import Gateways
from voicebus.adapters.redis.heartbeat import Heartbeat, new_incarnation
from voicebus.adapters.redis.offers import Offers
from voicebus.adapters.redis.owners import SessionOwners
from voicebus.adapters.redis.records import RedisRecords
from voicebus.adapters.redis.registry import ToolRegistry
from voicebus.adapters.redis.stream_metrics import StreamReporter
from voicebus.adapters.redis.takeover import RedisTakeover
from voicebus.adapters.sockets.uvicorn_upgrade import upgrade_hook
from voicebus.agents.mcp.server import Joined
from voicebus.agents.targets import Targets, load_targets
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.kinds import tool_queue
from voicebus.agents.tools.remote import RemoteTool
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import ToolRegistration
from voicebus.errors import StaleOwnerError, TargetError
from voicebus.ports import Clock, ModelConnector, SessionRef
from voicebus.runtime.lifecycle import operating, return_large_memory, spare_the_collector, stop_event
from voicebus.telemetry import zeroed
from voicebus.telemetry.health import Health
from voicebus.telemetry.logging import get_logger
from voicebus_services.access.allowance import RequestRate
from voicebus_services.access.client_secrets import ClientSecrets
from voicebus_services.access.wiring import Credentials, open_access
from voicebus_services.gateway.admission import Admission, Rules
from voicebus_services.gateway.adopting import Adopting
from voicebus_services.gateway.app import Served, build_app
from voicebus_services.gateway.bus_side import BusSide
from voicebus_services.gateway.calling import Calling
from voicebus_services.gateway.elsewhere import Elsewhere
from voicebus_services.gateway.lease import Lease, LeasedConnector
from voicebus_services.gateway.models import Reached, models
from voicebus_services.gateway.moving import Moving
from voicebus_services.gateway.reachable import reachable
from voicebus_services.gateway.recorded import Recall
from voicebus_services.gateway.relaying import Peers
from voicebus_services.gateway.sessions import Sessions
from voicebus_services.gateway.takeover import Takeover
from voicebus_services.gateway.upgrades import Doorkeeper, Traffic
from voicebus_services.http import serving
from voicebus_services.privacy.policy import NO_POLICIES, Policies, read_policies
from voicebus_services.recordings import storage_at
from voicebus_services.settings import GatewaySettings
from voicebus_services.tls import Certificate
from voicebus_services.turns import Turns
from voicebus_services.watched import Watched

if TYPE_CHECKING:
    from voicebus_services.gateway.recording import Recording

log = get_logger(__name__)

# What a gateway that gives a session up may take beyond the time that it has to stop.
_YIELD_S = 5.0
# One deadline for everything after the drain. What was said is worth waiting for: an outage of Redis that is shorter
# loses nothing at a shutdown.
_CLOSING_S = 30.0
# What is left of recordings then stays in parts, which are read as well.
_RECORDINGS_S = 10.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway. `port` is the public one; `id` names this incarnation of the process."""

    id: str
    port: int
    sessions: Sessions
    health: Health
    work: tuple[asyncio.Task[None], ...]

    async def run_until(self, stop: asyncio.Event) -> None:
        """Wait for `stop`; a part of the gateway that fails before raises what it failed of."""
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            done, _ = await asyncio.wait({stopping, *self.work}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        for task in done:
            task.result()


async def serve(
    settings: GatewaySettings, targets: Sequence[str], *, ready: Callable[[int], None] | None = None
) -> None:
    """Serve the agents of `targets` until SIGINT or SIGTERM. `ready` is called with the port that was taken.

    Raises:
        TargetError: a target cannot be loaded, or none holds an agent.
        SettingsError: a port is taken, a key is missing, or the cluster is configured otherwise.
        BusError: Redis cannot be reached or refuses the password.
    """
    stop = stop_event()
    loaded = load_targets(targets)
    if not loaded.agents:
        raise TargetError(f"TARGET {', '.join(targets)}: it holds no agent, and a gateway serves agents")
    async with running_gateway(settings, loaded) as gateway:
        spare_the_collector()
        return_large_memory()
        if ready is not None:
            ready(gateway.port)
        await gateway.run_until(stop)


@asynccontextmanager
async def running_gateway(settings: GatewaySettings, targets: Targets) -> AsyncIterator[Gateway]:
    """Serve while the block runs; at its end no more sessions are taken, and those in hand get the drain time-out.

    Raises:
        SettingsError, BusError: as `serve`.
    """
    reached = models(settings, targets.configs)
    credentials = Credentials.of(settings)
    certificate = Certificate.of(settings.tls_cert, settings.tls_key)
    health = Health("redis", "http", "room")
    zeroed.of_gateway()
    zeroed.tools(_tools(targets))
    zeroed.guardrails(targets.guardrails)
    async with (
        await connect(settings.redis_url) as redis,
        operating(health, host=settings.ops_host, port=settings.ops_port),
        _gateway(settings, targets, reached, credentials, certificate, health, redis) as gateway,
    ):
        log.info("gateway ready", gateway=gateway.id, port=gateway.port, agents=list(targets.agents))
        yield gateway
    log.info("gateway stopped", gateway=gateway.id)


def _tools(targets: Targets) -> set[str]:
    """The names of all tools that the agents bring, also of those that run elsewhere."""
    named = (tool for agent in targets.agents.values() for tool in agent.tools)
    return {*targets.tools, *(tool.name for tool in named if isinstance(tool, FunctionTool | RemoteTool))}


def _queues(targets: Targets) -> set[str]:
    """The queues of the tools that the agents bring; the registry names those of others."""
    tools = [*targets.tools.values(), *(tool for agent in targets.agents.values() for tool in agent.tools)]
    return {tool_queue(tool, None) for tool in tools if isinstance(tool, FunctionTool)}


def _recording(settings: GatewaySettings, clock: Clock, privacy: Watched[Policies] | None) -> "Recording | None":
    """Makes recordings, where there are to be some, of tenants that have not switched them off."""
    if settings.recordings_url is None:
        return None
    storage = storage_at(settings.recordings_url)
    # It has packages of an extra.
    from voicebus_services.gateway.recording import Recording

    def allows(tenant: str) -> bool:
        return (NO_POLICIES if privacy is None else privacy.now).of(tenant).record

    return Recording(storage, clock, assumed=settings.recording_consent == "assumed", allows=allows)


@asynccontextmanager
async def _gateway(
    settings: GatewaySettings,
    targets: Targets,
    reached: Reached,
    credentials: Credentials,
    certificate: Certificate | None,
    health: Health,
    redis: RedisConnection,
) -> AsyncIterator[Gateway]:
    keys = Keys(settings.stream_prefix, settings.event_shards, settings.guardrail_shards)
    await pin_config(redis, keys)
    clock = RedisClock(redis)
    await clock.synchronise()

    gateway = new_incarnation()

    def lost(error: StaleOwnerError) -> None:
        sessions.lost(error)

    def wanted(entry: Entry) -> asyncio.Future[None]:
        return sessions.leaving.wanted(entry)

    async def tells_dead(other: str) -> bool:
        return await heartbeat.tells_dead(redis, other)

    side = BusSide(
        redis, clock, keys, gateway, guardrail_timeout_s=settings.guardrail_timeout.total_seconds(), lost=lost,
        wanted=wanted, reached=lambda reached: health.set("redis", reached), tells_dead=tells_dead,
    )  # fmt: skip
    await side.begin()
    registry = ToolRegistry(redis, keys, clock)

    def retool(offered: Mapping[str, ToolRegistration]) -> None:
        sessions.retool(offered)

    offers = Offers(registry, wanted=lambda: sessions.follows_offers, follow=retool)

    # What sessions open stays open for the next ones.
    servers = Joined()
    for agent in targets.agents.values():
        servers.join(agent.mcp_servers)
    grace = settings.resume_grace
    recall = Recall(RedisRecords(redis, keys))
    rules = Rules(
        slots=settings.max_sessions,
        tenant_sessions=settings.max_sessions_per_tenant,
        key_sessions=settings.max_sessions_per_key,
        connections_per_minute=settings.max_connections_per_minute,
    )
    gateways = Gateways(redis, keys, clock, gateway)
    privacy = None if settings.privacy_file is None else Watched(settings.privacy_file, read_policies)
    recording = _recording(settings, clock, privacy)
    admission = Admission(redis, keys, rules, on_change=lambda room: health.set("room", room))
    sessions = Sessions(
        settings,
        targets,
        side.ports,
        side.journal,
        reached.of_agent,
        registered=offers.current,
        recall=recall,
        admission=admission,
        has_other=gateways.has_other,
        recording=recording,
    )
    peers = Peers(SessionOwners(redis, keys), gateway, certificate=settings.tls_cert)
    directory = SessionDirectory(redis, keys, clock, resume_grace_s=grace.total_seconds())
    secrets = ClientSecrets(redis, keys, clock)
    connector = reached.first
    provider = OpenAICalls(connector.url, connector.headers, tls=connector.tls)
    lease = Lease()
    gateway_calls = GatewayCalls(redis, keys, gateway)

    def joining(call_id: str) -> ModelConnector:
        way = reached.guarded.joining(connector.joining(call_id), call_id)
        return LeasedConnector(way, lease, lambda then: side.journal.after(SessionRef(call_id, 0), then))

    calling = Calling(
        settings, targets, sessions, provider, registered=offers.current,
        joining=joining, calls=gateway_calls,
    )  # fmt: skip
    async with contextlib.AsyncExitStack() as stack:
        requests = RequestRate(redis, keys, settings.max_requests_per_minute)
        access = await stack.enter_async_context(open_access(credentials, secrets=secrets, requests=requests))
        app = build_app(
            access,
            Served(
                targets=targets,
                registry=registry,
                circuits=side.circuits,
                offers=offers,
                directory=directory,
                commands=side.commands,
                answers=KeptAnswers(redis, keys),
                secrets=secrets,
                sessions=sessions,
                recall=recall,
                calling=calling,
                peers=peers,
                clock=clock,
                grace=grace,
            ),
        )
        traffic = Traffic(settings.max_messages_per_second, settings.max_message_bytes)
        taking = RedisTakeover(redis, keys, clock, gateway)
        former = FormerInboxes(redis, keys, side.inbox.late)
        takeover = Takeover(
            sessions, admission, taking, side.outbox, former, clock, keys, gateway, grace_s=grace.total_seconds()
        )
        moving = Moving(
            sessions, takeover, admission, taking, side.commands, clock, gateway,
            patience_s=settings.drain_timeout.total_seconds() + _YIELD_S,
        )  # fmt: skip
        others = Elsewhere(sessions, peers, takeover, moving)
        door = Doorkeeper(sessions, targets, access, others, clock, grace_s=grace.total_seconds(), traffic=traffic)
        turns = Turns()
        upgrades = upgrade_hook(turns.before(door.decide))
        server = await stack.enter_async_context(
            serving(
                app,
                host=settings.http_host,
                port=settings.http_port,
                certificate=certificate,
                max_silent=settings.max_silent_connections,
                turns=turns,
                ws=upgrades,
            )
        )
        scheme = "http" if certificate is None else "https"
        address = f"{scheme}://{reachable(settings.http_host)}:{server.port}"

        def beat() -> Mapping[str, str]:
            return {
                "address": address,
                "sessions": str(sessions.count),
                "free": str(sessions.free),
                "draining": str(int(health.draining)),
            }

        heartbeat = Heartbeat(
            settings.redis_url, keys.gateway(gateway), beat,
            renewed=lease.renewed, lost=side.emptied, jumped=clock.doubt,
        )  # fmt: skip
        adopting = Adopting(
            takeover, moving, calling, gateway_calls,
            is_dead=lambda other: tells_dead(keys.gateway(other)),
        )  # fmt: skip
        side.masters.on_change(lambda _: heartbeat.contact.broke())
        work = {
            **side.work(),
            "offers": offers.run(),
            "admission": admission.keep(),
            "gateways": gateways.keep(),
            "streams": StreamReporter(redis, keys, gateways, _queues(targets)).run(),
            "adopting": adopting.run(),
        }
        if privacy is not None:
            work["privacy-file"] = privacy.keep()
        tasks = [asyncio.create_task(task, name=name) for name, task in work.items()]
        try:
            await heartbeat.start()
            health.set("redis", True)
            health.set("http", True)
            health.set("room", True)
            yield Gateway(gateway, server.port, sessions, health, tuple(tasks))
        finally:
            health.drain()
            adopting.stop()
            try:
                await sessions.drain(settings.drain_timeout.total_seconds())
                async with asyncio.timeout(_CLOSING_S):
                    await upgrades.aclose()
                    await peers.aclose()
                    await adopting.aclose()
                    await moving.aclose()
                    await calling.aclose()
                    await former.aclose()
                    await side.aclose(_CLOSING_S)
            except TimeoutError:
                log.warning("closing took too long, what is left is given up", seconds=_CLOSING_S)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                if recording is not None:
                    await recording.aclose(_RECORDINGS_S)
                await servers.aclose()
                await provider.aclose()
                await heartbeat.stop()
