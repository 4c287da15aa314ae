"""`GET /v1/sessions…`: which conversations there are."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from voicebus_services.gateway.sessions import Held, Sessions
from voicebus_services.http import ProblemError


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


def routes(sessions: Sessions, *, gateway: str) -> APIRouter:
    router = APIRouter(tags=["sessions"])

    @router.get("/sessions")
    def held_sessions(
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
    ) -> SessionList:
        """The sessions that this gateway holds, oldest first."""
        ordered = sorted((held for held in sessions if cursor is None or held.id > cursor), key=lambda held: held.id)
        chosen = ordered[:limit]
        more = chosen[-1].id if len(ordered) > limit else None
        return SessionList(data=[_shown(held, gateway) for held in chosen], next_cursor=more)

    @router.get("/sessions/{session}")
    def held_session(session: str) -> SessionShown:
        """One session of this gateway."""
        for held in sessions:
            if held.id == session:
                return _shown(held, gateway)
        raise ProblemError(404, "unknown_session", f"this gateway holds no session {session[:64]!r}")

    return router


def _shown(held: Held, gateway: str) -> SessionShown:
    driver = held.face.driver
    return SessionShown(
        id=held.id,
        agent=held.face.agent,
        status="active",
        gateway=gateway,
        started_at=held.started_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        seq=driver.last_seq if driver is not None else 0,
    )
