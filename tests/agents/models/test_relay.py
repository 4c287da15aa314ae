"""How a model's listeners are told: in order, and whatever one of them does."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from support.waiting import wait_until
from voicebus.agents.models import relay as relay_module
from voicebus.agents.models.events import RealtimeModelErrorEvent, RealtimeModelEvent, RealtimeModelOtherEvent
from voicebus.agents.models.model import RealtimeModelListener
from voicebus.agents.models.relay import LISTENER_OVERFLOW, ListenerRelay


class Ear(RealtimeModelListener):
    def __init__(self, act: Callable[[RealtimeModelEvent], Awaitable[None]] | None = None) -> None:
        self.heard: list[RealtimeModelEvent] = []
        self._act = act

    async def on_event(self, event: RealtimeModelEvent) -> None:
        self.heard.append(event)
        if self._act is not None:
            await self._act(event)


def other(number: int) -> RealtimeModelOtherEvent:
    return RealtimeModelOtherEvent(number)


async def test_listeners_hear_every_event_in_order_and_once() -> None:
    failures: list[Exception] = []
    relay = ListenerRelay(failures.append)
    first, second = Ear(), Ear()
    relay.add(first)
    relay.add(first)
    relay.add(second)
    events = [other(number) for number in range(5)]
    for event in events:
        relay.publish(event)
    await wait_until(lambda: len(second.heard) == 5, description="the events")
    assert first.heard == second.heard == events
    relay.remove(second)
    relay.remove(second)
    relay.publish(other(5))
    await wait_until(lambda: len(first.heard) == 6, description="one more")
    assert len(second.heard) == 5
    assert failures == []
    await relay.aclose()


async def test_what_nobody_listens_to_is_not_kept() -> None:
    relay, ear = ListenerRelay(lambda _: None), Ear()
    relay.publish(other(1))
    relay.add(ear)
    relay.publish(other(2))
    await wait_until(lambda: ear.heard, description="an event")
    assert ear.heard == [other(2)]


async def test_a_listener_that_raises_harms_nobody_and_is_reported() -> None:
    async def fail(event: RealtimeModelEvent) -> None:
        raise RuntimeError("mine")

    failures: list[Exception] = []
    relay, broken, sound = ListenerRelay(failures.append), Ear(fail), Ear()
    relay.add(broken)
    relay.add(sound)
    relay.publish(other(1))
    relay.publish(other(2))
    await wait_until(lambda: len(sound.heard) == 2, description="both events")
    assert [str(failure) for failure in failures] == ["mine", "mine"]
    assert len(broken.heard) == 2


async def test_what_is_raised_at_an_error_event_does_not_come_round_again() -> None:
    async def fail(event: RealtimeModelEvent) -> None:
        raise RuntimeError("mine")

    def failed(error: Exception) -> None:
        relay.publish(RealtimeModelErrorEvent({"message": str(error)}))

    relay, broken = ListenerRelay(failed), Ear(fail)
    relay.add(broken)
    relay.publish(other(1))
    await wait_until(lambda: len(broken.heard) == 2, description="the event and its error")
    for _ in range(20):
        await asyncio.sleep(0)
    assert broken.heard == [other(1), RealtimeModelErrorEvent({"message": "mine"})]


async def test_a_slow_listener_bounds_what_waits_and_is_told_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "_MAX_WAITING", 3)
    go = asyncio.Event()

    async def wait(event: RealtimeModelEvent) -> None:
        await go.wait()

    relay, slow = ListenerRelay(lambda _: None), Ear(wait)
    relay.add(slow)
    relay.publish(other(0))
    await wait_until(lambda: slow.heard, description="the first event")
    for number in range(1, 9):
        relay.publish(other(number))
    go.set()
    await wait_until(lambda: len(slow.heard) == 5, description="what was kept, and the error")
    assert slow.heard[:4] == [other(number) for number in range(4)]
    error = slow.heard[4]
    assert isinstance(error, RealtimeModelErrorEvent)
    assert error.error["code"] == LISTENER_OVERFLOW
    assert error.error["message"].startswith("5 events")
    relay.publish(other(9))
    await wait_until(lambda: len(slow.heard) == 6, description="later events")


async def test_closing_ends_a_listener_that_hangs_and_drops_what_waits() -> None:
    async def hang(event: RealtimeModelEvent) -> None:
        await asyncio.Event().wait()

    relay, ear = ListenerRelay(lambda _: None), Ear(hang)
    relay.add(ear)
    relay.publish(other(1))
    relay.publish(other(2))
    await wait_until(lambda: ear.heard, description="the first event")
    await relay.aclose()
    await relay.aclose()
    assert ear.heard == [other(1)]


async def test_a_listener_that_does_not_stop_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "_CLOSE_TIMEOUT_S", 0.01)
    go = asyncio.Event()

    async def stubborn(event: RealtimeModelEvent) -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue

    relay, ear = ListenerRelay(lambda _: None), Ear(stubborn)
    relay.add(ear)
    relay.publish(other(1))
    await wait_until(lambda: ear.heard, description="the event")
    await relay.aclose()
    go.set()


async def test_a_listener_may_close_what_it_listens_to() -> None:
    async def close(event: RealtimeModelEvent) -> None:
        await relay.aclose()

    relay, ear = ListenerRelay(lambda _: None), Ear(close)
    relay.add(ear)
    relay.publish(other(1))
    relay.publish(other(2))
    await wait_until(lambda: ear.heard, description="the event")
    for _ in range(20):
        await asyncio.sleep(0)
    assert ear.heard == [other(1)]
