"""`GET /v1/transcripts/{session}/recording`: what was recorded of a call, whole or in ranges, also while it lasts."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import StreamingResponse

from voicebus.adapters.database.store import TranscriptStore
from voicebus.errors import StoreError
from voicebus.telemetry.logging import get_logger
from voicebus_services.access.authenticator import Dependency
from voicebus_services.access.principal import Principal
from voicebus_services.http import ProblemError
from voicebus_services.openapi import PROBLEM_JSON, Responses, problems
from voicebus_services.transcript_archiver.named import UNKNOWN, Session, unknown_session
from voicebus_services.transcript_archiver.ranges import http_date, unchanged, wanted

if TYPE_CHECKING:
    from voicebus.adapters.recordings.reading import Recording, RecordingReader

log: Final = get_logger(__name__)

MEDIA_TYPE: Final = "audio/ogg; codecs=opus"
_AUDIO: Final = {"audio/ogg": {"schema": {"type": "string", "format": "binary"}}}
_RANGE: Final = "Bytes wanted, `bytes=FIRST-LAST`; several ranges are answered with everything."
_IF_RANGE: Final = "The `ETag` of what was had before; where it is not that any more, `Range` is ignored."
_ANSWERS: Final[Responses] = {
    200: {"description": "The recording, or what there is of it by now.", "content": _AUDIO},
    206: {"description": "The bytes asked for; `Content-Range` says which.", "content": _AUDIO},
    304: {"description": "It is what `If-None-Match` names."},
    **problems({404: f"{UNKNOWN[:-1]}, or it has no recording.", 416: "there are no such bytes."}),
}


def routes(store: TranscriptStore, recordings: "RecordingReader | None", asking: Dependency) -> APIRouter:
    router = APIRouter(prefix="/v1/transcripts/{session}", tags=["transcripts"])

    async def found(session: str, tenant: str) -> "Recording":
        progress = await store.progress(session, tenant=tenant)
        if progress is None:
            raise unknown_session(session)
        recording = None
        if recordings is not None:
            recording = await recordings.open(tenant, session, ended_at=progress.ended_at)
        if recording is None:
            raise ProblemError(404, "no_recording", f"session {session!r} has no recording")
        return recording

    @router.get("/recording", response_class=Response, responses=_ANSWERS)
    async def recording(
        session: Session,
        request: Request,
        principal: Annotated[Principal, Depends(asking)],
        range_: Annotated[str | None, Header(alias="Range", description=_RANGE)] = None,
        if_range: Annotated[str | None, Header(description=_IF_RANGE)] = None,
    ) -> Response:
        """Both sides of the call as Ogg Opus, the caller left and the agent right, on the clock of the transcript."""
        there = await found(session, principal.tenant)
        etag = f'"{there.version}"'
        headers = {
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, no-cache",
            "ETag": etag,
            "Last-Modified": http_date(there.modified),
        }
        if unchanged(request.headers, etag):
            return Response(status_code=304, headers=headers)
        # Ranges are of GET alone.
        asked = {} if request.method == "HEAD" else request.headers
        part = wanted(asked, there.size, etag, there.modified)
        if part is None:
            raise ProblemError(
                416,
                "no_such_range",
                f"the recording has {there.size} bytes, none of them in {request.headers['range']!r}",
                headers={"Content-Range": f"bytes */{there.size}"},
            )
        headers["Content-Length"] = str(part.end - part.start)
        headers["Content-Disposition"] = f"inline; filename*=UTF-8''{quote(session, safe='')}.ogg"
        if part.partial:
            headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{there.size}"
        status = 206 if part.partial else 200
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type=MEDIA_TYPE)
        body = await _begun(session, there, part.start, part.end)
        return StreamingResponse(body, status, headers, MEDIA_TYPE)

    # What a player asks first, to learn the size.
    router.add_api_route(
        "/recording",
        recording,
        methods=["HEAD"],
        response_class=Response,
        responses={status: _without_content(answer) for status, answer in _ANSWERS.items()},
        name="recording_head",
        operation_id="recording_head",
        summary="Recording Head",
        description="What `GET` would answer, without the recording itself.",
    )
    return router


async def _begun(session: str, there: "Recording", start: int, end: int) -> AsyncIterator[bytes]:
    """The bytes, of which the first have come: up to there a failure can still be an answer."""
    chunks = there.read(start, end)
    try:
        first = await anext(chunks, b"")
    except FileNotFoundError as error:
        raise ProblemError(404, "no_recording", f"session {session!r} has no recording any more") from error

    async def whole() -> AsyncIterator[bytes]:
        yield first
        try:
            async for chunk in chunks:
                yield chunk
        except (StoreError, FileNotFoundError) as error:
            # The answer is shorter than it said it would be, by which a client sees that it is not whole.
            log.warning("a recording could not be sent to its end", session=session, error=str(error))

    return whole()


def _without_content(answer: dict[str, Any]) -> dict[str, Any]:
    content = answer.get("content", {})
    return answer if PROBLEM_JSON in content else {key: value for key, value in answer.items() if key != "content"}
