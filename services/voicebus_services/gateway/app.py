"""The gateway's HTTP application: the routers of `routes` behind one door. WebSockets do not pass through it."""

from importlib.metadata import version

from fastapi import APIRouter, Depends, FastAPI

from voicebus.adapters.redis.commanding import RedisCommands
from voicebus.agents.targets import Targets
from voicebus_services.gateway.routes import agents, page, tool_calls
from voicebus_services.gateway.routes import sessions as session_routes
from voicebus_services.gateway.sessions import Sessions
from voicebus_services.http import ApiKeys, answer_with_problems, require_key


def build_app(sessions: Sessions, targets: Targets, keys: ApiKeys, commands: RedisCommands, *, gateway: str) -> FastAPI:
    """Everything under `/v1` asks for a credential."""
    app = FastAPI(
        title="Voicebus session gateway",
        version=version("voicebus"),
        description="Realtime voice agents. WebSockets: `/v1/realtime` (the OpenAI Realtime protocol) and "
        "`/v1/sessions/connect` (the native face).",
    )
    answer_with_problems(app)
    v1 = APIRouter(prefix="/v1", dependencies=[Depends(require_key(keys))])
    for router in (
        agents.routes(targets),
        session_routes.routes(sessions, gateway=gateway),
        tool_calls.routes(commands),
    ):
        v1.include_router(router)
    app.include_router(page.routes())
    app.include_router(v1)
    return app
