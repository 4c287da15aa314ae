"""The simulator's public port: WebSockets of the protocol, and beside them the HTTP endpoints."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from voicebus_services.http import answer_with_problems
from voicebus_services.model_simulator.admission import (
    NotAdmittedError,
    Upgrade,
    check_dialect,
    check_key,
    check_model,
)
from voicebus_services.model_simulator.calls import Calls
from voicebus_services.model_simulator.client_secrets import PREFIX as EPHEMERAL
from voicebus_services.model_simulator.client_secrets import ClientSecret, ClientSecrets
from voicebus_services.model_simulator.http_api import routes
from voicebus_services.model_simulator.hub import Hub
from voicebus_services.model_simulator.live import Connection, LiveSession

PATHS = frozenset({"/v1/realtime", "/openai/v1/realtime"})

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class SimulatorApp(FastAPI):
    """The ASGI application. WebSockets bypass the router: each frame costs one call, which a hundred voices need."""

    def __init__(self, hub: Hub, calls: Calls, *, api_key: str | None, strict: bool, ledger: bool) -> None:
        super().__init__(title="Voicebus model-simulator", docs_url=None, redoc_url=None, openapi_url=None)
        self._hub = hub
        self._api_key = api_key
        self._strict = strict
        self._secrets = ClientSecrets()
        answer_with_problems(self)
        self.include_router(
            routes(
                self._secrets, calls, key=lambda given: check_key(given, self._api_key), key_or_secret=self._admitted
            )
        )
        if ledger:
            self.add_api_route("/ledger", self._ledger, methods=["GET"])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def _ledger(self) -> JSONResponse:
        return JSONResponse({"data": self._hub.ledger()})

    # -- WebSockets ----------------------------------------------------------------------------------------------

    async def _websocket(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        upgrade = Upgrade(
            path=scope["path"],
            query=dict(parse_qsl(scope["query_string"].decode("latin-1"))),
            headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
            subprotocols=scope["subprotocols"],
        )
        if upgrade.path not in PATHS:
            await _answer_http(
                send,
                404,
                {"type": "invalid_request_error", "code": "not_found", "message": "No such path", "param": None},
            )
            return
        try:
            check_dialect(upgrade)
            secret = self._admitted(upgrade.credential)
            if "call_id" in upgrade.query:
                await self._sideband(upgrade, secret, receive, send)
                return
            if secret is not None:
                session_type, model, config = secret.config["type"], secret.model, secret.config
            elif upgrade.query.get("intent") == "transcription":
                session_type, model, config = "transcription", None, None
            else:
                session_type, model, config = "realtime", check_model(upgrade), None
        except NotAdmittedError as refused:
            await self._refuse(upgrade, refused, send)
            return
        await send({"type": "websocket.accept", "subprotocol": upgrade.subprotocol})
        async with asyncio.TaskGroup() as group:
            with self._hub.session(group, session_type, model, config) as live:
                await _serve(live, group, receive, send)

    def _admitted(self, credential: str | None) -> ClientSecret | None:
        """The client secret that the client presents; None for an API key.

        Raises:
            NotAdmittedError: the credential is neither.
        """
        secret = self._secrets.find(credential) if credential is not None else None
        if secret is None:
            # A secret that is unknown or over is not a key, even where any key will do.
            if self._api_key is None and credential is not None and credential.startswith(EPHEMERAL):
                check_key(credential, "")
            check_key(credential, self._api_key)
        return secret

    async def _sideband(self, upgrade: Upgrade, secret: ClientSecret | None, receive: Receive, send: Send) -> None:
        call_id = upgrade.query["call_id"]
        # With an ephemeral key the service does not find the call.
        live = self._hub.sessions.get(call_id) if secret is None else None
        if live is None:
            error = {
                "type": "invalid_request_error",
                "code": "call_id_not_found",
                "message": f"No session found for call_id '{call_id[:100]}'.",
                "param": "call_id",
            }
            await _answer_http(send, 404, error)
            return
        await send({"type": "websocket.accept", "subprotocol": upgrade.subprotocol})
        async with asyncio.TaskGroup() as group:
            await _serve(live, group, receive, send)

    async def _refuse(self, upgrade: Upgrade, refused: NotAdmittedError, send: Send) -> None:
        if self._strict:
            await _answer_http(send, refused.status, refused.body())
            return
        await send({"type": "websocket.accept", "subprotocol": upgrade.subprotocol})
        event = {"type": "error", "event_id": self._hub.stray_event_id(), "error": {**refused.body(), "event_id": None}}
        await send({"type": "websocket.send", "text": msgspec.json.encode(event).decode()})
        await send({"type": "websocket.close", "code": refused.close_code, "reason": refused.reason})


async def _serve(live: LiveSession, group: asyncio.TaskGroup, receive: Receive, send: Send) -> None:
    """Carry one connection's frames both ways until either side ends it."""
    connection = Connection(send, live.frame_delay)
    live.attach(connection)
    reading = group.create_task(_read(live, connection, receive), name="read")
    writing = group.create_task(connection.write(), name="write")
    try:
        await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        live.detach(connection)
        reading.cancel()
        writing.cancel()


async def _read(live: LiveSession, connection: Connection, receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] != "websocket.receive":
            return
        text = message.get("text")
        if text is not None:
            live.handle(text)
        else:
            live.handle_binary()
        await connection.room()


async def _answer_http(send: Send, status: int, error: Mapping[str, object]) -> None:
    body = msgspec.json.encode({"error": error})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
