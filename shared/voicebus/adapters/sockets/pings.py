"""Pings of our own, and the end of a connection whose peer does not answer them."""

import asyncio
from typing import Final, Protocol

from voicebus.adapters.sockets import Keepalive
from voicebus.adapters.sockets.acknowledged import Progress, progress
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)


class Transport(Protocol):
    """What pings are sent with; `underlying_transport` tells how far all else is."""

    @property
    def underlying_transport(self) -> asyncio.Transport: ...

    def send_ping(self) -> None: ...


class Connection(Protocol):
    """Whose peer is asked."""

    @property
    def is_closing(self) -> bool: ...

    def give_up_silent(self) -> None:
        """The peer does not answer."""
        ...


class Pings:
    """Those on one connection; none without a `keepalive`."""

    __slots__ = ("_keepalive", "_next", "_no_pong", "_progress")

    def __init__(self, keepalive: Keepalive | None) -> None:
        self._keepalive = keepalive
        self._next: asyncio.TimerHandle | None = None
        self._no_pong: asyncio.TimerHandle | None = None
        # How far the connection was as a pong began to be waited for.
        self._progress = Progress()

    def begin(self, connection: Connection, transport: Transport) -> None:
        """Ask the peer from now on, until the `end`."""
        if self._keepalive is not None and self._keepalive.interval_s is not None:
            loop = asyncio.get_running_loop()
            self._next = loop.call_later(self._keepalive.interval_s, self._ping, connection, transport)

    def answered(self) -> None:
        """A pong came."""
        if self._no_pong is not None:
            self._no_pong.cancel()
            self._no_pong = None

    def end(self) -> None:
        """The connection is gone."""
        for timer in (self._next, self._no_pong):
            if timer is not None:
                timer.cancel()

    def _ping(self, connection: Connection, transport: Transport) -> None:
        if connection.is_closing:
            return
        transport.send_ping()
        if self._no_pong is None or self._moves(transport):
            self._await_pong(connection, transport)
        self.begin(connection, transport)

    def _await_pong(self, connection: Connection, transport: Transport) -> None:
        self.answered()
        if self._keepalive is not None and self._keepalive.timeout_s is not None:
            self._progress = progress(transport.underlying_transport)
            loop = asyncio.get_running_loop()
            self._no_pong = loop.call_later(self._keepalive.timeout_s, self._silent, connection, transport)

    def _moves(self, transport: Transport) -> bool:
        """Whether anything moved since a pong is waited for. It stands behind what the peer sent before it, and its
        ping behind what we did: a minute of sound, or a picture, that a slow way is long about.
        """
        return progress(transport.underlying_transport).is_beyond(self._progress)

    def _silent(self, connection: Connection, transport: Transport) -> None:
        if self._moves(transport):
            self._await_pong(connection, transport)
            return
        log.warning("peer does not answer pings, dropping it")
        connection.give_up_silent()
