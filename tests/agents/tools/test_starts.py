"""Telling that calls have started, by one timer for all of them."""

import asyncio
import time
from functools import partial

from support.waiting import wait_until
from voicebus.agents.tools.starts import TELL_START_S, Starts


async def test_each_call_that_goes_on_is_told_in_the_order_of_their_starts_and_one_that_ended_is_not() -> None:
    starts, told = Starts(), list[int]()
    tells = [lambda number=number: told.append(number) for number in range(4)]
    starts.begun(tells[0])
    starts.begun(tells[1])
    await asyncio.sleep(0)
    starts.begun(tells[2])
    assert starts.ended(tells[1])
    assert not starts.ended(tells[1])
    await wait_until(lambda: len(told) == 2, description="the two that go on")
    starts.begun(tells[3])
    await wait_until(lambda: len(told) == 3, description="one that begins when nothing waits")
    assert told == [0, 2, 3]
    assert not starts.ended(tells[0])


async def test_what_ends_before_the_timer_is_due_leaves_nothing_to_tell() -> None:
    starts, told = Starts(), list[str]()
    first, second = (partial(told.append, name) for name in ("first", "second"))
    starts.begun(first)
    assert starts.ended(first)
    starts.begun(second)
    await wait_until(lambda: told, description="the second")
    assert told == ["second"]


async def test_a_call_that_ends_in_the_turn_after_its_own_is_not_told_however_long_that_took() -> None:
    starts, told = Starts(), list[str]()
    first, second = (partial(told.append, name) for name in ("first", "second"))
    starts.begun(first)
    time.sleep(2 * TELL_START_S)  # noqa: ASYNC251 - a busy loop comes late to the timer
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # the timer has come: the first is told at the end of this turn
    starts.begun(second)
    time.sleep(2 * TELL_START_S)  # noqa: ASYNC251 - what else this turn has to do
    await asyncio.sleep(0)
    assert starts.ended(second)
    assert told == ["first"]
