"""The gateway's HTTP application: the routers of `routes` behind one door. WebSockets do not pass through it."""

from datetime import timedelta

from fastapi import APIRouter, Depends, FastAPI

from voicebus.adapters.redis.answers import KeptAnswers
from voicebus.adapters.redis.commanding import RedisCommands
from voicebus.adapters.redis.directory import SessionDirectory
from voicebus.agents.targets import Targets
from voicebus.ports import Clock
from voicebus_services.access.authenticator import Authenticator, caller, manager
from voicebus_services.access.client_secrets import ClientSecrets
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
    static,
    tool_calls,
)
from voicebus_services.gateway.routes import sessions as session_routes
from voicebus_services.gateway.sessions import Sessions
from voicebus_services.openapi import BoundedBodies, new_app


def build_app(
    targets: Targets,
    access: Authenticator,
    directory: SessionDirectory,
    bus: RedisCommands,
    answers: KeptAnswers,
    secrets: ClientSecrets,
    sessions: Sessions,
    recall: Recall,
    clock: Clock,
    calling: Calling,
    peers: Peers,
    *,
    grace: timedelta,
) -> FastAPI:
    """Everything under `/v1` asks for a credential."""
    app = new_app(
        "Voicebus session gateway",
        "Realtime voice agents. WebSockets: `/v1/realtime` (the OpenAI Realtime protocol) and "
        "`/v1/sessions/connect` (the native face).",
        secured=access.secured,
        writes=True,
    )
    # The last one is the first to see a request.
    app.add_middleware(IdempotentWrites, access=access, answers=answers)
    app.add_middleware(BoundedBodies)
    access.origins.share(app)
    asking = manager(access)
    v1 = APIRouter(prefix="/v1", dependencies=[Depends(asking)])
    for router in (
        agents.routes(targets, asking),
        session_routes.routes(directory, asking),
        creating.routes(sessions, targets, clock, asking, grace=grace),
        events.routes(sessions, directory, recall, peers, asking),
        commands.routes(bus, asking),
        tool_calls.routes(bus, asking),
        client_secrets.routes(targets, secrets, asking),
        calls.commanding(bus, asking),
    ):
        v1.include_router(router)
    app.include_router(page.routes())
    app.include_router(static.routes())
    app.include_router(v1)
    app.include_router(calls.opening(targets, calling, caller(access)), prefix="/v1")
    return app
