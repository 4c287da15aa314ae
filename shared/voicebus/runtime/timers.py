"""The timers of one session, on the event loop."""

import asyncio
from collections.abc import Callable

from voicebus.engine.inputs import TimerFired
from voicebus.engine.outputs import CancelTimer, SetTimer
from voicebus.ports import Clock


class Timers:
    """Sets and cancels timers as the engine asks; `fired` is brought those that run out."""

    def __init__(self, clock: Clock, fired: Callable[[TimerFired], None]) -> None:
        self._clock = clock
        self._fired = fired
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def set(self, output: SetTimer) -> None:
        self._stop(output.key)
        delay = max(0.0, output.at - self._clock.monotonic())
        self._timers[output.key] = asyncio.get_running_loop().call_later(delay, self._fire, output.key)

    def cancel(self, output: CancelTimer) -> None:
        self._stop(output.key)

    def clear(self) -> None:
        """Nothing fires any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _stop(self, key: str) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _fire(self, key: str) -> None:
        del self._timers[key]
        self._fired(TimerFired(key))
