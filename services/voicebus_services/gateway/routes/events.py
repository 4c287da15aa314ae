"""`GET /v1/sessions/{session}/events`: a session's recorded events as server-sent events.

A reader is given what it asks for at its own pace: nothing is kept for it, and it slows nobody.
"""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import StreamingResponse

from voicebus.adapters.redis.directory import SessionDirectory, SessionSeen, Status
from voicebus.errors import BusError, UsageError
from voicebus.telemetry.logging import get_logger
from voicebus_services.access.authenticator import Dependency, Presented
from voicebus_services.access.principal import Principal
from voicebus_services.gateway.faces.native_address import MAX_SEQ, seq_of
from voicebus_services.gateway.faces.recorded import Recorded
from voicebus_services.gateway.following import follow
from voicebus_services.gateway.recorded import Recall
from voicebus_services.gateway.relaying import Peer, Peers
from voicebus_services.gateway.routes.commanding import Id, reaching_redis
from voicebus_services.gateway.sessions import Sessions
from voicebus_services.http import ProblemError
from voicebus_services.openapi import problems

log = get_logger(__name__)

HEARTBEAT_S: Final = 15.0
"""After so long without an event comes a comment, so that nothing on the way takes the connection for dead."""

MAX_READERS: Final = 16
"""Readers of one session's events at once."""

_RETRY_MS: Final = 2_000
_EVENT: Final = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
    "required": ["id", "event", "data"],
}
_DESCRIPTION: Final = "`id:` is the event's seq, `event:` its type, `data:` the event as on the native face."


def routes(
    sessions: Sessions, directory: SessionDirectory, recall: Recall, peers: Peers, asking: Dependency
) -> APIRouter:
    router = APIRouter(prefix="/sessions/{session}", tags=["sessions"])
    readers: Counter[tuple[str, str]] = Counter()

    async def place(session: Id, principal: Annotated[Principal, Depends(asking)]) -> AsyncIterator[None]:
        """A reader's place, from before anything is looked up until the last of its answer has been sent."""
        whose = principal.tenant, session
        if readers[whose] >= MAX_READERS:
            raise ProblemError(
                429, "too_many_readers", f"this session has {MAX_READERS} readers, as many as it may have"
            )
        readers[whose] += 1
        try:
            yield
        finally:
            readers[whose] -= 1
            if not readers[whose]:
                del readers[whose]

    async def read(session: str, events: AsyncIterator[Recorded | None]) -> AsyncIterator[bytes]:
        try:
            yield b"retry: %d\n\n" % _RETRY_MS
            async for event in events:
                yield b": still here\n\n" if event is None else _sse(event)
        except BusError as error:
            # The reader comes again by itself, with the id of the last event that it has.
            log.warning("recorded events cannot be read", session=session, error=str(error))

    @router.get(
        "/events",
        response_class=StreamingResponse,
        dependencies=[Depends(place)],
        responses={
            200: {"description": _DESCRIPTION, "content": {"text/event-stream": {"itemSchema": _EVENT}}},
            **problems(
                {
                    400: "the `Last-Event-ID` is no seq.",
                    404: "there is no such session.",
                    429: "it has too many readers.",
                }
            ),
        },
    )
    async def events(
        request: Request,
        session: Id,
        principal: Annotated[Principal, Depends(asking)],
        seq: Annotated[int, Query(ge=0, le=MAX_SEQ, description="Only events above it.")] = 0,
        last_event_id: Annotated[
            str, Header(max_length=64, description="Beats `seq`.", json_schema_extra={"pattern": "^[0-9]*$"})
        ] = "",
    ) -> Any:
        """Every recorded event above `seq`, then each as it is recorded, until the session has ended."""
        try:
            after = seq_of("Last-Event-ID", last_event_id) if last_event_id else seq
        except UsageError as error:
            raise ProblemError(400, "invalid_request", str(error)) from error
        face = sessions.find(session)
        found: AsyncIterator[Recorded | None]
        if face is not None and face.principal.tenant == principal.tenant:
            found = recall.follow(session, face.recorded, after, idle_s=HEARTBEAT_S)
        else:
            with reaching_redis():
                seen = await directory.show(principal.tenant, session)
                if seen is None:
                    raise ProblemError(404, "unknown_session", f"there is no session {session[:64]!r}")
                peer = await peers.holding(session) if seen.status in (Status.ACTIVE, Status.IDLE) else None
            if peer is not None:
                presented = Presented(request.headers, None).credential
                found = _elsewhere(peers, peer, recall, seen, after, presented)
            else:
                found = _stored(recall, session, after, seen.seq)
        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(read(session, found), media_type="text/event-stream", headers=headers)

    return router


async def _stored(recall: Recall, session: str, after: int, upto: int) -> AsyncIterator[Recorded | None]:
    """The events of a session that is over."""
    if after < upto:
        for event in await recall(session, after, upto):
            yield event


async def _elsewhere(
    peers: Peers, peer: Peer, recall: Recall, seen: SessionSeen, after: int, credential: str | None
) -> AsyncIterator[Recorded | None]:
    """The events of a session that another gateway holds.

    One that cannot be observed (a session of the OpenAI face) gives what is stored of it: its reader comes again.
    """
    async for event in follow(peers, peer, seen.id, after, credential, idle_s=HEARTBEAT_S):
        after = after if event is None else event.seq
        yield event
    async for event in _stored(recall, seen.id, after, seen.seq):
        yield event


def _sse(event: Recorded) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, event.type.encode(), event.frame)
