"""`/static/voicebus.js`: the client for browsers. Open to everyone who reaches the port: it holds no secret."""

from importlib.resources import files
from typing import Final

from fastapi import APIRouter
from fastapi.responses import Response

from voicebus_services.access.origins import Origins

_MODULE: Final = "voicebus.js"
# A page that is loaded after an upgrade of the gateway gets the client of that version.
_HEADERS: Final = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
# A page loads a module of another origin only where that says so; what is in this one, everybody may read.
_FOR_ANY_PAGE: Final = {"Access-Control-Allow-Origin": "*"}


def routes(origins: Origins) -> APIRouter:
    """Which pages may load it: those of `origins`, which tells them itself; without a list, all."""
    headers = _HEADERS if origins.allowed else {**_HEADERS, **_FOR_ANY_PAGE}
    router = APIRouter(prefix="/static")
    source = (files("voicebus_services.gateway") / "static" / _MODULE).read_bytes()

    @router.get(f"/{_MODULE}", include_in_schema=False)
    def module() -> Response:
        return Response(source, media_type="text/javascript", headers=headers)

    return router
