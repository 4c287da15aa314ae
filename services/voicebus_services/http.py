"""A service's public HTTP port: uvicorn inside our own lifecycle, API keys, and errors as problem+json.

Knows nothing of what is served. The service binds, serves and stops; uvicorn never sees a signal.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from voicebus.errors import SettingsError, VoicebusError
from voicebus_services.tls import Certificate

KEYS_SETTING: Final = "VOICEBUS_API_KEYS_FILE"
LOCAL_TENANT: Final = "local"
"""The tenant of loopback clients where no keys are configured."""

_BACKLOG: Final = 2048
_MAX_KEY_CHARS: Final = 512


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

    async def problem(_: Request, error: Exception) -> JSONResponse:
        if isinstance(error, ProblemError):
            return error.response()
        if isinstance(error, RequestValidationError):
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            return ProblemError(422, "invalid_request", f"{where}: {first['msg']}").response()
        if isinstance(error, HTTPException):
            code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
            return ProblemError(error.status_code, code, str(error.detail), headers=error.headers).response()
        return ProblemError(500, "internal_error", "the request failed; the service's log has the cause").response()

    for kind in (ProblemError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, problem)


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """Who may ask: the keys of `VOICEBUS_API_KEYS_FILE`, or without such a file loopback clients alone.

    Only digests are held, so that no key can reach a log or a traceback from here.
    """

    digests: tuple[tuple[str, bytes], ...] | None = None

    @classmethod
    def load(cls, path: Path | None) -> "ApiKeys":
        """Read a keys file: one `tenant:key` per line; blank lines and `#` comments are skipped.

        Raises:
            SettingsError: the file cannot be read, a line is not `tenant:key`, or there is no key in it.
        """
        if path is None:
            return cls()
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"{KEYS_SETTING}: {str(path)!r} cannot be read ({error}); name a readable text file"
            ) from error
        digests: list[tuple[str, bytes]] = []
        for number, line in enumerate((line.strip() for line in lines), start=1):
            if not line or line.startswith("#"):
                continue
            tenant, separator, key = (part.strip() for part in line.partition(":"))
            if not (tenant and separator and key.isascii()) or not 0 < len(key) <= _MAX_KEY_CHARS:
                raise SettingsError(
                    f"{KEYS_SETTING}: line {number} of {str(path)!r} is not tenant:key"
                    f" (ASCII, at most {_MAX_KEY_CHARS} characters)"
                )
            digests.append((tenant, _digest(key)))
        if not digests:
            raise SettingsError(f"{KEYS_SETTING}: {str(path)!r} holds no key; write one tenant:key per line")
        return cls(tuple(digests))

    def tenant(self, key: str) -> str | None:
        """The tenant that `key` belongs to. Compares with every key, in constant time."""
        presented = _digest(key)
        found = None
        for tenant, digest in self.digests or ():
            if hmac.compare_digest(digest, presented):
                found = tenant
        return found

    def authenticate(self, headers: Mapping[str, str], peer: str | None) -> str:
        """The tenant of a request with these (lower-case or case-insensitive) headers from this peer address.

        Raises:
            ProblemError: 401.
        """
        if self.digests is None:
            if _is_loopback(peer) and _named_locally(headers):
                return LOCAL_TENANT
            raise _unauthorized(f"no API keys are configured ({KEYS_SETTING}), so only this machine itself is served")
        scheme, _, key = headers.get("authorization", "").partition(" ")
        tenant = self.tenant(key.strip()) if scheme.lower() == "bearer" else None
        if tenant is None:
            raise _unauthorized("send a valid API key as `Authorization: Bearer KEY`")
        return tenant


def require_key(keys: ApiKeys) -> Callable[[Request], Awaitable[str]]:
    """A FastAPI dependency: the request's tenant, else 401."""

    async def dependency(request: Request) -> str:
        return keys.authenticate(request.headers, request.client.host if request.client else None)

    return dependency


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _unauthorized(detail: str) -> ProblemError:
    return ProblemError(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def _is_loopback(host: str | None) -> bool:
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _named_locally(headers: Mapping[str, str]) -> bool:
    """A browser on this machine is loopback too: a page from elsewhere (Origin) or a rebound name (Host) is not."""
    try:
        hosts = [urlsplit(f"//{headers.get('host', '')}").hostname]
        if "origin" in headers:
            hosts.append(urlsplit(headers["origin"]).hostname)
    except ValueError:
        return False
    return all(host == "localhost" or _is_loopback(host) for host in hosts)


class HttpServer(uvicorn.Server):
    """A uvicorn server that leaves signals to the service. `port` is the one really taken."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config)
        self.port = int(listener.getsockname()[1])
        self.up = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


@asynccontextmanager
async def serving(
    app: FastAPI,
    *,
    host: str,
    port: int,
    stop_timeout_s: int = 5,
    certificate: Certificate | None = None,
    **config: Any,
) -> AsyncIterator[HttpServer]:
    """Serve `app` while the block runs; then stop accepting, and give requests in hand `stop_timeout_s` to end.

    The app's lifespan is not run: services wire themselves. With a `certificate` TLS is all that is spoken, and its
    files are followed. `config` is more of `uvicorn.Config`.

    Raises:
        SettingsError: the port cannot be opened.
    """
    listener = _listen(host, port)
    options: dict[str, Any] = {
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        # A proxy on this machine tells who asks; nobody else is believed.
        "forwarded_allow_ips": ["127.0.0.1", "::1"],
        "timeout_graceful_shutdown": stop_timeout_s,
        "log_level": logging.WARNING,
    }
    following: asyncio.Task[None] | None = None
    if certificate is not None:
        options["ssl_context_factory"] = lambda *_: certificate.context
        following = asyncio.create_task(certificate.follow(), name="tls-certificate")
    server = HttpServer(uvicorn.Config(app, **{**options, **config}), listener)
    task = asyncio.create_task(server.serve([listener]), name="http-server")
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
            listener.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
        )
    except OSError as error:
        raise SettingsError(
            f"VOICEBUS_HTTP_PORT: {host}:{port} cannot be opened ({error.strerror}); free it or choose another"
        ) from error
