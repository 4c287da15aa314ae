"""Every way to present a credential to a gateway and an archiver, and what each of them says to it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from websockets.typing import Subprotocol

from services.gateway.clients import connected
from voicebus_services.gateway.wiring import Gateway

OPENED = "opened"
Door = Callable[[Gateway, int, str | None], Any]


@asynccontextmanager
async def asking(port: int, credential: str | None) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {} if credential is None else {"Authorization": f"Bearer {credential}"}
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
        yield client


def _bearer(credential: str | None) -> dict[str, Any]:
    return {} if credential is None else {"additional_headers": {"Authorization": f"Bearer {credential}"}}


def _subprotocol(credential: str | None) -> dict[str, Any]:
    offered = [] if credential is None else [Subprotocol(f"openai-insecure-api-key.{credential}")]
    return {"subprotocols": [Subprotocol("realtime"), *offered]}


async def _knock(gateway: Gateway, path: str, first: str, options: dict[str, Any]) -> str:
    async with connected(gateway, path, **options) as client:
        event = await client.until(first, "error")
        if event["type"] == first:
            return OPENED
        code = await client.closed()
        error = event.get("error", event)
        return f"{code} {error['code']}"


async def realtime_header(gateway: Gateway, archiver: int, credential: str | None) -> str:
    return await _knock(gateway, "/v1/realtime", "session.created", _bearer(credential))


async def realtime_subprotocol(gateway: Gateway, archiver: int, credential: str | None) -> str:
    return await _knock(gateway, "/v1/realtime", "session.created", _subprotocol(credential))


async def native_header(gateway: Gateway, archiver: int, credential: str | None) -> str:
    return await _knock(gateway, "/v1/sessions/connect", "session_started", _bearer(credential))


async def native_subprotocol(gateway: Gateway, archiver: int, credential: str | None) -> str:
    return await _knock(gateway, "/v1/sessions/connect", "session_started", _subprotocol(credential))


def _http(method: str, path: str, *, archived: bool = False, behind: str | None = None) -> Door:
    """`behind` is the code of a problem that only who was let in is told of."""

    async def door(gateway: Gateway, archiver: int, credential: str | None) -> str:
        async with asking(archiver if archived else gateway.port, credential) as client:
            answer = await client.request(method, path)
            if answer.is_success:
                return OPENED
            assert answer.headers["content-type"] == "application/problem+json"
            if answer.json()["code"] == behind:
                return OPENED
            return f"{answer.status_code} {answer.json()['code']}"

    return door


SESSION_DOORS: Mapping[str, Door] = {
    "realtime, header": realtime_header,
    "realtime, subprotocol": realtime_subprotocol,
    "native, header": native_header,
    "native, subprotocol": native_subprotocol,
}
HTTP_DOORS: Mapping[str, Door] = {
    "agents": _http("GET", "/v1/agents"),
    "sessions": _http("GET", "/v1/sessions"),
    "session": _http("GET", "/v1/sessions/none", behind="unknown_session"),
    "events (SSE)": _http("GET", "/v1/sessions/none/events", behind="unknown_session"),
    "new session": _http("POST", "/v1/sessions", behind="invalid_request"),
    "command": _http("POST", "/v1/sessions/none/end", behind="unknown_session"),
    "approval": _http("POST", "/v1/sessions/none/tool-calls/c/approve", behind="unknown_session"),
    "tools": _http("GET", "/v1/tools"),
    "WebRTC": _http("POST", "/v1/realtime/calls", behind="unsupported_media_type"),
    "client secrets": _http("POST", "/v1/realtime/client_secrets"),
    "transcripts": _http("GET", "/v1/transcripts", archived=True),
    "transcript": _http("GET", "/v1/transcripts/none", archived=True, behind="unknown_session"),
}
DOORS = {**SESSION_DOORS, **HTTP_DOORS}
