"""A public port for tests of the hand-over: uvicorn for HTTP, picows for WebSockets that say back what they hear."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI

from support.tls import Pair
from support.waiting import wait_until
from voicebus.adapters.sockets import Socket
from voicebus.adapters.sockets.uvicorn_upgrade import Acceptor, upgrade_hook
from voicebus_services.http import serving
from voicebus_services.tls import Certificate

HANDSHAKE: Final = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
"""What a client that is no library's sends first."""


class Echo:
    """Sends back what comes, and fails where it is told to `raise`; remembers how it ended."""

    def __init__(self) -> None:
        self.socket: Socket | None = None
        self.ended: tuple[int, str] | None = None
        self.texts: list[bytes] = []

    def opened(self, socket: Socket) -> None:
        self.socket = socket

    def text(self, message: bytes) -> None:
        if message == b"raise":
            raise RuntimeError("asked to")
        self.texts.append(message)
        assert self.socket is not None
        self.socket.send_text(message)

    def binary(self, message: bytes) -> None:
        assert self.socket is not None
        self.socket.send_binary(message)

    def closed(self, code: int, reason: str) -> None:
        self.ended = (code, reason)


async def drop_deaf_peer(echo: Echo, deaf: socket.socket) -> None:
    """Upgrade `deaf`, which reads nothing, and send it more than may wait, until `echo` has heard of its end."""
    deaf.sendall(HANDSHAKE)
    sent = await wait_until(lambda: echo.socket, description="the upgrade")
    assert sent is not None
    for _ in range(40):
        sent.send_binary(b"x" * 1_000_000)
        await asyncio.sleep(0)
    await wait_until(lambda: echo.ended, description="the drop")


@asynccontextmanager
async def port(accept: Acceptor, pair: Pair | None = None) -> AsyncIterator[int]:
    """The port's number; over TLS where there is a `pair`. `GET /` answers `"http"`."""
    app = FastAPI()

    @app.get("/")
    def page() -> str:
        return "http"

    hook = upgrade_hook(accept)
    certificate = None if pair is None else Certificate(pair.certificate, pair.key)
    async with serving(app, host="127.0.0.1", port=0, certificate=certificate, ws=hook) as server:
        yield server.port
        await hook.aclose(patience_s=0)
