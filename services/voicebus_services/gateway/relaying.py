"""A client of the native face whose session another gateway holds: its frames are passed on, both ways, as they are.

The client's own credential goes along, so that the owner decides as if it had been asked itself. Bounded: what one side
does not take is not read from the other.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit, urlunsplit

from voicebus.adapters.redis.owners import SessionOwners
from voicebus.adapters.sockets import (
    ABNORMAL,
    GOING_AWAY,
    NO_STATUS,
    NORMAL,
    SERVICE_RESTART,
    Socket,
    SocketListener,
)
from voicebus.adapters.sockets.dialling import connect
from voicebus.telemetry.logging import get_logger
from voicebus_services.gateway.faces.base import DRAINED
from voicebus_services.tls import trusting_certificate

log: Final = get_logger(__name__)

RELAYED: Final = "voicebus-relayed-by"
"""A header of requests that gateways make for their clients: they are not passed on again."""

CONNECT_TIMEOUT_S: Final = 5.0

_SCHEMES: Final[Mapping[str, str]] = {"http": "ws", "https": "wss"}
_LOST: Final = "the gateway that holds the session was lost"


@dataclass(frozen=True, slots=True)
class Peer:
    """Another gateway. `address` as in its heartbeat."""

    gateway: str
    address: str


class Peers:
    """Finds the gateways that hold sessions, and opens connections to them.

    `certificate` is the PEM file that gateways serve TLS with, None where they do not: a peer shows the same one.
    """

    def __init__(self, owners: SessionOwners, gateway: str, *, certificate: Path | None = None) -> None:
        self._owners = owners
        self._gateway = gateway
        self._certificate = certificate
        self.relays: set[Relay] = set()

    async def aclose(self) -> None:
        """Send the clients that are passed on elsewhere: this gateway shuts down, their sessions go on."""
        for relay in list(self.relays):
            relay.leave()
        await asyncio.gather(*(relay.wait_closed() for relay in list(self.relays)))

    async def holding(self, session: str) -> Peer | None:
        """The other living gateway that holds a session, or held it until lately; None where there is none.

        Raises:
            BusError: Redis cannot be reached.
        """
        owner = await self._owners.find(session)
        if owner is None or owner.address is None or owner.gateway == self._gateway:
            return None
        return Peer(owner.gateway, owner.address)

    async def open(
        self, peer: Peer, query: Mapping[str, str], credential: str | None, listener: SocketListener
    ) -> Socket:
        """Connect to a peer's native face; `listener` hears from it.

        Raises:
            OSError, TimeoutError, picows.WSError: it cannot be reached, or refused.
            ValueError: its address, the certificate or the credential cannot be used.
        """
        parts = urlsplit(peer.address)
        if parts.scheme not in _SCHEMES:
            raise ValueError(f"{peer.address!r} is no http(s):// address of a gateway")
        url = urlunsplit((_SCHEMES[parts.scheme], parts.netloc, "/v1/sessions/connect", urlencode(query), ""))
        headers = {RELAYED: self._gateway}
        if credential is not None:
            headers["Authorization"] = f"Bearer {credential}"
        tls = None if self._certificate is None else await asyncio.to_thread(trusting_certificate, self._certificate)
        return await connect(url, listener, headers=headers, timeout_s=CONNECT_TIMEOUT_S, tls=tls)


class Relay:
    """One client's connection, passed on to `peer`. Implements `SocketListener` for the client's side."""

    def __init__(self, peers: Peers, peer: Peer, query: Mapping[str, str], credential: str | None) -> None:
        self._peers = peers
        self.peer: Peer = peer
        self._query = query
        self._credential = credential
        self._client: Socket | None = None
        self._upstream: Socket | None = None
        # What was read of the owner before the client was there and reading stopped: a frame or two, or the end.
        self._early: list[tuple[bool, bytes]] = []
        self._ended: tuple[int, str] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def reach(self) -> None:
        """Open the connection to the peer; call it before the client's is.

        Raises:
            OSError, TimeoutError, picows.WSError, ValueError: as `Peers.open`.
        """
        self._upstream = await self._peers.open(self.peer, self._query, self._credential, _Upstream(self))

    def unused(self) -> None:
        """The client's connection does not come about."""
        if self._upstream is not None:
            self._upstream.close(GOING_AWAY)

    def opened(self, socket: Socket) -> None:
        self._client = socket
        self._peers.relays.add(self)
        early, self._early = self._early, []
        for binary, message in early:
            self.back(binary, message)
        if self._ended is not None:
            self.ended(*self._ended)
        elif self._upstream is not None:
            self._upstream.resume_reading()

    def text(self, message: bytes) -> None:
        self._hear(False, message)

    def binary(self, message: bytes) -> None:
        self._hear(True, message)

    def closed(self, code: int, reason: str) -> None:
        self._peers.relays.discard(self)
        if self._upstream is not None:
            # What is a loss here is to be one there: the session waits for its client.
            self._upstream.close(NORMAL if code in (NORMAL, NO_STATUS) else GOING_AWAY, reason)

    def leave(self) -> None:
        """Close the client's connection; it finds its session through another gateway."""
        if self._client is not None:
            self._client.close(SERVICE_RESTART, DRAINED)

    async def wait_closed(self) -> None:
        if self._client is not None:
            await self._client.wait_closed()

    def _hear(self, binary: bool, message: bytes) -> None:
        if self._upstream is not None and self._client is not None:
            self._pass(self._client, self._upstream, binary, message)

    def back(self, binary: bool, message: bytes) -> None:
        """The owner says something."""
        if self._client is None or self._upstream is None:
            self._early.append((binary, message))
        else:
            self._pass(self._upstream, self._client, binary, message)

    def ended(self, code: int, reason: str) -> None:
        """The owner has closed the connection, or was lost."""
        if self._client is None:
            self._ended = code, reason
        elif code == ABNORMAL:
            self._client.close(SERVICE_RESTART, _LOST)
        else:
            self._client.close(NORMAL if code == NO_STATUS else code, reason)

    def _pass(self, source: Socket, sink: Socket, binary: bool, message: bytes) -> None:
        (sink.send_binary if binary else sink.send_text)(message)
        if sink.is_congested:
            source.pause_reading()
            self._start("relay-wait", _resume(source, sink))

    def _start(self, name: str, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Upstream:
    """The owner's side of a relay. Implements `SocketListener`."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def opened(self, socket: Socket) -> None:
        socket.pause_reading()

    def text(self, message: bytes) -> None:
        self._relay.back(False, message)

    def binary(self, message: bytes) -> None:
        self._relay.back(True, message)

    def closed(self, code: int, reason: str) -> None:
        self._relay.ended(code, reason)


async def _resume(source: Socket, sink: Socket) -> None:
    await sink.writable()
    source.resume_reading()
