"""`POST /v1/realtime/calls`: WebRTC by SDP, in the provider's own forms, with an agent of the gateway on the call."""

import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from voicebus.adapters.redis.commanding import RedisCommands
from voicebus.agents.targets import Targets
from voicebus_services.access.authenticator import Dependency
from voicebus_services.access.principal import Principal
from voicebus_services.gateway.calling import Calling
from voicebus_services.gateway.routes.commanding import REFUSED, Asked, Id, asked, carry_out
from voicebus_services.http import ProblemError
from voicebus_services.openapi import problems

SDP: Final = "application/sdp"
MAX_OFFER: Final = 256 * 1024

_SESSION: Final = {
    "type": "object",
    "description": "What of the session object the agent lets clients set, as the provider's documentation names it.",
    "properties": {
        "type": {"const": "realtime"},
        "model": {"type": "string", "description": "May name an agent; else it has no meaning."},
        "audio": {
            "type": "object",
            "properties": {
                "output": {
                    "type": "object",
                    "properties": {"voice": {"type": "string", "minLength": 1, "examples": ["marin"]}},
                    "additionalProperties": False,
                }
            },
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
    "examples": [{"type": "realtime", "audio": {"output": {"voice": "marin"}}}],
}
_BODY: Final = {
    "required": True,
    "description": "The provider's form of parts `sdp` and `session`; or the offer alone, as `application/sdp`.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["sdp"],
                "properties": {
                    "sdp": {
                        "type": "string",
                        "description": "The offer.",
                        "pattern": "^v=0[ -~]*$",
                        "maxLength": 10_000,
                        "examples": ["v=0"],
                    },
                    "session": _SESSION,
                },
                "additionalProperties": False,
            },
            "encoding": {"session": {"contentType": "application/json"}},
        }
    },
}
_CREATED: Final[dict[int | str, dict[str, Any]]] = {
    201: {
        "description": "The SDP answer. The gateway is on the call.",
        "content": {SDP: {"schema": {"type": "string"}}},
        "headers": {
            "Location": {
                "description": "`/v1/realtime/calls/{call_id}`; the call is also the session of this id.",
                "required": True,
                "schema": {"type": "string"},
            }
        },
    }
}


def opening(targets: Targets, calling: Calling, caller: Dependency) -> APIRouter:
    """For everyone who may open a session, also with a client secret."""
    router = APIRouter(prefix="/realtime/calls", tags=["calls"])

    @router.post(
        "",
        status_code=201,
        response_class=Response,
        openapi_extra={"requestBody": _BODY},
        responses={
            **_CREATED,
            **problems(
                {
                    404: "there is no such agent.",
                    429: "this caller has as many sessions, or opens them as fast, as it may.",
                    415: "the body is neither application/sdp nor multipart/form-data.",
                    422: "the offer, the session object or the agent cannot be; `detail` says what.",
                    500: "the agent failed as it began; the same again fails again until it is mended.",
                    502: "the model's provider did not make the call.",
                    504: "the model's provider did not answer in time.",
                }
            ),
        },
    )
    async def create_call(
        request: Request,
        principal: Annotated[Principal, Depends(caller)],
        agent: Annotated[str | None, Query(max_length=200, description="Which agent; else the default one.")] = None,
    ) -> Response:
        """Connect a WebRTC client to an agent: its audio goes to the model, tools and guardrails run here."""
        offer, wanted = await _read(request)
        call = await calling.create(
            principal,
            offer,
            agent=_agent(targets, principal, agent, wanted.get("model")),
            wanted=wanted,
            traceparent=request.headers.get("traceparent"),
        )
        if await request.is_disconnected():
            calling.abandon(call)
        location = f"/v1/realtime/calls/{call.id}"
        return Response(call.answer, 201, {"Location": location}, media_type=SDP)

    return router


def commanding(commands: RedisCommands, asking: Dependency) -> APIRouter:
    """For those who may command sessions."""
    router = APIRouter(prefix="/realtime/calls/{call_id}", tags=["calls"])

    @router.post(
        "/hangup", status_code=200, response_class=Response, responses=problems({**REFUSED, 404: "no such call."})
    )
    async def hang_up(call_id: Id, ask: Annotated[Asked, Depends(asked(asking))]) -> Response:
        """End a call, whichever gateway is on it."""
        await carry_out(commands, ask, call_id, "end", {"reason": "hangup"})
        return Response()

    return router


async def _read(request: Request) -> tuple[bytes, dict[str, Any]]:
    """The offer, and what the client wants of the session."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    wanted: Any = {}
    if kind == SDP:
        offer = await request.body()
    elif kind == "multipart/form-data":
        async with request.form(max_files=2, max_fields=8) as form:
            if unknown := [name for name in form if name not in ("sdp", "session")]:
                raise ProblemError(422, "invalid_request", f"body: there is no part {unknown[0][:64]!r} of a call")
            offer, session = await _part(form.get("sdp")), await _part(form.get("session"))
        if session:
            try:
                wanted = json.loads(session)
            except (ValueError, RecursionError) as error:
                raise ProblemError(422, "invalid_request", "body.session: it is not JSON") from error
    else:
        raise ProblemError(415, "unsupported_media_type", f"send {SDP}, or multipart/form-data with sdp and session")
    if not isinstance(wanted, dict):
        raise ProblemError(422, "invalid_request", "body.session: a session object is needed")
    if not isinstance(wanted.get("model", ""), str):
        raise ProblemError(422, "invalid_request", "body.session.model: a string is needed")
    if len(offer) > MAX_OFFER or not offer.startswith(b"v=0"):
        raise ProblemError(
            422, "invalid_offer", f"body.sdp: an SDP offer (v=0…) of at most {MAX_OFFER} bytes is needed"
        )
    return offer, wanted


async def _part(value: Any) -> bytes:
    """A part of the form: text, or a file of one."""
    if value is None:
        return b""
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(await value.read())


def _agent(targets: Targets, principal: Principal, named: str | None, model: Any) -> str:
    """`?agent=`, else a `model` that names one, else the first that this caller may use."""
    if named is None and isinstance(model, str) and model in targets.agents and principal.may_use(model):
        named = model
    agent = principal.agent(targets.agents, targets.default_agent, named)
    if agent is None:
        raise ProblemError(404, "unknown_agent", f"query.agent: there is no agent {(named or '')[:64]!r} here")
    return agent
