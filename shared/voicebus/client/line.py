"""One connection of a link, and what is known of two that tell the same."""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConcurrencyError, ConnectionClosed

GREETINGS: Final = frozenset({"session_started", "session_resumed"})


class Line:
    """A connection; iterating gives all its frames, also those that `greeted` has read already."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.lost_turns: Sequence[str] | None = None
        """Its gateway has not heard what was said since the last commit, nor these turns, which were detected."""
        self.received: int = 0
        """Bytes of sound that the session has had from its clients so far."""
        self._frames = aiter(socket)
        self._early: deque[str | bytes] = deque()

    async def greeted(self) -> bool:
        """Wait for the gateway's greeting; False where it closes the connection instead."""
        try:
            async for frame in self._frames:
                self._early.append(frame)
                event = None if isinstance(frame, bytes) else json.loads(frame)
                if event is not None and event["type"] in GREETINGS:
                    self.received = int(event.get("audio_received") or 0)
                    if event.get("resend_audio") is True:
                        self.lost_turns = event.get("resend_turns") or ()
                    return True
        except ConnectionClosed:
            pass  # its code tells
        return False

    async def close(self, code: int = 1000) -> None:
        """Close it. What has come is let go: behind it stands the gateway's answer, which is waited for."""
        await asyncio.gather(self.socket.close(code), self._let_go())

    async def _let_go(self) -> None:
        with contextlib.suppress(ConnectionClosed, ConcurrencyError):  # or somebody else reads
            async for _ in self.socket:
                pass

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        while self._early:
            yield self._early.popleft()
        async for frame in self._frames:
            yield frame


class Told:
    """Which events came on the connection that is left, so that they are known when the next one tells them again.

    An event is one by its `seq`, type and time: where an owner died before it had written one, another has its `seq`.
    """

    def __init__(self) -> None:
        self._events: set[tuple[Any, Any, Any]] = set()
        self._counts = False

    def begin(self) -> None:
        """Another connection is asked for, from where this one is now."""
        self._events.clear()
        self._counts = True

    def moved(self) -> None:
        """The other one is read from now on."""
        self._counts = False

    def forget(self) -> None:
        """There is no other one."""
        self._events.clear()
        self._counts = False

    def knows(self, event: Mapping[str, Any]) -> bool:
        """Whether the event came before; on the connection that is left it is noted."""
        if not self._counts and not self._events:
            return False
        key = event.get("seq"), event["type"], event.get("at")
        if self._counts:
            self._events.add(key)
            return False
        return key in self._events
