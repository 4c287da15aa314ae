"""What the gateway answers over HTTP: a page, the agents, the sessions it holds, and their OpenAPI document."""

from importlib.metadata import version
from typing import Annotated, Final

from fastapi import APIRouter, Depends, FastAPI, Query
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from voicebus.agents.targets import Targets
from voicebus_services.gateway.sessions import Held, Sessions
from voicebus_services.http import ApiKeys, ProblemError, answer_with_problems, require_key


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


def build_app(sessions: Sessions, targets: Targets, keys: ApiKeys, *, gateway: str) -> FastAPI:
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

    app.include_router(v1)
    return app


def _agent(targets: Targets, name: str) -> AgentShown:
    agent = targets.agents[name]
    return AgentShown(
        name=name,
        default=name == targets.default_agent,
        tools=[tool.name for tool in agent.tools],
        handoffs=[handoff.agent.name for handoff in agent.all_handoffs()],
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
