"""`GET /v1/transcripts/{session}/events`: a transcript's lines as server-sent events, while the call lasts."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import StreamingResponse

from voicebus.adapters.database.store import TranscriptStore
from voicebus.adapters.database.transcripts import Revised
from voicebus.errors import StoreError
from voicebus.telemetry.logging import get_logger
from voicebus_services.access.authenticator import Dependency
from voicebus_services.access.principal import Principal
from voicebus_services.http import ProblemError
from voicebus_services.openapi import Responses, problems
from voicebus_services.transcript_archiver.named import UNKNOWN, Session, unknown_session
from voicebus_services.transcript_archiver.tailing import Restarted, Tails, Told, TooManyReadersError

log: Final = get_logger(__name__)

HEARTBEAT_S: Final = 15.0
"""After so long without a line comes a comment, so that nothing on the way takes the connection for dead."""

_RETRY_MS: Final = 2_000
_MAX_SEQ: Final = 10**9
_EVENT: Final = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
    "required": ["id", "event", "data"],
}
_DESCRIPTION: Final = (
    "`id:` is the seq of the event that made the line what it is, `event:` its type, `data:` the line, one of `items`."
    " `transcript_restarted`, with `session` and `from_seq`, comes where a later owner of the session has written it"
    " anew from that seq on: no line that came before counts, and all come again."
    " The last one is `session_ended`, with `session`, `status`, `ended_at` and `end_reason`."
)
_ANSWERS: Final[Responses] = {
    200: {"description": _DESCRIPTION, "content": {"text/event-stream": {"itemSchema": _EVENT}}},
    204: {"description": "The session has ended, and there is nothing above: a browser does not come again."},
    **problems({404: UNKNOWN, 429: "there are too many readers."}),
}


def routes(store: TranscriptStore, tails: Tails, asking: Dependency) -> APIRouter:
    router = APIRouter(prefix="/v1/transcripts/{session}", tags=["transcripts"])

    @router.get("/events", response_class=StreamingResponse, responses=_ANSWERS)
    async def transcript_as_it_is_written(
        session: Session,
        principal: Annotated[Principal, Depends(asking)],
        seq: Annotated[int, Query(ge=0, le=_MAX_SEQ, description="Only lines above it.")] = 0,
        last_event_id: Annotated[str, Header(pattern="^[0-9]{0,9}$", description="Beats `seq`.")] = "",
    ) -> Any:
        """Every line above `seq`, then each as it comes, and again when it changes, until the session has ended."""
        progress = await store.progress(session, tenant=principal.tenant)
        if progress is None:
            raise unknown_session(session)
        after = int(last_event_id) if last_event_id else seq
        if progress.status != "active" and not progress.has_gap and after >= progress.last_seq:
            return Response(status_code=204)
        lines = tails.follow(progress, after, idle_s=HEARTBEAT_S)
        try:
            await anext(lines)
        except TooManyReadersError as error:
            raise ProblemError(429, "too_many_readers", str(error), headers={"Retry-After": "5"}) from error
        return StreamingResponse(
            _sent(session, lines), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    return router


async def _sent(session: str, lines: AsyncGenerator[Told, None]) -> AsyncIterator[bytes]:
    try:
        yield b"retry: %d\n\n" % _RETRY_MS
        async for line in lines:
            if line is None:
                yield b": still here\n\n"
            elif isinstance(line, Revised):
                yield _sse(line.seq, line.item.type, line.item.model_dump_json().encode())
            elif isinstance(line, Restarted):
                yield _sse(0, "transcript_restarted", msgspec.json.encode(line._asdict()))
            else:
                told = {name: getattr(line, name) for name in ("session", "status", "ended_at", "end_reason")}
                yield _sse(line.last_seq, "session_ended", msgspec.json.encode(told))
    except StoreError as error:
        # The reader comes again by itself, with the id of the last line that it has.
        log.warning("a transcript cannot be followed", session=session, error=str(error))
    finally:
        await lines.aclose()


def _sse(seq: int, event: str, data: bytes) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (seq, event.encode(), data)
