"""WebSocket upgrades on uvicorn's port, handed to picows: one public port, two libraries.

Leans on internals of both, so both are pinned and tests/adapters/sockets/test_uvicorn_upgrade.py guards it:
- uvicorn builds `ws(config=, server_state=, app_state=)` for an upgrade, calls `connection_made(transport)`, then
  `data_received(the request's head)`, then makes it the transport's protocol (`uvicorn.Config(ws=...)`);
- what uvicorn passes is the head that it wrote itself, so it needs no parser here;
- picows' `WSProtocol` takes fifteen positional arguments, reads through `get_buffer`/`buffer_updated`, and asks a
  listener factory for each request.
"""

import asyncio
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

from picows import WSAutoPingStrategy, WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # not in picows' stub

from voicebus.adapters.sockets import CLOSE_TIMEOUT_S, MAX_BUFFERED, MAX_MESSAGE, PING_INTERVAL_S, SocketListener
from voicebus.adapters.sockets.picows_socket import PicowsSocket
from voicebus.adapters.sockets.unfinished import LARGE, give_back
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

_HANDSHAKE_TIMEOUT_S: Final = 5.0
# How long decisions under way may still take where no more are made.
_LAST_DECISIONS_S: Final = 5.0
_READ_BUFFER: Final = 16 * 1024
# What is read of a large message at once (bytes).
_AT_ONCE: Final = 32 * 1024
_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_CONNECTION: Final = re.compile(rb"\r\nconnection: [^\r\n]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A request for a WebSocket. `headers` by lower-case name, equal ones joined by commas; `peer` is an address.

    `came_at` is when it came (s, of the event loop's clock): what is decided later may come about earlier.
    """

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    peer: str | None
    came_at: float

    @property
    def subprotocols(self) -> tuple[str, ...]:
        offered = self.headers.get("sec-websocket-protocol", "")
        return tuple(name.strip() for name in offered.split(",") if name.strip())


@dataclass(frozen=True, slots=True)
class Accept:
    """101, and `listener` hears from the socket, of messages up to `max_message` bytes. `max_buffered` bytes may wait
    for the peer.

    `unused` is called instead where the connection does not come about.
    """

    listener: SocketListener
    subprotocol: str | None = None
    max_message: int = MAX_MESSAGE
    max_buffered: int = MAX_BUFFERED
    unused: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """An HTTP answer instead of an upgrade."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Verdict = Accept | Refuse

_VERSION: Final = "sec-websocket-version"
_OLD: Final = Refuse(426, b"only version 13 of WebSocket is spoken here\n", {_VERSION: "13", "Upgrade": "websocket"})
_STOPS: Final = Refuse(503, b"this server stops; try again\n", {"Retry-After": "1"})
_FAILED: Final = Refuse(500, b"the upgrade failed; the service's log has the cause\n")
Acceptor = Callable[[Upgrade], Verdict | Awaitable[Verdict]]


class _Nobody(asyncio.BufferedProtocol):
    """Takes the place of a protocol whose connection is over."""

    def get_buffer(self, sizehint: int) -> bytearray:
        return bytearray(1)

    def buffer_updated(self, nbytes: int) -> None:
        """Nothing comes."""


# What `super()` would look up with each frame.
_take_in: Final = WSProtocol.buffer_updated


class _UpgradedProtocol(WSProtocol):  # type: ignore[misc]  # no stub, see above
    """picows' server protocol, fed with the bytes of the request that uvicorn has read already.

    picows reads a message into a buffer that grows with it and is never made smaller. So what has come of one is
    counted for the `socket`, and once it is whole the buffer's memory goes back to the system.
    """

    __slots__ = ("__weakref__", "socket")

    def __init__(self, *options: Any) -> None:
        super().__init__(*options)
        self.socket: PicowsSocket | None = None

    def buffer_updated(self, nbytes: int) -> None:
        socket = self.socket
        if socket is None:
            super().buffer_updated(nbytes)
            return
        arriving = socket.arriving
        arriving.behind += nbytes
        # Before the frames in it are taken out, as a large message may come in one piece once the buffer has grown.
        is_large = arriving.behind >= LARGE
        _take_in(self, nbytes)
        if is_large or arriving.is_counted:
            socket.count()
            if type(self) is _UpgradedProtocol:
                # Looked at here alone: the loop asks for a buffer with each frame.
                self.__class__ = _Grown
                self.transport.underlying_transport.set_protocol(self)
            if not arriving.is_counted:
                give_back(super().get_buffer(-1))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.transport.is_secure:
            # The loops' TLS keeps methods of its protocol for ever: a ring, with the buffer, for the collector to find.
            self.transport.underlying_transport.set_protocol(_Nobody())

    def data_received(self, data: bytes) -> None:
        # uvicorn looked for "upgrade" among the tokens; picows wants the header to be nothing else, as browsers
        # that send `keep-alive, Upgrade` do not have it.
        view = memoryview(_CONNECTION.sub(b"\r\nconnection: Upgrade", data, count=1))
        while view:
            buffer = self.get_buffer(len(view))
            size = min(len(buffer), len(view))
            buffer[:size] = view[:size]
            self.buffer_updated(size)
            view = view[size:]


class _Grown(_UpgradedProtocol):
    """One whose buffer has grown with a large message. uvloop would fill all of it up to 32 times before it looks at
    another connection.
    """

    __slots__ = ()

    def get_buffer(self, sizehint: int) -> memoryview:
        room: memoryview = super().get_buffer(sizehint)
        return room[:_AT_ONCE]


class UpgradeHook:
    """What to give `uvicorn.Config(ws=...)`. `acceptor` decides on each upgrade, at once or after waiting.

    Nothing is read from a connection while its upgrade is being decided, and no other connection waits with it. How
    long a decision may take is the acceptor's to bound.
    """

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self._deciding: set[asyncio.Task[None]] = set()

    def __call__(self, *, config: Any, server_state: Any, app_state: Any) -> asyncio.BaseProtocol:
        return _Undecided(self._acceptor, self._deciding)

    async def aclose(self, patience_s: float = _LAST_DECISIONS_S) -> None:
        """Decide no more: who comes now is refused with 503, and so is who is not decided on within `patience_s`."""
        self._acceptor = _stops
        if not self._deciding:
            return
        _, left = await asyncio.wait(self._deciding, timeout=patience_s)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def upgrade_hook(acceptor: Acceptor) -> UpgradeHook:
    """A hook for `uvicorn.Config(ws=...)` that asks `acceptor`."""
    return UpgradeHook(acceptor)


def _stops(_: Upgrade) -> Verdict:
    return _STOPS


class _Undecided(asyncio.Protocol):
    """A connection whose upgrade is being decided; then picows takes it over."""

    def __init__(self, acceptor: Acceptor, deciding: set[asyncio.Task[None]]) -> None:
        self._acceptor = acceptor
        self._deciding = deciding
        self._transport: Any = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        # Called once, with the whole head, and before uvicorn makes this the transport's protocol: so the decision
        # takes effect in a later turn of the loop, even one that is made at once.
        self._transport.pause_reading()
        self._task = asyncio.create_task(self._decide(data), name="upgrade")
        self._deciding.add(self._task)
        self._task.add_done_callback(self._deciding.discard)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _decide(self, head: bytes) -> None:
        if len(head) > _READ_BUFFER:
            self._transport.write(_TOO_LARGE)
            self._transport.close()
            self._cut_later()
            return
        try:
            self._hand_over(await self._verdict(head), head)
        except asyncio.CancelledError:
            self._hand_over(_STOPS, head)
            raise
        except Exception:  # the boundary between one upgrade and the others
            log.exception("an upgrade failed, closing its connection")
            self._transport.abort()

    async def _verdict(self, head: bytes) -> Verdict:
        """What is decided; that it failed, where the acceptor did."""
        try:
            peername = self._transport.get_extra_info("peername")
            upgrade = _read(head, peername[0] if isinstance(peername, tuple) else None)
            verdict = self._acceptor(upgrade) if upgrade.headers.get(_VERSION) == "13" else _OLD
            return await verdict if inspect.isawaitable(verdict) else verdict
        except Exception:  # of the acceptor, which is a service's own: its other connections go on
            log.exception("an upgrade could not be decided")
            return _FAILED

    def _hand_over(self, verdict: Verdict, head: bytes) -> None:
        """Have picows answer the request, and everything after it."""
        accepted = verdict if isinstance(verdict, Accept) else None
        socket = None
        if accepted:
            socket = PicowsSocket(
                accepted.listener, max_message=accepted.max_message, max_buffered=accepted.max_buffered
            )
        try:
            if self._transport.is_closing():
                return
            upgraded = _picows(lambda _: _response(verdict, socket), accepted.max_message if accepted else MAX_MESSAGE)
            upgraded.connection_made(self._transport)
            # In a later turn of the loop, and not where the listener pauses it as the socket opens.
            self._transport.resume_reading()
            upgraded.data_received(head)
            upgraded.socket = socket
            self._transport.set_protocol(upgraded)
            if accepted is None:
                self._cut_later()
        finally:
            if accepted and accepted.unused and socket is not None and not socket.was_opened:
                accepted.unused()

    def _cut_later(self) -> None:
        """Leave a refused peer no longer than its answer takes: with TLS it may never end its side of it."""
        asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._transport.abort)


def _response(verdict: Verdict, socket: PicowsSocket | None) -> WSUpgradeResponseWithListener:
    if isinstance(verdict, Refuse):
        refusal = WSUpgradeResponse.create_error_response(
            HTTPStatus(verdict.status), verdict.body, {"Connection": "close", **verdict.headers}
        )
        return WSUpgradeResponseWithListener(refusal, None)
    chosen = {"Sec-WebSocket-Protocol": verdict.subprotocol} if verdict.subprotocol else {}
    return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(chosen), socket)


