"""A client's second connection: it waits until its session has come to this gateway. The first one serves meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable

from voicebus.adapters.sockets import Socket
from voicebus.telemetry.logging import get_logger
from voicebus_services.gateway.faces.metered import Client

log = get_logger(__name__)

Arrives = Callable[[], Awaitable[Client]]
Explains = Callable[[Exception], tuple[bytes, int, str]]
"""What a client is told whose session does not come: the frame, and code and reason of the close."""


class Arriving:
    """Implements `Client`: hands the socket on to the connection that `arrives` gives, else says why by `explains`.

    What the client says before is kept, and nothing more of it read.
    """

    def __init__(self, arrives: Arrives, explains: Explains) -> None:
        self._arrives = arrives
        self._explains = explains
        self._socket: Socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._client: Client | None = None
        self._early: list[tuple[bool, bytes]] = []

    def opened(self, socket: Socket) -> None:
        self._socket = socket
        self._task = asyncio.create_task(self._wait(socket), name="session-arrives")

    async def _wait(self, socket: Socket) -> None:
        try:
            client = await self._arrives()
        except Exception as error:  # noqa: BLE001 - the boundary between one connection and the others
            frame, code, reason = self._explains(error)
            socket.send_text(frame)
            socket.close(code, reason)
            return
        self._client = client
        client.opened(socket)
        if self._early:
            socket.resume_reading()
        for binary, message in self._early:
            (client.binary if binary else client.text)(message)
        self._early.clear()

    def text(self, message: bytes) -> None:
        self._hear(False, message)

    def binary(self, message: bytes) -> None:
        self._hear(True, message)

    def _hear(self, binary: bool, message: bytes) -> None:
        if self._client is not None:
            (self._client.binary if binary else self._client.text)(message)
            return
        self._early.append((binary, message))
        if len(self._early) == 1 and self._socket is not None:  # what was read with it comes all the same
            self._socket.pause_reading()

    def closed(self, code: int, reason: str) -> None:
        if self._client is not None:
            self._client.closed(code, reason)
        elif self._task is not None:
            self._task.cancel()

    def complain(self, code: str, message: str) -> None:
        if self._client is not None:
            self._client.complain(code, message)
