"""Connections of a client's side: to models, and to other gateways."""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import picows

from voicebus.adapters.sockets import MAX_MESSAGE, Keepalive, SocketListener
from voicebus.adapters.sockets.picows_socket import PicowsSocket

_KEEPALIVE: Final = Keepalive()

# One address of a name is waited for so long (s) before the next is tried beside it (RFC 8305): one that swallows
# everything, as that of a dead zone does, would otherwise take all the time that there is.
_NEXT_ADDRESS_S: Final = 0.25

# What picows takes for a limit where there is to be none.
_UNLIMITED: Final = 2**62


async def connect(
    url: str,
    listener: SocketListener,
    *,
    headers: Mapping[str, str],
    timeout_s: float,
    tls: ssl.SSLContext | None = None,
    keepalive: Keepalive = _KEEPALIVE,
    max_message: int | None = MAX_MESSAGE,
    proxy: str | None = None,
) -> PicowsSocket:
    """Open a client connection; `listener.opened` has been called when this returns.

    Redirects are not followed: the credentials in `headers` are for this address alone. Give `tls` where several
    connections are opened, since reading the certificate authorities takes tens of milliseconds of the event loop.
    `max_message` is in bytes, None for no limit; `proxy` the address of one to go through.

    Raises:
        OSError: unreachable, or TLS failed; python_socks.ProxyError: the proxy refused.
        TimeoutError: name look-up, connection and handshake took longer than `timeout_s`.
        picows.WSHandshakeError: the server refused the upgrade.
    """
    limit = _UNLIMITED if max_message is None else max_message
    begins_plain = urlsplit(url).scheme != "wss" or proxy is not None
    # aiofastnet's transports are cheaper than asyncio's, and than uvloop's with TLS. Those without begin to read, by
    # the descriptor's number, also where the peer has reset the connection by then: asyncio only complains, uvloop
    # lets nobody in who gets the number next. And uvloop's own know of no next address.
    ways: dict[str, Any] = {}
    if not begins_plain:
        ways["happy_eyeballs_delay"] = _NEXT_ADDRESS_S
    elif type(asyncio.get_running_loop()).__module__.startswith("uvloop"):
        ways["use_aiofastnet"] = False
    socket = PicowsSocket(listener, max_message=limit, keepalive=keepalive)
    try:
        async with asyncio.timeout(timeout_s):
            await picows.ws_connect(
                lambda: socket,
                url,
                ssl_context=tls,
                extra_headers=dict(headers),
                websocket_handshake_timeout=timeout_s,
                max_redirects=0,
                enable_auto_pong=False,
                max_frame_size=limit,
                proxy=proxy,
                **ways,
            )
    except BaseException:  # a cancellation, too
        # picows goes on with a handshake whose waiter was cancelled.
        socket.abandon()
        raise
    if not socket.was_opened:
        # picows takes a connection that ends before the server has answered for one that came about.
        raise ConnectionResetError("the server closed the connection before it was a WebSocket")
    return socket
