"""The timers of a session: one timer of the loop for all of them."""

import asyncio
from typing import Any

import pytest

from support.waiting import wait_until
from voicebus.engine.inputs import TimerFired
from voicebus.engine.outputs import CancelTimer, SetTimer
from voicebus.runtime.timers import Timers


class Clock:
    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def at_ms(self) -> int:
        return 0


class Alarm:
    """Timers, and the keys of those that fired."""

    def __init__(self) -> None:
        self.fired: list[str] = []
        self.timers = Timers(Clock(), self.heard)
        self.then: dict[str, Any] = {}

    def heard(self, item: TimerFired) -> None:
        self.fired.append(item.key)
        self.then.pop(item.key, lambda: None)()

    def set(self, key: str, delay: float) -> None:
        self.timers.set(SetTimer(key, asyncio.get_running_loop().time() + delay))

    async def fires(self, *keys: str) -> None:
        await wait_until(lambda: self.fired == list(keys), description=f"timers {keys}")


async def test_timers_fire_in_the_order_of_their_times_however_they_were_set() -> None:
    alarm = Alarm()
    for key, delay in (("third", 0.03), ("first", 0.0), ("never", 3600.0), ("second", 0.015)):
        alarm.set(key, delay)
    await alarm.fires("first", "second", "third")
    alarm.timers.clear()


async def test_a_timer_behind_one_that_was_cancelled_fires_all_the_same() -> None:
    alarm = Alarm()
    alarm.set("cancelled", 0.0)
    alarm.set("later", 0.01)
    alarm.timers.cancel(CancelTimer("cancelled"))
    await alarm.fires("later")


async def test_a_timer_that_fires_may_cancel_one_that_is_due_with_it_or_set_it_anew() -> None:
    alarm = Alarm()
    alarm.set("first", -0.3)
    alarm.set("cancelled", -0.2)
    alarm.set("again", -0.1)

    def change() -> None:
        alarm.timers.cancel(CancelTimer("cancelled"))
        alarm.set("again", 0.01)

    alarm.then["first"] = change
    await alarm.fires("first", "again")


async def test_cleared_timers_never_fire_also_where_one_that_fires_clears_them() -> None:
    alarm = Alarm()
    alarm.set("first", -0.2)
    alarm.set("cleared", -0.1)
    alarm.then["first"] = alarm.timers.clear
    await alarm.fires("first")
    alarm.set("last", 0.0)
    await alarm.fires("first", "last")


async def test_watches_that_are_cancelled_in_time_set_one_timer_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    alarm, loop = Alarm(), asyncio.get_running_loop()
    set_on_the_loop: list[float] = []
    original = loop.call_later

    def call_later(delay: float, *rest: Any, **named: Any) -> asyncio.TimerHandle:
        set_on_the_loop.append(delay)
        return original(delay, *rest, **named)

    monkeypatch.setattr(loop, "call_later", call_later)
    for number in range(100):
        alarm.set("watch", 3600.0 + number)
        alarm.timers.cancel(CancelTimer("watch"))
    assert len(set_on_the_loop) == 1
    alarm.timers.clear()
