"""What leaves the event streams: what every registered group has taken, and, counted, what one holds back too long."""

from typing import Any

import pytest

from services.transcript_archiver.conftest import Bus
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.portions import FIRST
from voicebus.contracts.streams import ARCHIVER_GROUP
from voicebus.telemetry import metrics
from voicebus_services.transcript_archiver.shards import EventShards
from voicebus_services.transcript_archiver.trimming import EventTrimmer, Retention

DAY_MS = 24 * 3600 * 1000


async def reading(bus: Bus) -> EventShards:
    shards = EventShards(bus.connection, bus.keys, "me")
    await shards.create_group(0)
    return shards


async def trimming(bus: Bus, *, max_age_ms: int = DAY_MS, max_bytes: int = 0) -> EventTrimmer:
    clock = RedisClock(bus.connection)
    await clock.synchronise()
    return EventTrimmer(bus.connection, bus.keys, clock, Retention(max_age_ms, max_bytes))


async def registered(bus: Bus, *groups: str) -> None:
    for group in groups:
        await bus.connection.call("HSET", bus.keys.config, f"group:{group}", "1")


def lost(group: str) -> float:
    return float(metrics.EVENTS_LOST.labels(group=group)._value.get())


async def test_streams_are_trimmed_behind_the_slowest_registered_group(bus: Bus) -> None:
    shards, stream = await reading(bus), bus.keys.events(0)
    trimmer = await trimming(bus)
    await bus.connection.call("HSET", bus.keys.config, f"group:{ARCHIVER_GROUP}", "1", "group:audit", "1")
    ids = [await bus.add(0, {"n": str(number)}) for number in range(6)]

    async def left() -> list[str]:
        return [entry_id for entry_id, _ in await bus.connection.call("XRANGE", stream, "-", "+")]

    read = await shards.read(0)
    assert [one.id for one in read] == ids
    await shards.acknowledge([one for one in read if one.id != ids[4]])
    assert await trimmer.trim(0) == 0, "the other group has registered and not begun"
    await bus.connection.call("XGROUP", "CREATE", stream, "audit", "0")
    assert await trimmer.trim(0) == 0, "the other group has read nothing"
    await bus.connection.call("XREADGROUP", "GROUP", "audit", "a", "COUNT", 3, "STREAMS", stream, ">")
    assert await trimmer.trim(0) == 0, "the other group has acknowledged nothing"
    await bus.connection.call("XACK", stream, "audit", ids[0], ids[1])
    await trimmer.trim(0)
    assert await left() == ids[2:]
    await bus.connection.call("XREADGROUP", "GROUP", "audit", "a", "NOACK", "STREAMS", stream, ">")
    await bus.connection.call("XACK", stream, "audit", ids[2])
    await trimmer.trim(0)
    assert await left() == ids[4:], "an entry that the archiver has not acknowledged stays"


async def test_without_a_registered_group_nothing_is_trimmed(bus: Bus) -> None:
    shards, trimmer = await reading(bus), await trimming(bus)
    await bus.add(0, {"n": "1"})
    await shards.acknowledge(await shards.read(0))
    assert await trimmer.trim(0) == 0


async def test_what_is_too_old_goes_and_is_counted_as_the_loss_of_whoever_had_not_taken_it(bus: Bus) -> None:
    shards, stream = await reading(bus), bus.keys.events(0)
    await registered(bus, ARCHIVER_GROUP, "audit", "late")
    before = {group: lost(group) for group in (ARCHIVER_GROUP, "audit", "late")}
    for number in range(1, 6):
        await bus.connection.call("XADD", stream, f"{number}-0", "n", str(number))  # of 1970
    await bus.connection.call("XGROUP", "CREATE", stream, "audit", "0")
    await bus.connection.call("XREADGROUP", "GROUP", "audit", "a", "COUNT", 3, "STREAMS", stream, ">")
    await bus.connection.call("XACK", stream, "audit", "1-0", "2-0")
    young = await bus.add(0, {"n": "6"})
    await shards.acknowledge(await shards.read(0))
    trimmer = await trimming(bus)
    assert await trimmer.trim(0) == 5
    assert [entry_id for entry_id, _ in await bus.connection.call("XRANGE", stream, "-", "+")] == [young]
    after = {group: lost(group) - before[group] for group in before}
    assert after == {ARCHIVER_GROUP: 0, "audit": 3, "late": 5}, "one was in the hands of audit, two never read by it"
    assert await trimmer.trim(0) == 0


async def test_what_is_beyond_the_bytes_goes_oldest_first_and_is_counted(bus: Bus) -> None:
    await reading(bus)
    await registered(bus, ARCHIVER_GROUP)
    before, stream = lost(ARCHIVER_GROUP), bus.keys.events(0)
    for number in range(2_000):
        await bus.connection.call("XADD", stream, "*", "n", f"{number:0500}")
    whole = await bus.connection.call("MEMORY USAGE", stream)
    roomy = await trimming(bus, max_bytes=2 * whole * bus.keys.event_shards)
    assert await roomy.trim(0) == 0
    tight = await trimming(bus, max_bytes=whole // 2 * bus.keys.event_shards)
    removed = await tight.trim(0)
    assert 900 <= removed <= 1_100
    assert lost(ARCHIVER_GROUP) - before == removed
    (oldest,) = await bus.connection.call("XRANGE", stream, "-", "+", "COUNT", 1)
    assert int(oldest[1]["n"]) == removed
    assert await bus.connection.call("MEMORY USAGE", stream) < 0.6 * whole


async def test_to_find_nothing_too_old_reads_little_of_what_waits(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    await reading(bus)
    await registered(bus, ARCHIVER_GROUP)
    trimmer, call, read = await trimming(bus), bus.connection.call, 0
    for number in range(10 * FIRST):
        await bus.add(0, {"n": str(number)})

    async def counted(*command: Any, **options: Any) -> Any:
        nonlocal read
        answer = await call(*command, **options)
        read += len(answer) if command[0] == "XRANGE" else 0
        return answer

    monkeypatch.setattr(bus.connection, "call", counted)
    assert await trimmer.trim(0) == 0
    assert 0 < read <= FIRST
