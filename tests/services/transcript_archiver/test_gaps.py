"""Events that never arrived: brought by the owner, found in what Redis keeps, or marked as lost; never silently."""

import json

import pytest

from services.transcript_archiver.conftest import Bus, StartArchiver
from support.recorded import conversation, ended, said, started
from support.waiting import wait_until
from voicebus.adapters.database.gaps import without
from voicebus.adapters.database.store import TranscriptStore
from voicebus.adapters.database.transcripts import Transcript
from voicebus.contracts.envelope import Entry
from voicebus.telemetry import metrics


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicebus_services.transcript_archiver.gaps.WAIT_S", 0.3)
    monkeypatch.setattr("voicebus_services.transcript_archiver.gaps.EVERY_S", 0.05)


async def read(store: TranscriptStore, session: str) -> Transcript:
    transcript = await store.transcript(session, tenant="local")
    assert transcript is not None
    return transcript


async def settled(bus: Bus, store: TranscriptStore) -> None:
    await bus.wait_idle()

    async def nothing_open() -> bool:
        return not await store.with_gaps()

    await wait_until(nothing_open, description="no gap to be looked into", timeout=20)


async def test_what_nobody_has_any_more_is_marked_as_lost_and_counted_once(
    bus: Bus, store: TranscriptStore, start_archiver: StartArchiver
) -> None:
    before = metrics.TRANSCRIPT_GAPS._value.get()
    await bus.record(started("s1"), said("s1", 4, "user", "Hello", start=10), ended("s1", 6))
    async with start_archiver():
        await settled(bus, store)
        assert metrics.TRANSCRIPT_GAPS._value.get() - before == 3
        await bus.record(said("s1", 7, "user", "Later", start=20))
        await settled(bus, store)
    transcript = await read(store, "s1")
    assert (transcript.gaps, transcript.last_seq, transcript.status) == ([(2, 3), (5, 5)], 7, "ended")
    assert metrics.TRANSCRIPT_GAPS._value.get() - before == 3, "what was given up is not missing again"


async def test_what_the_session_keeps_in_redis_fills_the_gap(
    bus: Bus, store: TranscriptStore, start_archiver: StartArchiver
) -> None:
    whole = conversation("s1")
    for seq, key, field in ((3, bus.keys.session_items("s1"), "item_3"), (4, bus.keys.session_calls("s1"), "call_1")):
        event = whole[seq - 1]
        kept = {"type": event.type, "seq": event.seq, "at": event.at, **event.data}
        await bus.connection.call("HSET", key, field, json.dumps(kept))
        await bus.connection.call("EXPIRE", key, 60)
    await bus.record(*whole[:1], *whole[4:])
    async with start_archiver():
        await settled(bus, store)
    transcript = await read(store, "s1")
    assert transcript.gaps == [(2, 2)]
    assert [item.text or item.output for item in transcript.items] == [
        "What is the weather in Paris?", "sunny", "It is sunny in Paris.", "Thanks, bye.",
    ]  # fmt: skip


async def owned(bus: Bus, session: str, gateway: str) -> None:
    state, heartbeat = bus.keys.session_state(session), bus.keys.gateway(gateway)
    await bus.connection.call("HSET", state, "owner", gateway, "epoch", "3", "status", "active")
    await bus.connection.call("EXPIRE", state, 60)
    await bus.connection.call("HSET", heartbeat, "address", "http://127.0.0.1:1")
    await bus.connection.call("PEXPIRE", heartbeat, 5_000)


async def test_a_session_with_an_odd_state_keeps_no_other(
    bus: Bus, store: TranscriptStore, start_archiver: StartArchiver
) -> None:
    await owned(bus, "a1", "g1")
    await bus.connection.call("HSET", bus.keys.session_state("a1"), "epoch", "odd")
    for session in ("a1", "s1"):
        await bus.record(started(session), ended(session, 3))
    async with start_archiver():
        await bus.wait_idle()

        async def open_gaps() -> bool:
            return await store.with_gaps() == ["a1"]

        await wait_until(open_gaps, description="the gap of the other to be settled", timeout=20)
    assert (await read(store, "s1")).gaps == [(2, 2)]


async def test_a_living_owner_is_asked_and_what_it_sends_again_closes_the_gap(
    bus: Bus, store: TranscriptStore, start_archiver: StartArchiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = metrics.TRANSCRIPT_GAPS._value.get()
    whole = conversation("s1")
    await owned(bus, "s1", "g1")
    await bus.record(*whole[:2], *whole[4:6])
    async with start_archiver():

        async def asked() -> list[Entry]:
            return [
                Entry.parse(fields) for _, fields in await bus.connection.call("XRANGE", bus.keys.inbox("g1"), "-", "+")
            ]

        monkeypatch.setattr("voicebus_services.transcript_archiver.gaps.WAIT_S", 0.0)
        (command,) = await wait_until(asked, description="the owner to be asked")
        monkeypatch.setattr("voicebus_services.transcript_archiver.gaps.WAIT_S", 30.0)
        assert (command.type, command.session, command.epoch) == ("session.command", "s1", 3)
        assert {name: command.data[name] for name in ("command", "from", "to")} == {
            "command": "resend", "from": 3, "to": 4,
        }  # fmt: skip
        await bus.record(*whole[2:4])
        await bus.wait_idle()
        assert (await read(store, "s1")).gaps == []
        monkeypatch.setattr("voicebus_services.transcript_archiver.gaps.WAIT_S", 0.0)
        await settled(bus, store)
    assert metrics.TRANSCRIPT_GAPS._value.get() == before


async def test_an_owner_that_has_it_no_more_is_asked_once_and_the_gap_is_marked(
    bus: Bus, store: TranscriptStore, start_archiver: StartArchiver
) -> None:
    await owned(bus, "s1", "g1")
    await bus.record(started("s1"), said("s1", 4, "user", "Hello", start=10))
    async with start_archiver():
        await settled(bus, store)
        assert await bus.connection.call("XLEN", bus.keys.inbox("g1")) == 1
    assert (await read(store, "s1")).gaps == [(2, 3)]


async def test_a_dead_letter_that_is_replayed_takes_its_place_in_the_transcript(
    bus: Bus, store: TranscriptStore, start_archiver: StartArchiver
) -> None:
    whole = conversation("s1")
    await owned(bus, "s1", "g1")
    poison = whole[2].fields() | {"data": '{"role": "user"}'}
    await bus.record(*whole[:2])
    await bus.add(bus.keys.event_shard("s1"), poison)
    await bus.record(*whole[3:])
    async with start_archiver():
        await settled(bus, store)
        assert (await read(store, "s1")).gaps == [(3, 3)]
        assert len(await bus.dead_letters()) == 1
        assert await bus.connection.call("XLEN", bus.keys.inbox("g1")) == 0, "it would bring the same one"
        await bus.record(whole[2])
        await settled(bus, store)
        transcript = await read(store, "s1")
        assert transcript.gaps == []
        assert [item.text for item in transcript.items if item.role == "user"] == [
            "What is the weather in Paris?", "Thanks, bye.",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("part", "left"),
    [((1, 2), [(3, 9)]), ((8, 12), [(3, 7)]), ((5, 6), [(3, 4), (7, 9)]), ((2, 10), []), ((3, 3), [(4, 9)])],
)
def test_a_range_without_another(part: tuple[int, int], left: list[tuple[int, int]]) -> None:
    assert without((3, 9), part) == left
