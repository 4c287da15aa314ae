"""What blocks an event loop, seen from a thread beside it: a function that computes or waits there stops all others.

A loop that does not turn cannot say so itself, so the thread looks at it, and at what it is busy with.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import CodeType, FrameType
from typing import Final

from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

BEAT_S: Final = 0.05

BLOCKED_S: Final = 0.25
"""A loop that has not turned for so long is blocked."""

# Where an event loop's own thread is while it waits: asyncio's selectors, or the runner above uvloop's compiled loop.
_LOOPS: Final = ("selectors.py", "asyncio/runners.py", "asyncio/base_events.py", "asyncio/events.py")

Tell = Callable[[str, float], None]


class LoopGuard:
    """Watches the loop that it is started on, from a thread of its own.

    `codes` are the functions that are looked for in what blocks it, with the name to call each by. `blocked(name, s)`
    is told, on the loop, of a block that is over; the name is empty where it was none of them.
    """

    def __init__(self, codes: Mapping[CodeType, str], blocked: Tell, *, after_s: float = BLOCKED_S) -> None:
        self._codes = codes
        self._blocked = blocked
        self._after_s = after_s
        self._beat = time.monotonic()
        self._thread_id = threading.get_ident()
        self._ended = threading.Event()
        self._found: tuple[str, str] | None = None

    async def run(self) -> None:
        """Watch until cancelled."""
        self._thread_id = threading.get_ident()
        self._beat = time.monotonic()
        self._ended.clear()
        thread = threading.Thread(target=self._watch, name="loop-guard", daemon=True)
        thread.start()
        try:
            while True:
                await asyncio.sleep(BEAT_S)
                before, self._beat = self._beat, time.monotonic()
                late = self._beat - before - BEAT_S
                found, self._found = self._found, None
                if found is not None:
                    self._say(*found, late)
        finally:
            self._ended.set()

    def _say(self, name: str, where: str, seconds: float) -> None:
        log.warning(
            "event loop blocked: an async function computes or waits on it; make it a plain function, or await",
            tool=name or None, where=where, seconds=round(seconds, 3),
        )  # fmt: skip
        self._blocked(name, seconds)

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._ended.wait(self._after_s / 4):
            before, looked = looked, time.monotonic()
            if looked - before > self._after_s:  # the whole process was stopped, this thread included
                continue
            if self._found is None and looked - self._beat > self._after_s:
                frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001 - the one way to another thread's stack
                if frame is not None:
                    self._found = self._look(frame)

    def _look(self, frame: FrameType) -> tuple[str, str] | None:
        """Which of the known functions is at work, and in which line; else the line that is. None for the loop itself,
        which only waits for its turn of a busy machine.
        """
        if frame.f_code.co_filename.endswith(_LOOPS):
            return None
        where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        at: FrameType | None = frame
        while at is not None:
            name = self._codes.get(at.f_code)
            if name is not None:
                return name, f"{at.f_code.co_filename}:{at.f_lineno}"
            at = at.f_back
        return "", where
