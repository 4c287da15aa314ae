"""Events of a session for its consumers: all for each, in order, bounded, until the end."""

import asyncio
import gc
from typing import Any

import pytest

from support.waiting import wait_until
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.events import (
    RealtimeAudio,
    RealtimeError,
    RealtimeEventInfo,
    RealtimeHistoryAdded,
    RealtimeRawModelEvent,
    RealtimeSessionEvent,
)
from voicebus.agents.items import InputText, UserMessageItem
from voicebus.agents.local import broadcast as module
from voicebus.agents.local.broadcast import Broadcast
from voicebus.agents.local.folded import FoldedAudio
from voicebus.agents.models.events import (
    RealtimeModelAudioEvent,
    RealtimeModelOtherEvent,
    RealtimeModelRawServerEvent,
)
from voicebus.engine.outputs import ForwardAudio
from voicebus.errors import ModelLinkError
from voicebus.runtime.frames import AudioDelta

INFO = RealtimeEventInfo(RunContextWrapper(None))


def said(name: str) -> RealtimeHistoryAdded:
    return RealtimeHistoryAdded(UserMessageItem(item_id=name, content=[InputText(text=name)]), INFO)


def raw(name: str) -> RealtimeRawModelEvent:
    return RealtimeRawModelEvent(RealtimeModelOtherEvent(name), INFO)


def audio(name: str) -> RealtimeAudio:
    return RealtimeAudio(RealtimeModelAudioEvent(b"", "r", name, 0), name, 0, INFO)


def name(event: Any) -> str:
    if isinstance(event, RealtimeError):
        return f"dropped {event.error}"
    if isinstance(event, RealtimeRawModelEvent):
        return f"raw {event.data.data!s}"  # type: ignore[union-attr]
    return f"audio {event.item_id}" if isinstance(event, RealtimeAudio) else str(event.item.item_id)


def broadcast(*names: str) -> Broadcast:
    made = Broadcast(dropped=lambda count: RealtimeError(count, INFO))
    for one in names:
        made.put(said(one))
    return made


async def all_of(events: Broadcast) -> list[str]:
    return [name(event) async for event in events]


async def first(events: Broadcast, count: int) -> list[str]:
    got: list[str] = []
    async for event in events:
        got.append(name(event))
        if len(got) == count:
            break
    return got


async def test_a_loop_goes_on_where_the_last_one_stopped() -> None:
    events = broadcast("a", "b", "c")
    assert await first(events, 2) == ["a", "b"]
    events.put(said("d"))
    assert await first(events, 1) == ["c"]
    events.end()
    assert await all_of(events) == ["d"]
    assert await all_of(events) == []


async def test_loops_that_are_started_together_each_see_everything() -> None:
    events = broadcast("a", "b")
    loops = [asyncio.create_task(all_of(events)) for _ in range(3)]
    await asyncio.sleep(0)
    events.put(said("c"))
    events.end()
    assert await asyncio.gather(*loops) == [["a", "b", "c"]] * 3


async def test_a_loop_that_begins_later_sees_what_the_slowest_has_not_read() -> None:
    events = broadcast("a", "b", "c")
    slow, quick = aiter(events), aiter(events)
    for _ in range(3):
        await anext(quick)
    assert name(await anext(slow)) == "a"
    events.put(said("d"))
    events.end()
    assert await all_of(events) == ["b", "c", "d"]


async def test_a_loop_waits_for_the_next_event() -> None:
    events = broadcast()
    waiting = asyncio.create_task(first(events, 1))
    await asyncio.sleep(0.01)
    events.put(said("a"))
    assert await waiting == ["a"]


async def test_a_loop_that_waits_ends_with_the_session() -> None:
    events = broadcast()
    waiting = asyncio.create_task(all_of(events))
    await asyncio.sleep(0.01)
    events.end()
    assert await waiting == []
    events.put(said("late"))
    events.end(ValueError("late"))
    assert await all_of(events) == []


async def test_a_failure_is_raised_after_the_events_that_came_before_it() -> None:
    events = broadcast("a", "b")
    events.end(ModelLinkError("gone"))
    got: list[str] = []
    loop = aiter(events)
    got.append(name(await anext(loop)))
    got.append(name(await anext(loop)))
    with pytest.raises(ModelLinkError, match="gone"):
        await anext(loop)
    assert got == ["a", "b"]
    with pytest.raises(StopAsyncIteration):
        await anext(loop)
    with pytest.raises(ModelLinkError, match="gone"):
        await all_of(events)


