"""WebSocket upgrades on uvicorn's port, handed to picows: one public port, two libraries.

Leans on internals of both, so both are pinned and tests/adapters/sockets/test_uvicorn_upgrade.py guards it:
- uvicorn builds `ws(config=, server_state=, app_state=)` for an upgrade, calls `connection_made(transport)`, then
  `data_received(the request's head)`, then makes it the transport's protocol (`uvicorn.Config(ws=...)`);
- picows' `WSProtocol` takes fifteen positional arguments, reads through `get_buffer`/`buffer_updated`, and asks a
  listener factory for each request.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from picows import WSAutoPingStrategy, WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # not in picows' stub

from voicebus.adapters.sockets import SocketListener
from voicebus.adapters.sockets.picows_socket import PicowsSocket, limits

_HANDSHAKE_TIMEOUT_S: Final = 5.0
_READ_BUFFER: Final = 16 * 1024
_CONNECTION: Final = re.compile(rb"\r\nconnection: [^\r\n]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A request for a WebSocket. `headers` by lower-case name, of several equal ones the last; `peer` is an address."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    peer: str | None

    @property
    def subprotocols(self) -> tuple[str, ...]:
        offered = self.headers.get("sec-websocket-protocol", "")
        return tuple(name.strip() for name in offered.split(",") if name.strip())


@dataclass(frozen=True, slots=True)
class Accept:
    """101, and `listener` hears from the socket."""

    listener: SocketListener
    subprotocol: str | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """An HTTP answer instead of an upgrade."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Acceptor = Callable[[Upgrade], Accept | Refuse]


class _UpgradedProtocol(WSProtocol):  # type: ignore[misc]  # no stub, see above
    """picows' server protocol, fed with the bytes of the request that uvicorn has read already."""

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


def upgrade_hook(acceptor: Acceptor) -> Callable[..., asyncio.BaseProtocol]:
    """What to give `uvicorn.Config(ws=...)`. `acceptor` decides on each upgrade, at once."""
    logger = logging.getLogger("picows.server")

    def protocol(*, config: Any, server_state: Any, app_state: Any) -> asyncio.BaseProtocol:
        def decide(request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
            peername = upgraded.transport.underlying_transport.get_extra_info("peername")
            verdict = acceptor(_read(request, peername[0] if isinstance(peername, tuple) else None))
            if isinstance(verdict, Refuse):
                refusal = WSUpgradeResponse.create_error_response(
                    HTTPStatus(verdict.status), verdict.body, {"Connection": "close", **verdict.headers}
                )
                return WSUpgradeResponseWithListener(refusal, None)
            chosen = {"Sec-WebSocket-Protocol": verdict.subprotocol} if verdict.subprotocol else {}
            return WSUpgradeResponseWithListener(
                WSUpgradeResponse.create_101_response(chosen), PicowsSocket(verdict.listener)
            )

        asked = limits()
        upgraded = _UpgradedProtocol(
            None,  # host and port: client side only
            None,  # path: client side only
            False,  # client side
            decide,
            logger,
            True,  # disconnect on an exception of the listener
            _HANDSHAKE_TIMEOUT_S,
            asked["enable_auto_ping"],
            asked["auto_ping_idle_timeout"],
            asked["auto_ping_reply_timeout"],
            WSAutoPingStrategy.PING_WHEN_IDLE,
            asked["enable_auto_pong"],
            asked["max_frame_size"],
            None,  # headers: client side only
            _READ_BUFFER,
        )
        hooked: asyncio.BaseProtocol = upgraded
        return hooked

    return protocol


def _read(request: WSUpgradeRequest, peer: str | None) -> Upgrade:
    target = urlsplit(request.path.decode("ascii", "replace"))
    return Upgrade(
        path=target.path,
        query=dict(parse_qsl(target.query, keep_blank_values=True)),
        headers={name.lower(): value for name, value in request.headers.items()},
        peer=peer,
    )
