"""The timers of one session, on the event loop.

Nearly all of them are watches that are cancelled long before they run out. So one timer of the loop stands for all: it
is set to the earliest, and where that one was cancelled meanwhile it finds nothing due and is set anew.
"""

import asyncio
import math
from collections.abc import Callable

from voicebus.engine.inputs import TimerFired
from voicebus.engine.outputs import CancelTimer, SetTimer
from voicebus.ports import Clock


class Timers:
    """Sets and cancels timers as the engine asks; `fired` is brought those that run out."""

    def __init__(self, clock: Clock, fired: Callable[[TimerFired], None]) -> None:
        self._clock = clock
        self._fired = fired
        self._due: dict[str, float] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf

    def set(self, output: SetTimer) -> None:
        self._due[output.key] = output.at
        if output.at < self._alarm_at:
            self._wake_at(output.at)

    def cancel(self, output: CancelTimer) -> None:
        self._due.pop(output.key, None)

    def clear(self) -> None:
        """Nothing fires any more."""
        self._due.clear()
        self._silence()

    def _wake_at(self, at: float) -> None:
        self._silence()
        delay = max(0.0, at - self._clock.monotonic())
        self._alarm, self._alarm_at = asyncio.get_running_loop().call_later(delay, self._wake), at

    def _silence(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._alarm_at = None, math.inf

    def _wake(self) -> None:
        # A loop's timer may come a rounding too early.
        now = max(self._alarm_at, self._clock.monotonic())
        self._silence()
        for key, at in sorted(self._due.items(), key=lambda timer: timer[1]):
            # Those that fire first may cancel others, or set them anew.
            if at <= now and self._due.get(key) == at:
                del self._due[key]
                self._fired(TimerFired(key))
        earliest = min(self._due.values(), default=math.inf)
        if earliest < self._alarm_at:
            self._wake_at(earliest)
