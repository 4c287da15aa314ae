"""A message while it comes: its fragments, and what of it counts among the unfinished ones of a process."""

from voicebus.adapters.sockets.unfinished import LARGE, Receiver, Unfinished


class Arriving:
    """What has come of the next message of one connection."""

    __slots__ = ("_fragments", "_unfinished", "behind", "in_fragments", "is_binary", "is_counted")

    def __init__(self, unfinished: Unfinished) -> None:
        self._unfinished = unfinished
        self._fragments = bytearray()
        self.in_fragments: bool = False
        """Whether a message has begun that comes in fragments."""
        self.is_binary: bool = False
        """Of the message that comes in fragments."""
        self.behind: int = 0
        """Bytes behind the last whole frame, as whoever reads for a server's connection counts them."""
        self.is_counted: bool = False
        """Whether what has come counts among what is unfinished in the process."""

    def add(self, fragment: bytes, *, binary: bool) -> int:
        """Take one more fragment; returns how many bytes there are of the message. `binary` is of the first one."""
        if not self.in_fragments:
            self.in_fragments, self.is_binary = True, binary
        self._fragments += fragment
        return len(self._fragments)

    def taken(self) -> bytes:
        """The fragments, as one message; the next one begins."""
        message, self._fragments = bytes(self._fragments), bytearray()
        self.in_fragments = False
        return message

    def count(self, receiver: Receiver) -> None:
        """Count what has come, or do so no more. It may be this very receiver that is given up for it."""
        size = self.behind + len(self._fragments)
        self.is_counted = size >= LARGE
        self._unfinished.hold(receiver, size)

    def forget(self, receiver: Receiver) -> None:
        """Drop what has come of a message of which no more is to come."""
        self._fragments = bytearray()
        self.behind, self.is_counted = 0, False
        self._unfinished.hold(receiver, 0)
