"""A service's public HTTP port: uvicorn inside our own lifecycle, and errors as problem+json.

Knows nothing of what is served. The service binds, serves and stops; uvicorn never sees a signal.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from voicebus.errors import SettingsError, VoicebusError
from voicebus.telemetry.health import FAMILY_MISSING
from voicebus_services.entrance import Entrance
from voicebus_services.http_protocol import BoundedHttpProtocol, Lingering
from voicebus_services.silent_connections import MOST, SilentConnections
from voicebus_services.tls import Certificate
from voicebus_services.turns import Turns

PROXIES: Final = ("127.0.0.1", "::1")
"""A proxy on this machine tells who asks; nobody else is believed."""

KEEP_ALIVE_S: Final = 3660
"""How long a connection may be idle between requests: longer than proxies keep theirs (nginx 60 s, Google's 10 min,
Envoy 1 h, AWS's as helm/ sets it 1 h), which would else now and then ask on one that is being closed, and answer 502.
Their number is bounded.
"""

_BACKLOG: Final = 2048


class ProblemError(VoicebusError):
    """An answer other than the one asked for; becomes problem+json. `code` is a stable identifier for programs."""

    def __init__(self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})

    def response(self) -> JSONResponse:
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": str(self),
            "code": self.code,
        }
        return JSONResponse(body, self.status, self.headers, media_type="application/problem+json")


def answer_with_problems(app: FastAPI) -> None:
    """Have every error of `app` leave as problem+json, those of FastAPI and of the router included."""

    async def problem(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, ProblemError):
            return error.response()
        if isinstance(error, RequestValidationError):
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            return ProblemError(422, "invalid_request", f"{where}: {first['msg']}").response()
        if isinstance(error, HTTPException):
            if error.status_code == HTTPStatus.BAD_REQUEST:  # raised for a body that cannot be parsed
                said = f"body: {error.detail}; send what its Content-Type says, JSON in UTF-8"
                return ProblemError(400, "invalid_request", said).response()
            code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
            headers = dict(error.headers or {})
            if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
                headers["Allow"] = ", ".join(_allowed(app, request))
            return ProblemError(error.status_code, code, str(error.detail), headers=headers).response()
        return ProblemError(500, "internal_error", "the request failed; the service's log has the cause").response()

    for kind in (ProblemError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, problem)


def _allowed(app: FastAPI, request: Request) -> list[str]:
    """The methods of every operation at this path; the router itself names those of the first one alone."""
    paths = app.openapi()["paths"]
    here = [methods for path, methods in paths.items() if compile_path(path)[0].match(request.url.path)]
    allowed = {method.upper() for methods in here for method in methods}
    return sorted(allowed | {"HEAD"} if "GET" in allowed else allowed)


class HttpServer(uvicorn.Server):
    """A uvicorn server that leaves signals to the service. `port` is the one really taken.

    What has connected and asks nothing is bounded by `silent`; handshakes take `turns`.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        listener: socket.socket,
        silent: SilentConnections,
        turns: Turns,
        certificate: Certificate | None,
    ) -> None:
        super().__init__(config)
        self.port = int(listener.getsockname()[1])
        self.up = asyncio.Event()
        self._silent = silent
        self._turns = turns
        self._certificate = certificate

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        protocol = partial(
            BoundedHttpProtocol,
            config=self.config,
            server_state=self.server_state,
            app_state={},
            silent=self._silent,
            lingering=Lingering(),
        )
        self.servers = [
            Entrance(listener, self._certificate, self._silent, self._turns, protocol)  # type: ignore[misc]  # closed as any other
            for listener in sockets or ()
        ]
        self.started = True
        self.up.set()


@asynccontextmanager
async def serving(
    app: FastAPI,
    *,
    host: str,
    port: int,
    stop_timeout_s: int = 5,
    certificate: Certificate | None = None,
    max_silent: int = MOST,
    turns: Turns | None = None,
    **config: Any,
) -> AsyncIterator[HttpServer]:
    """Serve `app` while the block runs; then stop accepting, and give requests in hand `stop_timeout_s` to end.

    The app's lifespan is not run: services wire themselves. With a `certificate` TLS is all that is spoken, and its
    files are followed. `max_silent` connections without a request are kept. Requests and handshakes take `turns`, as
    others of the same process may. `config` is more of `uvicorn.Config`.

    Raises:
        SettingsError: the port cannot be opened.
    """
    listeners = _listen(host, port)
    options: dict[str, Any] = {
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "forwarded_allow_ips": list(PROXIES),
        "timeout_graceful_shutdown": stop_timeout_s,
        "timeout_keep_alive": KEEP_ALIVE_S,
        "log_level": logging.WARNING,
    }
    following: asyncio.Task[None] | None = None
    if certificate is not None:
        following = asyncio.create_task(certificate.follow(), name="tls-certificate")
    turns = Turns() if turns is None else turns
    server = HttpServer(
        uvicorn.Config(_InTurn(app, turns), **{**options, **config}),
        listeners[0],
        SilentConnections(max_silent),
        turns,
        certificate,
    )
    task = asyncio.create_task(server.serve(listeners), name="http-server")
    up = asyncio.create_task(server.up.wait(), name="http-server-up")
    try:
        await asyncio.wait({task, up}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        yield server
    finally:
        up.cancel()
        if following is not None:
            following.cancel()
        server.should_exit = True
        try:
            await task
        finally:
            for listener in listeners:
                listener.close()


class _InTurn:
    """ASGI middleware: requests of many connections in one moment are begun a few at a time."""

    def __init__(self, app: ASGIApp, turns: Turns) -> None:
        self._app = app
        self._turns = turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._turns.mine()
        await self._app(scope, receive, send)


def asker(peer: str | None, forwarded_for: str | None) -> str | None:
    """Who asks, where uvicorn does not find out: the peer, or whom a proxy names that asks for somebody else."""
    if peer not in PROXIES or not forwarded_for:
        return peer
    named = [name.strip() for name in forwarded_for.split(",")]
    return next((name for name in reversed(named) if name not in PROXIES), named[0])


def _listen(host: str, port: int) -> list[socket.socket]:
    """One listener, or of `::`, which is every address of this machine, one for each family that it has.

    Two rather than one for both, so that an IPv4 peer's address is written as such wherever it is told.
    """
    hosts = ("::", "0.0.0.0") if host == "::" else (host,)  # noqa: S104 - asked for by the setting
    listeners: list[socket.socket] = []
    try:
        for address in hosts:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            taken = listeners[0].getsockname()[1] if listeners else port
            try:
                listeners.append(socket.create_server((address, taken), family=family, backlog=_BACKLOG))
            except OSError as error:
                # The last one must do, or there is none.
                if error.errno not in FAMILY_MISSING or (address == hosts[-1] and not listeners):
                    raise
    except OSError as error:
        for listener in listeners:
            listener.close()
        raise SettingsError(
            f"VOICEBUS_HTTP_PORT: {host}:{port} cannot be opened ({error.strerror}); free it or choose another"
        ) from error
    # Connections inherit it. asyncio itself sets it only on sockets that name their protocol, which these do not, and
    # uvicorn writes head and body one by one, so that the body would wait for the peer's delayed ACK (40 ms).
    for listener in listeners:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listeners
