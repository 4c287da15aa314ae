"""HEAD, wherever there is a GET: what that would answer, without its body (RFC 9110, 9.3.2)."""

import contextlib
from collections.abc import Sequence

from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class _HeadIsSentError(OSError):
    """Ends an answer whose body nobody wants, as a client's disconnection would: also one that streams for ever."""


class HeadAsGet:
    """ASGI middleware: has GET answer a HEAD that none of `routes` answers itself."""

    def __init__(self, app: ASGIApp, *, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or self._has_its_own(scope):
            await self._app(scope, receive, send)
            return

        async def head_alone(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                raise _HeadIsSentError

        with contextlib.suppress(_HeadIsSentError, ClientDisconnect):
            await self._app({**scope, "method": "GET"}, receive, head_alone)

    def _has_its_own(self, scope: Scope) -> bool:
        return any(route.matches(scope)[0] is Match.FULL for route in self._routes)
