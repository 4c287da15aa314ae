"""The archiver's HTTP API: transcripts, listed and read (contract section 5)."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import AwareDatetime, BaseModel, BeforeValidator

from voicebus.adapters.database.connection import SearchTooLongError
from voicebus.adapters.database.finding import Filter, Position
from voicebus.adapters.database.store import TranscriptStore
from voicebus.adapters.database.transcripts import ItemType, Role, Status, Transcript, TranscriptSummary
from voicebus.errors import StoreError
from voicebus.telemetry.logging import get_logger
from voicebus_services.access.authenticator import Authenticator, Dependency, manager
from voicebus_services.access.principal import Principal
from voicebus_services.bodies import BoundedBodies
from voicebus_services.http import ProblemError
from voicebus_services.openapi import CURSOR, Responses, new_app, problems
from voicebus_services.paging import cursor_of, place_of
from voicebus_services.transcript_archiver import recording_route, tail_route
from voicebus_services.transcript_archiver.forms import captions, text_line
from voicebus_services.transcript_archiver.named import UNKNOWN, Session, unknown_session
from voicebus_services.transcript_archiver.tailing import Tails

if TYPE_CHECKING:
    from voicebus.adapters.recordings.reading import RecordingReader

log: Final = get_logger(__name__)

MAX_LIMIT: Final = 200
_JSON_LINES: Final = "application/jsonl"
_VTT: Final = "text/vtt"
_Q: Final = (
    "Words that are all in one line, or in a tool's arguments and output; case does not matter."
    ' `"two words"` follow each other, `wor*` begins like that.'
)


class TranscriptList(BaseModel):
    """One page; pass `next_cursor` as `cursor` for the next, null at the end."""

    data: list[TranscriptSummary]
    next_cursor: str | None


# No database takes a NUL in a text.
Word = Annotated[str | None, Query(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]


def _rfc3339(value: object) -> object:
    if isinstance(value, str) and "T" not in value.upper():
        raise ValueError("a time as of RFC 3339 is needed, such as 2026-01-31T12:00:00Z")
    return value


Moment = Annotated[AwareDatetime | None, BeforeValidator(_rfc3339)]


def create_app(
    store: TranscriptStore,
    access: Authenticator,
    *,
    tails: Tails | None = None,
    recordings: "RecordingReader | None" = None,
) -> FastAPI:
    """The API over an open store; whoever `access` lets in sees the transcripts of its own tenant.

    `tails` are for who wants to end those that follow a transcript; `recordings` reads those of calls, and without it
    there are none.
    """
    app = new_app("Voicebus transcripts", "Conversations, as they were recorded.", secured=access.secured)
    app.add_middleware(BoundedBodies)
    access.origins.share(app)

    @app.exception_handler(StoreError)
    async def store_failed(request: Request, error: StoreError) -> Response:
        told = str(error)
        if not isinstance(error, SearchTooLongError):
            # What it says is for the operator: it names addresses that are no reader's business.
            log.warning("what is kept cannot be read", path=request.url.path, error=told)
            told = "transcripts and recordings cannot be read now; try again shortly"
        return ProblemError(503, "store_unavailable", told, headers={"Retry-After": "2"}).response()

    asking = manager(access)
    # Those with a suffix come first: `{session}` would match them too.
    app.include_router(tail_route.routes(store, tails or Tails(store), asking))
    app.include_router(recording_route.routes(store, recordings, asking))
    app.include_router(_routes(store, asking))
    return app


def _routes(store: TranscriptStore, asking: Dependency) -> APIRouter:
    routes = APIRouter(prefix="/v1/transcripts", tags=["transcripts"])
    unknown = problems({404: UNKNOWN})

    @routes.get("")
    async def list_transcripts(
        principal: Annotated[Principal, Depends(asking)],
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
        cursor: Annotated[str | None, CURSOR] = None,
        agent: Word = None,
        start: Annotated[Moment, Query(alias="from", description="Begun then or later.")] = None,
        end: Annotated[Moment, Query(alias="to", description="Begun before.")] = None,
        q: Annotated[Word, Query(description=_Q)] = None,
        status: Annotated[Status | None, Query(description="Of this status.")] = None,
        role: Annotated[Role | None, Query(description="With a line by this role; of `q`, that line.")] = None,
        kind: Annotated[
            ItemType | None, Query(alias="type", description="With a line of this type; of `q`, that line.")
        ] = None,
    ) -> TranscriptList:
        """Transcripts, newest first."""
        wanted = Filter(
            principal.tenant, agent=agent, start=start, end=end, text=q, status=status, role=role, type=kind
        )
        page, following = await store.find(wanted, limit=limit, after=Position(*place_of(cursor)) if cursor else None)
        return TranscriptList(
            data=page, next_cursor=cursor_of(following.started_at, following.session) if following else None
        )

    @routes.get("/{session}.jsonl", response_class=Response, responses={**_text(_JSON_LINES), **unknown})
    async def transcript_as_json_lines(session: Session, principal: Annotated[Principal, Depends(asking)]) -> Response:
        """One line of the conversation per line, as JSON."""
        lines = (item.model_dump_json() for item in (await transcript(session, principal)).items)
        return Response(_joined(lines), media_type=_JSON_LINES)

    @routes.get("/{session}.txt", response_class=PlainTextResponse, responses=unknown)
    async def transcript_as_text(
        session: Session, principal: Annotated[Principal, Depends(asking)]
    ) -> PlainTextResponse:
        """One readable line per line of the conversation: `[mm:ss] user: …`."""
        return PlainTextResponse(_joined(map(text_line, (await transcript(session, principal)).items)))

    @routes.get("/{session}.vtt", response_class=Response, responses={**_text(_VTT), **unknown})
    async def transcript_as_captions(session: Session, principal: Annotated[Principal, Depends(asking)]) -> Response:
        """What was said, as captions for a player of the recording."""
        return Response(captions((await transcript(session, principal)).items), media_type=_VTT)

    @routes.get("/{session}", responses=unknown)
    async def transcript(session: Session, principal: Annotated[Principal, Depends(asking)]) -> Transcript:
        """One conversation, its lines in the order they were spoken."""
        found = await store.transcript(session, tenant=principal.tenant)
        if found is None:
            raise unknown_session(session)
        return found

    return routes


def _text(media_type: str) -> Responses:
    return {200: {"description": "The conversation.", "content": {media_type: {"schema": {"type": "string"}}}}}


def _joined(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
