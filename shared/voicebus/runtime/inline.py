"""Calls that the reading of the model waits for (`inline_tools`, parity 25), and the frames that wait meanwhile.

Bounded: beyond `_MAX_WAITING` frames or `_MAX_WAITING_BYTES` all are read after all, out of their turn, rather than
kept.
"""

import asyncio
from collections import deque
from typing import Final

from voicebus.engine.inputs import AgentResolved, AgentUnresolved, CallVetted, Input, ToolResultArrived

_MAX_WAITING: Final = 10_000
_MAX_WAITING_BYTES: Final = 32 * 1024 * 1024

CALL_GOES_ON: Final = (ToolResultArrived, CallVetted, AgentResolved, AgentUnresolved)
"""What ends the waiting for a call, or is followed by its next step."""


class InlineCalls:
    """`calls` are those that run; while there are any, frames are given to `keep` instead of being read."""

    def __init__(self) -> None:
        self.calls: set[str] = set()
        self.waiting: deque[bytes] = deque()
        self._bytes = 0
        self._caught_up = asyncio.Event()
        self._caught_up.set()

    def begin(self, call_id: str) -> None:
        self.calls.add(call_id)
        self._caught_up.clear()

    def end(self, call_id: str) -> None:
        self.calls.discard(call_id)
        if not self.calls:
            self._caught_up.set()

    def end_all(self) -> None:
        """Nothing is waited for any more."""
        self.calls.clear()
        self._caught_up.set()

    async def caught_up(self) -> None:
        """Return once no call runs."""
        await self._caught_up.wait()

    def keep(self, frame: bytes) -> bool:
        """A frame waits; False where there are too many, so that they are to be read."""
        self.waiting.append(frame)
        self._bytes += len(frame)
        return len(self.waiting) <= _MAX_WAITING and self._bytes <= _MAX_WAITING_BYTES

    def next(self) -> bytes | None:
        """The next frame to read, None while a call runs and where none waits."""
        if not self.waiting or self.calls:
            return None
        frame = self.waiting.popleft()
        self._bytes -= len(frame)
        return frame


def call_of(item: Input) -> str:
    """The call that one of `CALL_GOES_ON` is about."""
    if isinstance(item, ToolResultArrived):
        return item.result.call_id
    return item.call_id if isinstance(item, CallVetted | AgentResolved | AgentUnresolved) else ""