async def test_a_loop_that_is_cancelled_loses_nothing() -> None:
    events = broadcast()
    waiting = asyncio.create_task(all_of(events))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gc.collect()
    events.put(said("a"))
    assert await first(events, 1) == ["a"]


async def test_beyond_the_bound_raw_events_go_first_then_audio_then_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EVENTS", 4)
    events = broadcast("a")
    order: list[tuple[RealtimeSessionEvent, list[str]]] = [
        (audio("1"), ["a", "audio 1"]),
        (raw("1"), ["a", "audio 1", "raw 1"]),
        (raw("2"), ["a", "audio 1", "raw 1", "raw 2"]),
        (said("b"), ["dropped 1", "a", "audio 1", "raw 2", "b"]),
        (said("c"), ["dropped 2", "a", "audio 1", "b", "c"]),
        (said("d"), ["dropped 3", "a", "b", "c", "d"]),
        (said("e"), ["dropped 4", "b", "c", "d", "e"]),
    ]
    onlooker = aiter(events)
    for event, kept in order:
        events.put(event)
        looking = asyncio.create_task(first(events, len(kept)))
        assert await looking == kept
    assert [name(await anext(onlooker)) for _ in range(5)] == order[-1][1]


async def test_large_frames_are_bounded_by_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    events = broadcast()
    for number in range(10):
        events.put(audio(str(number)), 30)
    events.end()
    assert await all_of(events) == ["dropped 7", "audio 7", "audio 8", "audio 9"]


async def test_what_nobody_reads_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EVENTS", 3)
    events = broadcast(*(str(number) for number in range(100)))
    assert await first(events, 4) == ["dropped 97", "97", "98", "99"]


async def test_a_loop_that_was_left_takes_nothing_away_from_another() -> None:
    events = broadcast("a", "b", "c")
    other = aiter(events)
    assert await first(events, 1) == ["a"]
    assert name(await anext(other)) == "a"
    del other
    await wait_until(lambda: events._resting is not None, description="both loops to be left")
    assert await first(events, 2) == ["b", "c"]


def folded(name: str) -> FoldedAudio:
    delta = AudioDelta("response.output_audio.delta", "r", name, "AAAA", samples=b"\0\0\0")
    return FoldedAudio(ForwardAudio("r", name, 0, 0), delta, INFO, 7)


async def test_folded_audio_is_read_as_the_raw_events_and_the_audio_event() -> None:
    events = broadcast("a")
    events.put(folded("1"), 10)
    other = aiter(events)
    assert name(await anext(other)) == "a"
    server, model, spoken = [await anext(other) for _ in range(3)]
    assert isinstance(server, RealtimeRawModelEvent)
    assert isinstance(server.data, RealtimeModelRawServerEvent)
    assert server.data.data == {
        "type": "response.output_audio.delta",
        "event_id": None,
        "response_id": "r",
        "item_id": "1",
        "output_index": 0,
        "content_index": 0,
        "delta": "AAAA",
    }
    assert isinstance(model, RealtimeRawModelEvent)
    assert isinstance(spoken, RealtimeAudio)
    assert model.data is spoken.audio
    assert spoken.audio.data == b"\0\0\0"
    assert (server.seq, model.seq, spoken.seq) == (7, 7, 7)


async def test_a_loop_that_is_left_within_folded_audio_goes_on_with_the_rest_of_it() -> None:
    events = broadcast()
    events.put(folded("1"), 10)
    loop = aiter(events)
    assert isinstance(await anext(loop), RealtimeRawModelEvent)
    late = aiter(events)
    assert isinstance(await anext(late), RealtimeRawModelEvent)
    del loop, late
    await wait_until(lambda: events._resting is not None, description="both loops to be left")
    events.put(said("b"))
    events.end()
    assert await all_of(events) == ["audio 1", "b"]


async def test_folded_audio_counts_as_its_events_and_loses_the_raw_ones_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EVENTS", 6)
    events = broadcast()
    for number in range(3):
        events.put(folded(str(number)), 10)
    events.put(said("b"))
    for number in range(3, 7):
        events.put(folded(str(number)), 10)
    events.end()
    assert await all_of(events) == ["dropped 16", "audio 2", "b", "audio 3", "audio 4", "audio 5", "audio 6"]
