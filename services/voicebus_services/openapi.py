"""What every service's OpenAPI document says alike: its errors, and its credential."""

from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI, Query
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field

from voicebus.runtime.frames import MAX_VALUES
from voicebus_services.bodies import MAX_BODY
from voicebus_services.heads import HeadAsGet
from voicebus_services.http import answer_with_problems
from voicebus_services.http_protocol import MAX_FIELDS, MAX_HEAD, WHOLE_WITHIN_S
from voicebus_services.paging import CURSOR_CHARS, CURSOR_PATTERN

PROBLEM_JSON: Final = "application/problem+json"

CURSOR: Final = Query(pattern=CURSOR_PATTERN, max_length=CURSOR_CHARS, description="`next_cursor` of the page before.")
"""The parameter of a list that says where it goes on."""

Responses = dict[int | str, dict[str, Any]]

_TAGS: Final[Mapping[str, str]] = {
    "agents": "What is deployed.",
    "sessions": "Conversations, in the whole cluster.",
    "commands": "What a session's client may say, said by another process.",
    "tool calls": "A person's word about calls that wait for approval.",
    "calls": "WebRTC.",
    "client secrets": "Short-lived credentials for browsers.",
    "transcripts": "What was said.",
}
# No parameter of each operation: what it takes depends on what it was used for before, which no schema can say.
_WRITES: Final = (
    "Writes take an `Idempotency-Key` (1 to 255 printable characters): the same request under the same key is answered"
    " alike for 24 h, with `Idempotency-Replayed: true`, and has one effect. With another body it is a 422, while the"
    " first is in hand a 409."
)
_CREDENTIAL: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, a JWT, or (to open sessions) a client secret.",
}


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


COMMON: Final[Mapping[int, str]] = {
    400: "the request cannot be read.",
    401: "no credential, or one that is not valid here.",
    403: "the credential does not allow this.",
    408: f"the request did not arrive within {WHOLE_WITHIN_S:g} s.",
    413: f"the body is longer than {MAX_BODY} bytes, or has more than {MAX_VALUES:,} values.",
    422: "a parameter or a field is wrong; `detail` names it.",
    429: "too many requests; `Retry-After` says when.",
    431: f"the request's line and fields are longer than {MAX_HEAD} bytes, or more than {MAX_FIELDS}.",
    503: "Redis or the database cannot be reached now, or there is no room; `Retry-After` says when.",
}
"""What every operation may answer."""


def new_app(title: str, description: str, *, secured: bool, writes: bool = False) -> FastAPI:
    """An application whose errors are problems, whose bodies are bounded, and whose documents need no other server.

    `secured`: callers need a credential, which the document then says; without any configured those here need none.
    `writes`: they may bring an `Idempotency-Key`.
    """
    app = FastAPI(
        title=title,
        version=version("voicebus"),
        description=f"{description}\n\n{_WRITES}" if writes else description,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
        docs_url=None,
        redoc_url=None,
    )
    answer_with_problems(app)
    app.add_middleware(HeadAsGet, routes=app.routes)
    build = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(build(), secured=secured)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    app.mount("/docs/assets", StaticFiles(packages=[("fastapi_offline", "static")]))

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=f"{title}: HTTP interface",
            swagger_js_url="docs/assets/swagger-ui-bundle.js",
            swagger_css_url="docs/assets/swagger-ui.css",
            swagger_favicon_url="docs/assets/favicon.png",
        )

    return app


def _completed(document: dict[str, Any], *, secured: bool) -> dict[str, Any]:
    """The document with what holds for every operation: problems, the credential, the idempotency key of writes."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = Problem.model_json_schema()
    if secured:
        components["securitySchemes"] = {"credential": _CREDENTIAL}
        document["security"] = [{"credential": []}]
    used: set[str] = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            used.update(operation.get("tags", ()))
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]  # FastAPI's own, which `answer_with_problems` replaces
            operation["responses"] = {
                **{str(status): response for status, response in problems(COMMON).items()}, **operation["responses"],
            }  # fmt: skip
            if method == "post" and path.startswith("/v1/"):
                operation["responses"].setdefault("409", problems({409: "a request with this key is in hand."})[409])
    document["tags"] = [tag for tag in document["tags"] if tag["name"] in used]
    return document
