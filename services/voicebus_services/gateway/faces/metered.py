"""What one client's socket may say in a second: what comes faster is read later, so that nothing of it is lost."""

import asyncio
from typing import Final, Protocol

from voicebus.adapters.sockets import MESSAGE_TOO_BIG, Socket, SocketListener
from voicebus.telemetry import metrics
from voicebus_services.bucket import Bucket

BURST_S: Final = 10.0
"""As many messages as in so many seconds may come at once."""

PAUSE_S: Final = 2.0
"""The longest pause at a time: the client's pongs are not read meanwhile."""

TOO_FAST: Final = "rate_limit_exceeded"


class Client(SocketListener, Protocol):
    """A client's connection that can be told what it does wrong."""

    def complain(self, code: str, message: str) -> None: ...


class Metered:
    """Stands between a socket and its listener. Implements `SocketListener`."""

    def __init__(self, client: Client, messages_per_second: float) -> None:
        self._client = client
        self._rate = messages_per_second
        self._bucket = Bucket(messages_per_second, messages_per_second * BURST_S)
        # Messages are paid for some at a time: an audio frame is to cost next to nothing.
        self._at_once = max(1, min(20, int(messages_per_second / 20)))
        self._paid = 0
        self._socket: Socket | None = None
        self._pause: asyncio.TimerHandle | None = None

    def opened(self, socket: Socket) -> None:
        self._socket = socket
        self._client.opened(socket)

    def text(self, message: bytes) -> None:
        if self._paid:
            self._paid -= 1
        else:
            self._pay()
        # Not called as it is looked up: as it may be no method, that would take Python ten times as long.
        text = self._client.text
        text(message)

    def binary(self, message: bytes) -> None:
        if self._paid:
            self._paid -= 1
        else:
            self._pay()
        self._client.binary(message)

    def closed(self, code: int, reason: str) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if code == MESSAGE_TOO_BIG:
            metrics.LIMITS_REACHED.labels(limit="message_bytes").inc()
        self._client.closed(code, reason)

    def _pay(self) -> None:
        self._paid = self._at_once - 1
        if wait_s := self._bucket.take(self._at_once):
            self._slow_down(wait_s)

    def _slow_down(self, wait_s: float) -> None:
        if self._pause is not None or self._socket is None:
            return
        metrics.LIMITS_REACHED.labels(limit="message_rate").inc()
        self._client.complain(
            TOO_FAST, f"Messages come faster than {self._rate:g} a second; they are read no faster than that."
        )
        self._socket.pause_reading()
        self._pause = asyncio.get_running_loop().call_later(min(wait_s, PAUSE_S), self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        if self._socket is not None:
            self._socket.resume_reading()
