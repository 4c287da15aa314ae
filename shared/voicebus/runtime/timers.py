"""The timers of one session, on the event loop."""

import asyncio
from collections.abc import Callable

from voicebus.engine.inputs import TimerFired
from voicebus.engine.outputs import CancelTimer, SetTimer
from voicebus.ports import Clock


class Timers:
    """Sets and cancels timers as the engine asks; `fired` is brought those that run out, in the order of their times.

    Nearly all are cancelled long before their time, so the loop is asked for one timer, the next to run out, and not
    told of those that are cancelled.
    """

    def __init__(self, clock: Clock, fired: Callable[[TimerFired], None]) -> None:
        self._clock = clock
        self._fired = fired
        # When each is due (s); as many as the engine has under way.
        self._due: dict[str, float] = {}
        self._next: asyncio.TimerHandle | None = None
        self._next_at = 0.0

    def set(self, output: SetTimer) -> None:
        self._due[output.key] = output.at
        if self._next is None or output.at < self._next_at:
            self._wake_at(output.at)

    def cancel(self, output: CancelTimer) -> None:
        self._due.pop(output.key, None)

    def clear(self) -> None:
        """Nothing fires any more."""
        self._due.clear()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _wake_at(self, at: float) -> None:
        if self._next is not None:
            self._next.cancel()
        delay = max(0.0, at - self._clock.monotonic())
        self._next = asyncio.get_running_loop().call_later(delay, self._run_out)
        self._next_at = at

    def _run_out(self) -> None:
        self._next = None
        # The loop counts in ms, so it may be a little early.
        now = max(self._clock.monotonic(), self._next_at)
        for key, at in sorted(self._due.items(), key=lambda timer: timer[1]):
            # What fires may cancel the others, and set them anew.
            if at <= now and self._due.get(key) == at:
                del self._due[key]
                self._fired(TimerFired(key))
        if self._due:
            at = min(self._due.values())
            if self._next is None or at < self._next_at:
                self._wake_at(at)
