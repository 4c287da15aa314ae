"""Places for work that goes on at once."""

import asyncio

from voicebus.runtime.slots import Slots


async def test_places_are_given_in_the_order_of_asking_and_nobody_overtakes() -> None:
    slots, order = Slots(1), list[int]()
    assert slots.take_now()
    assert not slots.take_now()

    async def work(number: int) -> None:
        await slots.take()
        order.append(number)
        slots.give()

    tasks = [asyncio.create_task(work(number)) for number in range(3)]
    await asyncio.sleep(0)
    slots.give()
    assert not slots.take_now(), "it is the first one's who waits"
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2]
    assert slots.take_now()


async def test_who_is_cancelled_while_waiting_leaves_its_place_to_the_next() -> None:
    slots = Slots(1)
    await slots.take()
    first, second = (asyncio.create_task(slots.take()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    slots.give()
    await asyncio.wait_for(second, 5)
    assert first.cancelled() or first.cancelling()
    slots.give()
    assert slots.take_now()


async def test_who_is_cancelled_just_after_it_was_given_a_place_gives_it_back() -> None:
    slots = Slots(1)
    await slots.take()
    waiting = asyncio.create_task(slots.take())
    await asyncio.sleep(0)
    slots.give()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert slots.take_now()


async def test_places_that_are_taken_away_are_those_that_come_free_next() -> None:
    slots = Slots(2)
    for _ in range(2):
        await slots.take()
    waiting = asyncio.create_task(slots.take())
    await asyncio.sleep(0)
    slots.resize(1)
    slots.give()
    await asyncio.sleep(0)
    assert not waiting.done(), "one is at work, and there is one place"
    slots.resize(2)
    await asyncio.wait_for(waiting, 5)
    slots.give()
    slots.give()
    assert [slots.take_now() for _ in range(3)] == [True, True, False]
