"""How far a peer has come in taking what it was sent, and in sending, also in the midst of one large message."""

import asyncio
import socket
import struct
from typing import Final, NamedTuple

# Of the kernel's `tcp_info`, where there is one: the bytes that the peer has acknowledged (RFC 4898).
_TCP_INFO: Final[int | None] = getattr(socket, "TCP_INFO", None)
_ACKNOWLEDGED: Final = struct.Struct("=120xQ")
# The same, those that it has sent, and those that have not been sent to it yet.
_PROGRESS: Final = struct.Struct("=120xQQ8xI")


def acknowledged(transport: asyncio.Transport) -> int:
    """Changes as the peer of this connection takes what was sent: to compare with what it was before.

    What the kernel counts of it, in bytes; where it counts nothing, what is not buffered here any more.
    """
    # What is buffered here tells it late, and with TLS hardly: one message may be all of it.
    counted = _counted(transport, _ACKNOWLEDGED)
    return -transport.get_write_buffer_size() if counted is None else counted[0]


class Progress(NamedTuple):
    """Bytes of a connection: those that its peer has taken, and has sent, read here or not; those that wait to leave.

    All 0 where the kernel counts nothing.
    """

    taken: int = 0
    sent: int = 0
    waiting: int = 0

    def is_beyond(self, before: "Progress") -> bool:
        """Whether the peer is known to be there since: something came of it, or it takes what waits.

        What has left may have been taken by something in between, which may be all that there is left.
        """
        return self.sent != before.sent or (self.taken != before.taken and self.waiting > 0)


def progress(transport: asyncio.Transport) -> Progress:
    """How far this connection is."""
    counted = _counted(transport, _PROGRESS)
    if counted is None:
        return Progress()
    taken, sent, unsent = counted
    return Progress(taken, sent, unsent + transport.get_write_buffer_size())


def _counted(transport: asyncio.Transport, what: struct.Struct) -> tuple[int, ...] | None:
    if _TCP_INFO is None:
        return None
    try:
        return what.unpack(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, _TCP_INFO, what.size))
    except (OSError, struct.error):  # no TCP, an older kernel, or closed
        return None
    except (ValueError, AttributeError):  # closed, by uvloop: its socket has no descriptor, or there is none
        return None
