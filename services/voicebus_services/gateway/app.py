"""What the gateway answers over HTTP: a page, the agents, the sessions it holds, and their OpenAPI document."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, FastAPI, Path, Query
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from voicebus.adapters.redis.commanding import RedisCommands
from voicebus.agents.targets import Targets
from voicebus.errors import BusError, CommandRefusedError
from voicebus.telemetry.logging import get_logger
from voicebus_services.gateway.sessions import Held, Sessions
from voicebus_services.http import ApiKeys, ProblemError, answer_with_problems, require_key

log = get_logger(__name__)

MAX_MESSAGE: Final = 10_000
"""Characters of what a model is told of a rejection."""

# Ids of models are at most this long (see the engine's dialects), ours are shorter.
Id = Annotated[str, Path(min_length=1, max_length=512)]


class AgentShown(BaseModel):
    """One agent that this gateway serves."""

    name: str
    default: bool
    tools: list[str]
    handoffs: list[str]
    guardrails: list[str]


class AgentList(BaseModel):
    data: list[AgentShown]
    next_cursor: str | None = None


class SessionShown(BaseModel):
    """One session. Times are RFC 3339, UTC."""

    id: str
    agent: str
    status: str
    gateway: str
    started_at: str
    ended_at: str | None = None
    end_reason: str | None = None
    seq: int


class SessionList(BaseModel):
    data: list[SessionShown]
    next_cursor: str | None = None


# Open to everyone who reaches the port, so it says nothing of what is deployed.
PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Voicebus gateway</title>
<h1>Voicebus session gateway</h1>
<p>Talk to an agent with <code>voicebus call</code>, or with any client of the OpenAI Realtime protocol at
<code>/v1/realtime</code>.</p>
<ul>
<li><a href="/docs">/docs</a>: the HTTP interface</li>
<li><a href="/v1/agents">/v1/agents</a>: the agents, with their tools</li>
<li><a href="/v1/sessions">/v1/sessions</a>: the conversations held here</li>
</ul></html>
"""


class Decision(BaseModel):
    """A person's word about a call. `always`: about all further calls of that tool in this session, too."""

    model_config = ConfigDict(extra="forbid")

    always: bool = False


class Rejection(Decision):
    """`message` is what the model is told; absent, that the call was not approved."""

    message: Annotated[str | None, Field(max_length=MAX_MESSAGE)] = None


class CommandAccepted(BaseModel):
    """The session has carried the command out."""

    command_id: str


# What a refused command is over HTTP (contract section 5).
_REFUSALS: Final[Mapping[str, int]] = {
    "unknown_session": 404,
    "unknown_call": 404,
    "session_ended": 409,
    "no_answer": 504,
    "expired": 504,
}


def build_app(sessions: Sessions, targets: Targets, keys: ApiKeys, commands: RedisCommands, *, gateway: str) -> FastAPI:
    """The gateway's HTTP application. WebSockets do not pass through it."""
    app = FastAPI(
        title="Voicebus session gateway",
        version=version("voicebus"),
        description="Realtime voice agents. WebSockets: `/v1/realtime` (the OpenAI Realtime protocol) and "
        "`/v1/sessions/connect` (the native face).",
    )
    answer_with_problems(app)
    v1 = APIRouter(prefix="/v1", dependencies=[Depends(require_key(keys))])

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> str:
        return PAGE

    @v1.get("/agents", tags=["agents"])
    def agents() -> AgentList:
        """What is deployed here."""
        return AgentList(data=[_agent(targets, name) for name in targets.agents])

    @v1.get("/sessions", tags=["sessions"])
    def held_sessions(
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
    ) -> SessionList:
        """The sessions that this gateway holds, oldest first."""
        ordered = sorted((held for held in sessions if cursor is None or held.id > cursor), key=lambda held: held.id)
        chosen = ordered[:limit]
        more = chosen[-1].id if len(ordered) > limit else None
        return SessionList(data=[_session(held, gateway) for held in chosen], next_cursor=more)

    @v1.get("/sessions/{session}", tags=["sessions"])
    def held_session(session: str) -> SessionShown:
        """One session of this gateway."""
        for held in sessions:
            if held.id == session:
                return _session(held, gateway)
        raise ProblemError(404, "unknown_session", f"this gateway holds no session {session[:64]!r}")

    @v1.post("/sessions/{session}/tool-calls/{call_id}/approve", status_code=202, tags=["tool calls"])
    async def approve(session: Id, call_id: Id, decision: Decision | None = None) -> CommandAccepted:
        """Let a call run that waits for approval, whichever gateway holds its session."""
        given = decision or Decision()
        return await command(session, "approve", {"call_id": call_id, "always": given.always})

    @v1.post("/sessions/{session}/tool-calls/{call_id}/reject", status_code=202, tags=["tool calls"])
    async def reject(session: Id, call_id: Id, rejection: Rejection | None = None) -> CommandAccepted:
        """Refuse a call that waits for approval, whichever gateway holds its session."""
        given = rejection or Rejection()
        word = {"call_id": call_id, "always": given.always, "message": given.message}
        return await command(session, "reject", word)

    async def command(session: str, name: str, arguments: Mapping[str, Any]) -> CommandAccepted:
        try:
            return CommandAccepted(command_id=await commands.send(session, name, arguments))
        except CommandRefusedError as refused:
            raise ProblemError(_REFUSALS.get(refused.code, 500), refused.code, str(refused)) from refused
        except BusError as error:
            log.warning("a command was not sent", session=session, error=str(error))
            raise ProblemError(503, "bus_unavailable", "Redis cannot be reached now; try again shortly") from error

    app.include_router(v1)
    return app


def _agent(targets: Targets, name: str) -> AgentShown:
    agent = targets.agents[name]
    return AgentShown(
        name=name,
        default=name == targets.default_agent,
        tools=[tool.name for tool in agent.tools],
        handoffs=[handoff.agent_name for handoff in agent.all_handoffs()],
        guardrails=[guardrail.get_name() for guardrail in agent.output_guardrails],
    )


def _session(held: Held, gateway: str) -> SessionShown:
    driver = held.face.driver
    return SessionShown(
        id=held.id,
        agent=held.face.agent,
        status="active",
        gateway=gateway,
        started_at=held.started_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        seq=driver.last_seq if driver is not None else 0,
    )
