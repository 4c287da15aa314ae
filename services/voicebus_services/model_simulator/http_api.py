"""The simulator's HTTP endpoints beside the WebSocket, with errors in the shape of the simulated service."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from voicebus_services.model_simulator.admission import NotAdmittedError, Upgrade, check_key
from voicebus_services.model_simulator.client_secrets import ClientSecrets
from voicebus_services.model_simulator.protocol.refusal import RefusedError

_MAX_BODY = 1024 * 1024
PREFIXES = ("/v1/realtime", "/openai/v1/realtime")

Handler = Callable[[Request], Awaitable[Response]]


def error_response(status: int, error: Mapping[str, object]) -> JSONResponse:
    return JSONResponse({"error": error}, status)


async def read_json(request: Request) -> Any:
    """The JSON body, {} where there is none.

    Raises:
        RefusedError: larger than 1 MiB, or not JSON.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BODY:
            raise RefusedError("The body is larger than 1 MiB.", code="request_too_large")
    try:
        return msgspec.json.decode(body) if body else {}
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RefusedError("We could not parse the JSON body of your request.", code="invalid_json") from error


def guarded(handler: Handler, api_key: str | None) -> Handler:
    """`handler` for requests that bring the API key; what it refuses becomes a 400."""

    async def answer(request: Request) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            check_key(Upgrade(request.url.path, {}, headers, ()).credential, api_key)
            return await handler(request)
        except NotAdmittedError as refused:
            return error_response(refused.status, refused.body())
        except RefusedError as refused:
            body = {"type": refused.kind, "code": refused.code, "message": refused.message, "param": refused.param}
            return error_response(400, body)

    return answer


def secrets_router(secrets: ClientSecrets, api_key: str | None) -> APIRouter:
    """`POST /v1/realtime/client_secrets`, also under Azure's prefix."""

    async def create(request: Request) -> Response:
        _, body = secrets.create(await read_json(request))
        return JSONResponse(body)

    router = APIRouter()
    for prefix in PREFIXES:
        router.add_api_route(
            f"{prefix}/client_secrets", guarded(create, api_key), methods=["POST"], response_model=None
        )
    return router
