"""`/static/voicebus.js`: the client for browsers. Open to everyone who reaches the port: it holds no secret."""

from importlib.resources import files
from typing import Final

from fastapi import APIRouter
from fastapi.responses import Response

_MODULE: Final = "voicebus.js"
# A page that is loaded after an upgrade of the gateway gets the client of that version.
_HEADERS: Final = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}


def routes() -> APIRouter:
    router = APIRouter(prefix="/static")
    source = (files("voicebus_services.gateway") / "static" / _MODULE).read_bytes()

    @router.get(f"/{_MODULE}", include_in_schema=False)
    def module() -> Response:
        return Response(source, media_type="text/javascript", headers=_HEADERS)

    return router
