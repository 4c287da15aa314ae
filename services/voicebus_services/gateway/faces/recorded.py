"""What a session's owner remembers of its recorded events, for those who come later or again.

Bounded: beyond `MAX_EVENTS` events or `MAX_BYTES` the oldest are forgotten; Redis may still have them
(`voicebus_services.gateway.recorded`).
"""

import asyncio
import time
from collections import deque
from typing import Final, NamedTuple

MAX_EVENTS: Final = 5_000
MAX_BYTES: Final = 2 * 1024 * 1024

# Who reads tries to come back for at least as long.
_VOID_S: Final = 60.0


class Recorded(NamedTuple):
    """One recorded event as its callers see it: `frame` is the native face's text frame, without the token."""

    seq: int
    type: str
    frame: bytes


class RecordedLog:
    """The newest recorded events of one session, without a gap up to `last`."""

    def __init__(self, *, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self._events: deque[Recorded] = deque()
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._size = 0
        self._news = asyncio.Event()
        self.last = 0
        self.closed = False
        self._inherited = 0
        self._void_until = float("-inf")

    def inherit(self, seq: int, *, grace_s: float = _VOID_S) -> None:
        """Another gateway has recorded up to `seq`, and may have told more that it did not write: those come again.

        `grace_s` is how long clients try to come back.
        """
        self.last = self._inherited = seq
        self._void_until = time.monotonic() + max(grace_s, _VOID_S)

    def known(self, seq: int) -> int:
        """What somebody who comes now, and has read up to `seq`, has everything up to. For a while that is no more than
        what was inherited, as nobody knows whom the rest was told by. Who has read more than there is of a session that
        has ended has not read of its end.
        """
        most = self._inherited if time.monotonic() < self._void_until else self.last
        if self.closed and seq > self.last:
            most = min(most, self.last - 1)
        return min(seq, most)

    @property
    def newest(self) -> Recorded:
        """The last event; there must be one."""
        return self._events[-1]

    @property
    def forgotten(self) -> int:
        """The events up to this `seq` are not remembered."""
        return self._events[0].seq - 1 if self._events else self.last

    def add(self, event: Recorded) -> None:
        self._events.append(event)
        self._size += len(event.frame)
        self.last = event.seq
        while len(self._events) > self._max_events or (self._size > self._max_bytes and len(self._events) > 1):
            self._size -= len(self._events.popleft().frame)
        self._tell()

    def close(self) -> None:
        """Nothing more will be recorded."""
        self.closed = True
        self._tell()

    def after(self, seq: int) -> list[Recorded]:
        """The remembered events above `seq`; what is forgotten of them is not among them."""
        newest = []
        for event in reversed(self._events):
            if event.seq <= seq:
                break
            newest.append(event)
        return newest[::-1]

    async def more(self, seq: int) -> None:
        """Return once there is an event above `seq`, or there will be none any more."""
        while self.last <= seq and not self.closed:
            await self._news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
