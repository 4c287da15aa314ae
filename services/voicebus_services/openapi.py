"""What every service's OpenAPI document says alike: its errors, its credential, and how long a body may be."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voicebus_services.http import ProblemError

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes of a request's body: a message may bring images."""

PROBLEM_JSON: Final = "application/problem+json"

Responses = dict[int | str, dict[str, Any]]

bearer: Final = HTTPBearer(
    auto_error=False,
    scheme_name="credential",
    description="An API key. Without any configured (`dev`), clients on the same machine need none.",
)
"""A dependency that checks nothing: it puts the credential into the document."""


class Problem(BaseModel):
    """Why a request was not done (RFC 9457). `code` is stable, for programs; `detail` says what to do."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(ge=400, le=599, examples=[404])
    detail: str = Field(examples=["there is no session 'sess_1'"])
    code: str = Field(examples=["unknown_session"])


def problems(statuses: Mapping[int, str]) -> Responses:
    """Responses of an operation that are problems, each status with what it means here."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": f"{HTTPStatus(status).phrase}: {meaning}",
            "content": {PROBLEM_JSON: {"schema": schema}},
        }
        for status, meaning in statuses.items()
    }


def describe(app: FastAPI) -> None:
    """Have the document of `app` say that errors are problems: FastAPI's own schema of a 422 is not what is sent."""
    build = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = build()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            schemas["Problem"] = Problem.model_json_schema()
        return build()

    app.openapi = openapi  # type: ignore[method-assign]


class BoundedBodies:
    """ASGI middleware: a request whose body is longer than `MAX_BODY` is answered with 413, and read no further."""

    def __init__(self, app: ASGIApp, *, limit: int = MAX_BODY) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = ProblemError(413, "too_large", f"the body is longer than {self._limit} bytes; send less")
        length = dict(scope["headers"]).get(b"content-length", b"")
        if length.isdigit() and int(length) > self._limit:
            await refused.response()(scope, receive, send)
            return
        taken = 0
        began = False

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._limit:
                raise refused
            return message

        async def answer(message: Message) -> None:
            nonlocal began
            # Whatever the application makes of the exception is not what was wrong.
            if began or taken <= self._limit:
                began = True
                await send(message)

        try:
            await self._app(scope, bounded, answer)
        except ProblemError as problem:
            if problem is not refused:
                raise
        if taken > self._limit and not began:
            await refused.response()(scope, receive, send)
