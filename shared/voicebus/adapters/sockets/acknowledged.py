"""How far a peer has come in taking what it was sent, and in sending, also in the midst of one large message."""

import asyncio
import socket
import struct
from typing import Final

# Of the kernel's `tcp_info`, where there is one: the bytes that the peer has acknowledged, and has sent (RFC 4898).
_TCP_INFO: Final[int | None] = getattr(socket, "TCP_INFO", None)
_ACKNOWLEDGED: Final = struct.Struct("=120xQ")
_RECEIVED: Final = struct.Struct("=128xQ")


def acknowledged(transport: asyncio.Transport) -> int:
    """Changes as the peer of this connection takes what was sent: to compare with what it was before.

    What the kernel counts of it, in bytes; where it counts nothing, what is not buffered here any more.
    """
    # What is buffered here tells it late, and with TLS hardly: one message may be all of it.
    counted = _counted(transport, _ACKNOWLEDGED)
    return -transport.get_write_buffer_size() if counted is None else counted


def received(transport: asyncio.Transport) -> int:
    """Changes as the peer of this connection sends, read here or not; 0 where the kernel counts nothing."""
    return _counted(transport, _RECEIVED) or 0


def _counted(transport: asyncio.Transport, what: struct.Struct) -> int | None:
    if _TCP_INFO is None:
        return None
    try:
        info = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, _TCP_INFO, what.size)
        return int(what.unpack(info)[0])
    except (OSError, struct.error):  # no TCP, an older kernel, or closed
        return None
    except (ValueError, AttributeError):  # closed, by uvloop: its socket has no descriptor, or there is none
        return None
