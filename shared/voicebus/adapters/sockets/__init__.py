"""The port between whole WebSocket messages and the library that frames them; neither face nor model link knows which.

A `Socket` is an open connection, a `SocketListener` hears from it. Everything is called on the event loop and returns
at once: what cannot be written yet is buffered up to `MAX_BUFFERED`, beyond which a peer that does not read is dropped.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from voicebus.adapters.sockets.pieces import Pieces

MAX_MESSAGE: Final = 32 * 1024 * 1024
"""Bytes of one message, fragments together; a peer that sends more is closed with 1009."""

MAX_BUFFERED: Final = 8 * 1024 * 1024
"""Bytes waiting for a peer to read them, some two minutes of 24 kHz PCM as base64; beyond that it is dropped."""

PING_INTERVAL_S: Final = 20.0
"""A peer silent for this long is pinged, and dropped where no pong comes within the same time."""

CLOSE_TIMEOUT_S: Final = 2.0
"""How long a closing handshake may take, once the peer has what was sent before, until the connection is cut."""

CLOSE_LIMIT_S: Final = 20.0
"""How long a peer that still takes what was sent before is waited for, so that it learns of the end and its reason."""


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Pings of our own: one every `interval_s` (None: none), and how long nothing may move while a pong is waited for
    (None: for ever).
    """

    interval_s: float | None = PING_INTERVAL_S
    timeout_s: float | None = PING_INTERVAL_S


NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
NO_STATUS: Final = 1005
ABNORMAL: Final = 1006
POLICY_VIOLATION: Final = 1008
MESSAGE_TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011
SERVICE_RESTART: Final = 1012
TRY_AGAIN_LATER: Final = 1013

CLEAN_CLOSES: Final = frozenset({NORMAL, GOING_AWAY, NO_STATUS})
"""Codes of a peer that ended the conversation in order; every other one is a loss."""


class Socket(Protocol):
    """An open WebSocket. After `close` or a loss, sending does nothing."""

    def send_text(self, message: bytes) -> None:
        """Send UTF-8 text as one message."""
        ...

    def send_binary(self, message: bytes) -> None: ...

    def send_pieces(self, message: Pieces) -> None:
        """As `send_text`."""
        ...

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Start the closing handshake. The connection is cut after `CLOSE_TIMEOUT_S` without an answer, unless the peer
        is still taking what was sent before; then after `CLOSE_LIMIT_S`.
        """
        ...

    @property
    def is_congested(self) -> bool:
        """Whether the peer has not taken what was sent lately."""
        ...

    @property
    def taken(self) -> int:
        """Changes as the peer takes what was sent: to compare with what it was before."""
        ...

    async def writable(self) -> None:
        """Return once the peer has taken most of what was sent, or is gone."""
        ...

    def pause_reading(self) -> None:
        """Hear no more until `resume_reading`; what was read already is still delivered.

        Pauses add up: each is ended by a `resume_reading` of its own.
        """
        ...

    def resume_reading(self) -> None: ...

    async def wait_closed(self) -> None:
        """Return once the connection is gone; bounded where `close` was called."""
        ...


class SocketListener(Protocol):
    """Who hears from a socket. An exception from here closes this socket with 1011 and harms no other."""

    def opened(self, socket: Socket) -> None: ...

    def text(self, message: bytes) -> None:
        """One whole text message; whether it is UTF-8 is for the listener to find out when it parses."""
        ...

    def binary(self, message: bytes) -> None: ...

    def closed(self, code: int, reason: str) -> None:
        """Called once, last. `code` is the peer's, or 1006 where the connection went without one."""
        ...
