"""A session's timers: one of the loop's for all of them, each brought when it runs out and never after its cancel."""

import asyncio
import time

from voicebus.engine.inputs import TimerFired
from voicebus.engine.outputs import CancelTimer, SetTimer
from voicebus.runtime.timers import Timers


class Clock:
    def monotonic(self) -> float:
        return time.monotonic()

    def at_ms(self) -> int:
        return round(time.time() * 1000)


class Fired:
    """What has run out, in order; `until` returns once `key` has."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.timers = Timers(Clock(), self._hear)
        self._heard = asyncio.Event()

    def _hear(self, item: TimerFired) -> None:
        self.keys.append(item.key)
        self._heard.set()
        if item.key == "cancels":
            self.timers.cancel(CancelTimer("later"))
        elif item.key == "again":
            self.set(after=0.01)

    def soon(self, key: str, delay_s: float) -> SetTimer:
        return SetTimer(key, time.monotonic() + delay_s)

    def set(self, **delays_s: float) -> None:
        for key, delay_s in delays_s.items():
            self.timers.set(self.soon(key, delay_s))

    async def until(self, key: str) -> None:
        async with asyncio.timeout(10):
            while key not in self.keys:
                self._heard.clear()
                await self._heard.wait()


async def test_timers_run_out_in_the_order_of_their_times_however_they_were_set() -> None:
    fired = Fired()
    fired.set(third=0.06, first=0.0, second=0.03)
    await fired.until("third")
    assert fired.keys == ["first", "second", "third"]


async def test_a_timer_never_runs_out_before_its_time_by_more_than_the_loop_counts() -> None:
    fired = Fired()
    began = time.monotonic()
    fired.set(one=0.05)
    await fired.until("one")
    assert time.monotonic() - began >= 0.048


async def test_what_was_cancelled_does_not_fire() -> None:
    fired = Fired()
    fired.set(one=0.01, two=0.03)
    fired.timers.cancel(CancelTimer("one"))
    await fired.until("two")
    assert fired.keys == ["two"]


async def test_a_timer_that_is_set_again_fires_once_and_at_its_new_time() -> None:
    fired = Fired()
    fired.set(one=0.01, two=0.03)
    fired.set(one=0.06)
    await fired.until("one")
    assert fired.keys == ["two", "one"]


async def test_what_fires_may_cancel_and_set_others_that_are_due() -> None:
    fired = Fired()
    fired.set(cancels=0.0, later=0.0, again=0.0)
    await fired.until("after")
    assert fired.keys == ["cancels", "again", "after"]


async def test_nothing_fires_once_all_were_cleared() -> None:
    fired, other = Fired(), Fired()
    fired.set(one=0.0, two=0.01)
    fired.timers.clear()
    other.set(last=0.03)
    await other.until("last")
    assert fired.keys == []
