"""`POST /v1/sessions`: a session that its client enters later, with the token that is given back."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field, StrictBool, ValidationError, field_validator
from ulid_transform import ulid_now

from voicebus.agents.items import read_item
from voicebus.agents.targets import Targets
from voicebus.ports import Clock
from voicebus.utf8 import sendable
from voicebus_services.access.authenticator import Dependency
from voicebus_services.access.principal import Principal
from voicebus_services.gateway.faces.native import NativeFace
from voicebus_services.gateway.routes.commanding import Body
from voicebus_services.gateway.sessions import Sessions
from voicebus_services.http import ProblemError
from voicebus_services.openapi import problems

MAX_HISTORY: Final = 1_000
"""Items that a session may begin with."""

_RETRY_AFTER: Final = {"Retry-After": "5"}
_PATIENCE: Final = timedelta(seconds=60)


# What `read_item` takes, of items that have no id yet.
_TEXT: Final = {"type": ["string", "null"]}
_COMMON: Final = {"item_id": {"type": "string"}, "previous_item_id": _TEXT}


def _message(roles: list[str], parts: str) -> dict[str, Any]:
    part = {"type": "object", "required": ["type"], "properties": {"type": {"const": parts}, "text": _TEXT}}
    return {
        "type": "object",
        "required": ["role", "content"],
        "properties": {
            **_COMMON,
            "type": {"const": "message"},
            "status": {"enum": ["in_progress", "completed", "incomplete"]},
            "role": {"enum": roles},
            "content": {"type": "array", "items": part},
        },
    }


_SPOKEN: Final = _message(["user", "system"], "input_text")
_ANSWERED: Final = _message(["assistant"], "text")
_CALLED: Final = {
    "type": "object",
    "required": ["type", "call_id", "name", "arguments"],
    "properties": {
        **_COMMON,
        "type": {"const": "function_call"},
        "call_id": _TEXT,
        "name": {"type": "string"},
        "arguments": {"type": "string"},
        "output": _TEXT,
        "status": {"enum": ["in_progress", "completed"]},
    },
}


class NewSession(Body):
    """`context` is what tools, hooks and instructions find as their context; `history` what was said before."""

    agent: Annotated[str | None, Field(max_length=200, description="Absent: the first of this caller's.")] = None
    context: Annotated[Any, Field(description="Any JSON.")] = None
    record: Annotated[
        StrictBool | None, Field(description="Whether the caller agrees to be recorded; absent: as is configured.")
    ] = None
    history: Annotated[
        list[dict[str, Any]],
        Field(
            default_factory=list,
            max_length=MAX_HISTORY,
            description="Items as in `history_updated`; `item_id` may be left out.",
            json_schema_extra={"items": {"anyOf": [_SPOKEN, _ANSWERED, _CALLED]}},
        ),
    ]

    @field_validator("context", "history", mode="before")
    @classmethod
    def _sendable(cls, given: Any) -> Any:
        try:
            return sendable(given)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error

    @field_validator("history")
    @classmethod
    def _readable(cls, history: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [_item(number, item) for number, item in enumerate(history)]


class SessionCreated(BaseModel):
    """`url` is where the session's client connects, token and all: as secret as the token is.

    Nobody there by `expires_at`, the session ends.
    """

    id: str
    token: str
    agent: str
    url: str
    expires_at: datetime


def routes(sessions: Sessions, targets: Targets, clock: Clock, asking: Dependency, *, grace: timedelta) -> APIRouter:
    router = APIRouter(prefix="/sessions", tags=["sessions"])

    @router.post(
        "",
        status_code=201,
        responses=problems(
            {
                404: "there is no such agent.",
                429: "this caller has as many sessions, or opens them as fast, as it may.",
                500: "the agent failed as it began; the same again fails again until it is mended.",
                503: "no slot is free, or no session can begin.",
            }
        ),
    )
    async def create(
        request: Request, asked: NewSession, principal: Annotated[Principal, Depends(asking)]
    ) -> SessionCreated:
        """Begin a session. It takes a slot, and ends unless its client comes within the resume grace."""
        agent = principal.agent(targets.agents, targets.default_agent, asked.agent)
        if agent is None:
            raise ProblemError(404, "unknown_agent", f"there is no agent {(asked.agent or '')[:64]!r} here")
        async with sessions.admitted(principal) as ticket:
            face = NativeFace(
                sessions,
                principal,
                clock,
                agent=agent,
                grace_s=grace.total_seconds(),
                traceparent=request.headers.get("traceparent"),
            )
            face.ticket, face.consent = ticket, asked.record
            began = await sessions.create(face, context=asked.context, history=asked.history)
        if not began:
            raise ProblemError(
                503, "session_unavailable", "no session can begin now; try again shortly", headers=_RETRY_AFTER
            )
        # Without a grace a lost client ends its session at once; one that has yet to come needs a while. From now, as
        # its model may have taken long.
        patience = grace or _PATIENCE
        expires_at = datetime.fromtimestamp(clock.at_ms() / 1000, UTC) + patience
        face.await_client(patience.total_seconds())
        query = urlencode({"session": face.session, "token": face.token})
        url = f"{_scheme(request)}://{request.base_url.netloc}/v1/sessions/connect?{query}"
        return SessionCreated(id=face.session, token=face.token, agent=agent, url=url, expires_at=expires_at)

    return router


def _item(number: int, item: Mapping[str, Any]) -> dict[str, Any]:
    given = {"item_id": f"item_{ulid_now()}", "status": "completed", **item}
    if given.get("role") in ("user", "system"):
        given.pop("status")
    try:
        return read_item(given).model_dump(mode="json", exclude_none=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"item {number} is no item of a history: {where and f'{where}: '}{first['msg']}") from error


def _scheme(request: Request) -> str:
    """What the caller's client connects with: where a proxy in between has the TLS, its word counts, whoever it is, as
    it is told to nobody but the caller.
    """
    told = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return "wss" if request.base_url.scheme == "https" or told in ("https", "wss") else "ws"
