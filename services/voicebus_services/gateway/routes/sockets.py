"""What the addresses of WebSockets answer without an upgrade, as behind a proxy that passes none on."""

from typing import Final, NoReturn

from fastapi import APIRouter

from voicebus_services.http import ProblemError

_HEADERS: Final = {"Upgrade": "websocket", "Connection": "Upgrade"}


def routes(*paths: str) -> APIRouter:
    """Open to everyone who reaches the port: it says nothing that is not written down."""
    router = APIRouter()

    async def upgrade_required() -> NoReturn:
        raise ProblemError(
            426,
            "upgrade_required",
            "this is the address of a WebSocket; a proxy in between has to pass Upgrade and Connection on",
            headers=_HEADERS,
        )

    for path in paths:
        router.add_api_route(path, upgrade_required, include_in_schema=False, response_model=None)
    return router
