"""Who writes is found out before anything of what is written is read: nobody else has a body kept in memory.

ASGI middleware, since FastAPI reads a request's body before it asks whom the request is from.
"""

from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voicebus_services.access.authenticator import KNOWN, REFUSED, Authenticator, Presented
from voicebus_services.http import ProblemError

_WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def is_write(scope: Scope) -> bool:
    """Whether this is a request that may change something, and asks for a credential."""
    return scope["type"] == "http" and scope["method"] in _WRITES and scope["path"].startswith("/v1/")


class KnownFirst:
    """Looks at the credential of writes under `/v1`. Who is refused is left to the application, without the body."""

    def __init__(self, app: ASGIApp, *, access: Authenticator) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_write(scope):
            client = scope.get("client")
            presented = Presented.by(Headers(scope=scope).items(), client[0] if client else None)
            state = scope.setdefault("state", {})
            try:
                state[KNOWN] = await self._access.asks(presented)
            except ProblemError as refused:
                state[REFUSED] = refused
                receive = _nothing
        await self._app(scope, receive, send)


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}
