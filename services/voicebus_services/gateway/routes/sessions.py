"""`GET /v1/sessions…`: which conversations there are in the cluster, whichever gateway holds them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from voicebus.adapters.redis.directory import Place, SessionDirectory, SessionSeen, Status
from voicebus_services.access.authenticator import Dependency
from voicebus_services.access.principal import Principal
from voicebus_services.gateway.routes.commanding import Id, reaching_redis
from voicebus_services.http import ProblemError
from voicebus_services.openapi import CURSOR, problems
from voicebus_services.paging import cursor_of, place_of
from voicebus_services.session_shown import SessionShown


class SessionList(BaseModel):
    """One page; pass `next_cursor` as `cursor` for the next, null at the end. A filtered page may be short of `limit`
    and have a next one all the same.
    """

    data: list[SessionShown]
    next_cursor: str | None


def routes(directory: SessionDirectory, asking: Dependency) -> APIRouter:
    router = APIRouter(prefix="/sessions", tags=["sessions"])
    Asking = Annotated[Principal, Depends(asking)]  # noqa: N806 - a type

    @router.get("")
    async def list_sessions(
        principal: Asking,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str | None, CURSOR] = None,
        status: Annotated[list[Status] | None, Query(description="Only those of these statuses.")] = None,
        agent: Annotated[str | None, Query(max_length=200, description="Only those that this agent holds now.")] = None,
    ) -> SessionList:
        """The sessions of the last two days in the whole cluster, newest first."""

        def wanted(seen: SessionSeen) -> bool:
            return (not status or seen.status in status) and (agent is None or seen.agent == agent)

        after = Place(*place_of(cursor)) if cursor else None
        with reaching_redis():
            page = await directory.page(principal.tenant, limit=limit, after=after, wanted=wanted)
        return SessionList(
            data=[SessionShown.of(seen) for seen in page.sessions],
            next_cursor=cursor_of(*page.after) if page.after else None,
        )

    @router.get("/{session}", responses=problems({404: "there is no such session."}))
    async def show_session(session: Id, principal: Asking) -> SessionShown:
        """One session, also one that has ended: they are known for a day after."""
        with reaching_redis():
            seen = await directory.show(principal.tenant, session)
        if seen is None:
            raise ProblemError(404, "unknown_session", f"there is no session {session[:64]!r}")
        return SessionShown.of(seen)

    return router
