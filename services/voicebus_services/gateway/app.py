"""The gateway's HTTP application: the routers of `routes` behind one door. WebSockets do not pass through it."""

from dataclasses import dataclass
from datetime import timedelta

from fastapi import APIRouter, Depends, FastAPI

from voicebus.adapters.redis.answers import KeptAnswers
from voicebus.adapters.redis.circuits import CircuitWatch
from voicebus.adapters.redis.commanding import RedisCommands
from voicebus.adapters.redis.directory import SessionDirectory
from voicebus.adapters.redis.offers import Offers
from voicebus.adapters.redis.registry import ToolRegistry
from voicebus.agents.targets import Targets
from voicebus.ports import Clock
from voicebus_services.access.authenticator import Authenticator, caller, manager
from voicebus_services.access.client_secrets import ClientSecrets
from voicebus_services.access.known_first import KnownFirst
from voicebus_services.bodies import BoundedBodies
from voicebus_services.gateway.calling import Calling
from voicebus_services.gateway.idempotency import IdempotentWrites
from voicebus_services.gateway.recorded import Recall
from voicebus_services.gateway.relaying import Peers
from voicebus_services.gateway.routes import (
    agents,
    calls,
    client_secrets,
    commands,
    creating,
    events,
    page,
    sockets,
    static,
    tool_calls,
    tools,
)
from voicebus_services.gateway.routes import sessions as session_routes
from voicebus_services.gateway.sessions import Sessions
from voicebus_services.gateway.upgrades import CONNECT, REALTIME
from voicebus_services.openapi import new_app


@dataclass(frozen=True, slots=True)
class Served:
    """What the application answers from. `grace` is how long a session waits for its client."""

    targets: Targets
    registry: ToolRegistry
    circuits: CircuitWatch
    offers: Offers
    directory: SessionDirectory
    commands: RedisCommands
    answers: KeptAnswers
    secrets: ClientSecrets
    sessions: Sessions
    recall: Recall
    calling: Calling
    peers: Peers
    clock: Clock
    grace: timedelta


def build_app(access: Authenticator, served: Served) -> FastAPI:
    """Everything under `/v1` asks for a credential."""
    app = new_app(
        "Voicebus session gateway",
        "Realtime voice agents. WebSockets: `/v1/realtime` (the OpenAI Realtime protocol) and "
        "`/v1/sessions/connect` (the native face).",
        secured=access.secured,
        writes=True,
    )
    # The last one is the first to see a request.
    app.add_middleware(IdempotentWrites, answers=served.answers)
    app.add_middleware(KnownFirst, access=access)
    app.add_middleware(BoundedBodies)
    access.origins.share(app)
    asking = manager(access)
    v1 = APIRouter(prefix="/v1", dependencies=[Depends(asking)])
    for router in (
        agents.routes(served.targets, served.offers, asking),
        tools.routes(served.targets, served.registry, served.circuits, asking),
        session_routes.routes(served.directory, asking),
        creating.routes(served.sessions, served.targets, served.clock, asking, grace=served.grace),
        events.routes(served.sessions, served.directory, served.recall, served.peers, asking),
        commands.routes(served.commands, asking),
        tool_calls.routes(served.commands, asking),
        client_secrets.routes(served.targets, served.secrets, asking),
        calls.commanding(served.commands, asking),
    ):
        v1.include_router(router)
    app.include_router(page.routes())
    app.include_router(static.routes(access.origins))
    app.include_router(sockets.routes(REALTIME, CONNECT))
    app.include_router(v1)
    app.include_router(calls.opening(served.targets, served.calling, caller(access)), prefix="/v1")
    return app