def _picows(decide: Callable[[WSUpgradeRequest], WSUpgradeResponseWithListener], max_message: int) -> _UpgradedProtocol:
    return _UpgradedProtocol(
        None,  # host and port: client side only
        None,  # path: client side only
        False,  # client side
        decide,
        logging.getLogger("picows.server"),
        True,  # disconnect on an exception of the listener
        _HANDSHAKE_TIMEOUT_S,
        True,  # it pings a silent peer by itself
        PING_INTERVAL_S,  # after so long
        PING_INTERVAL_S,  # and waits so long for the answer
        WSAutoPingStrategy.PING_WHEN_IDLE,
        False,  # pongs are given by `PicowsSocket`
        max_message,
        None,  # headers: client side only
        _READ_BUFFER,
    )


def _read(head: bytes, peer: str | None) -> Upgrade:
    request, *lines = head.decode("latin-1").split("\r\n")
    path, _, query = request.split(" ")[1].partition("?")
    headers: dict[str, str] = {}
    for line in lines:
        name, separator, value = line.partition(":")
        if separator:
            name, value = name.strip().lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Upgrade(
        path=path,
        query=dict(parse_qsl(query, keep_blank_values=True)),
        headers=headers,
        peer=peer,
        came_at=asyncio.get_running_loop().time(),
    )
