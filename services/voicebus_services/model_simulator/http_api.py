"""The simulator's HTTP endpoints beside the WebSocket, with errors in the shape of the simulated service."""

from collections.abc import Awaitable, Callable, Mapping
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from voicebus_services.model_simulator.admission import NotAdmittedError, Upgrade
from voicebus_services.model_simulator.calls import CallError, Calls
from voicebus_services.model_simulator.client_secrets import ClientSecret, ClientSecrets
from voicebus_services.model_simulator.protocol.checks import Required, integer, obj, string
from voicebus_services.model_simulator.protocol.refusal import RefusedError

_MAX_BODY = 1024 * 1024
# No media flows: the answer declines every stream but is an answer.
_ANSWER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=voicebus-model-simulator\r\nt=0 0\r\n"
_reject = obj({"status_code": integer(300, 699)})
_refer = obj({"target_uri": Required(string(longest=2048, shortest=1))})
PREFIXES = ("/v1/realtime", "/openai/v1/realtime")

Handler = Callable[[Request], Awaitable[Response]]


def error_response(status: int, error: Mapping[str, object]) -> JSONResponse:
    return JSONResponse({"error": error}, status)


async def read_body(request: Request) -> bytes:
    """Raises: RefusedError: larger than 1 MiB."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BODY:
            raise RefusedError("The body is larger than 1 MiB.", code="request_too_large")
    return bytes(body)


async def read_json(request: Request) -> Any:
    """The JSON body, {} where there is none.

    Raises:
        RefusedError: larger than 1 MiB, or not JSON.
    """
    body = await read_body(request)
    return decode_json(body) if body else {}


def decode_json(body: bytes) -> Any:
    """Raises: RefusedError: not JSON."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RefusedError("We could not parse the JSON body of your request.", code="invalid_json") from error


def credential(request: Request) -> str | None:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Upgrade(request.url.path, {}, headers, ()).credential


def guarded(handler: Handler, admit: Callable[[str | None], object]) -> Handler:
    """`handler` for requests whose credential `admit` does not refuse; what the handler refuses becomes a 4xx."""

    async def answer(request: Request) -> Response:
        try:
            admit(credential(request))
            return await handler(request)
        except CallError as wrong:
            body = {"type": "invalid_request_error", "code": wrong.code, "message": wrong.message, "param": None}
            return error_response(wrong.status, body)
        except NotAdmittedError as refused:
            return error_response(refused.status, refused.body())
        except RefusedError as refused:
            body = {"type": refused.kind, "code": refused.code, "message": refused.message, "param": refused.param}
            return error_response(400, body)

    return answer


def routes(
    secrets: ClientSecrets,
    calls: Calls,
    *,
    key: Callable[[str | None], object],
    key_or_secret: Callable[[str | None], ClientSecret | None],
) -> APIRouter:
    """`client_secrets` and `calls`, also under Azure's prefix."""

    async def create_secret(request: Request) -> Response:
        _, body = secrets.create(await read_json(request))
        return JSONResponse(body)

    async def create_call(request: Request) -> Response:
        secret = key_or_secret(credential(request))
        body = await read_body(request)
        kind = request.headers.get("content-type", "")
        if kind.startswith("multipart/form-data"):
            parts = _multipart(kind, body)
            offer, config = parts.get("sdp", b""), decode_json(parts.get("session") or b'{"type":"realtime"}')
        else:
            offer, config = body, {"type": "realtime"}
        if secret is not None:
            config = {"model": secret.model, **secret.config}
        if not isinstance(config, dict) or not offer.startswith(b"v=0"):
            raise RefusedError("Expected an SDP offer and a session configuration.", code="invalid_offer", param="sdp")
        call = await calls.create(config)
        location = f"/v1/realtime/calls/{call.id}"
        return Response(_ANSWER, 201, {"Location": location}, media_type="application/sdp")

    async def accept(request: Request) -> Response:
        config = await read_json(request)
        if not isinstance(config, dict):
            raise RefusedError("Expected a session configuration.", code="invalid_type")
        await calls.accept(request.path_params["call_id"], config)
        return Response()

    async def reject(request: Request) -> Response:
        asked = _reject(await read_json(request), "")
        calls.reject(request.path_params["call_id"], asked.get("status_code", 603))
        return Response()

    async def refer(request: Request) -> Response:
        asked = _refer(await read_json(request), "")
        calls.refer(request.path_params["call_id"], asked["target_uri"])
        return Response()

    async def hangup(request: Request) -> Response:
        calls.hangup(request.path_params["call_id"])
        return Response()

    router = APIRouter()
    for prefix in PREFIXES:
        for path, handler, admit in (
            ("client_secrets", create_secret, key),
            ("calls", create_call, key_or_secret),
            ("calls/{call_id}/accept", accept, key),
            ("calls/{call_id}/reject", reject, key),
            ("calls/{call_id}/refer", refer, key),
            ("calls/{call_id}/hangup", hangup, key),
        ):
            router.add_api_route(f"{prefix}/{path}", guarded(handler, admit), methods=["POST"], response_model=None)
    return router


def _multipart(content_type: str, body: bytes) -> dict[str, bytes]:
    """The parts of a form by name."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1")
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    parts: dict[str, bytes] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            parts[name] = content
    return parts
