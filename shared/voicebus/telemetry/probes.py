"""Health as an ASGI application, for a process that has a server of its own."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from voicebus.telemetry.health import Health

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_JSON: Final = [(b"content-type", b"application/json")]


def probes(health: Health) -> ASGIApp:
    """Answers `/livez` and `/readyz` below wherever it is mounted: 200 or 503, each with the whole report."""

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # a socket that nobody accepts is closed by the server
        path = str(scope["path"]).removeprefix(str(scope.get("root_path") or ""))
        good = {"/livez": health.live, "/readyz": health.ready}.get(path)
        status = 404 if good is None else 200 if good else 503
        body = json.dumps({"detail": "there are /livez and /readyz"} if good is None else health.report())
        await send({"type": "http.response.start", "status": status, "headers": _JSON})
        await send({"type": "http.response.body", "body": body.encode()})

    return app
