"""How far a peer has come in taking what it was sent, also in the midst of one large message."""

import asyncio
import socket
import struct
from typing import Final

# Of the kernel's `tcp_info`, where there is one: the bytes that the peer has acknowledged (RFC 4898).
_TCP_INFO: Final[int | None] = getattr(socket, "TCP_INFO", None)
_ACKNOWLEDGED: Final = struct.Struct("=120xQ")


def acknowledged(transport: asyncio.Transport) -> int:
    """Changes as the peer of this connection takes what was sent: to compare with what it was before.

    What the kernel counts of it, in bytes; where it counts nothing, what is not buffered here any more.
    """
    # What is buffered here tells it late, and with TLS hardly: one message may be all of it.
    if _TCP_INFO is not None:
        try:
            info = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _ACKNOWLEDGED.size)
            return int(_ACKNOWLEDGED.unpack(info)[0])
        except (OSError, struct.error):  # no TCP, an older kernel, or closed
            pass
        except (ValueError, AttributeError):  # closed, by uvloop: its socket has no descriptor, or there is none
            pass
    return -transport.get_write_buffer_size()
