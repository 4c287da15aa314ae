"""Entries on their way to a stream: what is given up, and what holds nothing else up."""

import asyncio

import pytest
from prometheus_client import REGISTRY

from support.tasks import running
from support.waiting import wait_until
from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.dispatch import new_entry
from voicebus.adapters.redis.outbox import Outbox
from voicebus.adapters.redis.overdue import OVERDUE_MS
from voicebus.adapters.redis.trimming import pairs
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import TOOL_PROGRESS, ToolProgress
from voicebus.ports import SessionRef


async def test_an_entry_that_redis_refuses_for_good_is_given_up_and_holds_nothing_else_up(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    await bus.call("SET", keys.inbox("text"), "no stream", "EX", 60)
    outbox = Outbox(bus, clock, service="tool-worker")
    entry = new_entry(SessionRef("s1", 1), TOOL_PROGRESS, ToolProgress(call_id="c1", text="half"), clock)
    async with running(outbox.run()), asyncio.timeout(10):
        await asyncio.gather(
            outbox.deliver(keys.inbox("text"), entry, ttl_s=60), outbox.deliver(keys.inbox("g1"), entry, ttl_s=60)
        )
    assert len(outbox) == 0
    assert await bus.call("XLEN", keys.inbox("g1")) == 1


async def test_entries_leave_in_order_several_of_a_stream_as_one_also_to_a_server_that_does_not_know_how(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    await bus.call("SCRIPT FLUSH")
    outbox = Outbox(bus, clock, service="tool-worker")
    names = [f"c{n}" for n in range(300)]
    for name in names:
        outbox.send(keys.inbox("g1"), dated(clock, name, None), ttl_s=60)
    outbox.send(keys.inbox("g2"), dated(clock, "alone", None), ttl_s=60)
    async with running(outbox.run()):
        await outbox.drain(10)

        async def renewed() -> bool:
            outbox.send(keys.inbox("g1"), dated(clock, "last", None), ttl_s=60)
            return int(await bus.call("TTL", keys.inbox("g1"))) > 0

        await wait_until(renewed, description="the stream's end")
    assert (await calls(bus, keys.inbox("g1")))[:300] == names
    assert await calls(bus, keys.inbox("g2")) == ["alone"]


def dated(clock: RedisClock, call: str, deadline: int | None) -> Entry:
    return new_entry(SessionRef("s1", 1), TOOL_PROGRESS, ToolProgress(call_id=call, text="x"), clock, deadline=deadline)


async def put(bus: RedisConnection, stream: str, *entries: Entry) -> None:
    for entry in entries:
        await bus.call("XADD", stream, "*", *(text for pair in entry.fields().items() for text in pair))


async def calls(bus: RedisConnection, stream: str) -> list[str]:
    return [Entry.parse(fields).data["call_id"] for _, fields in await bus.call("XRANGE", stream, "-", "+")]


async def sweep(bus: RedisConnection, clock: RedisClock, keys: Keys, stream: str) -> None:
    """As a gateway does that sends one more entry to the stream."""
    outbox = Outbox(bus, clock, service="sweep-test")
    async with running(outbox.run()):
        outbox.send(stream, dated(clock, "new", clock.at_ms() + 60_000), dead=keys.dead("default"))
        await outbox.drain(5)
        await outbox.sweep()


async def test_what_no_worker_took_long_after_its_deadline_goes_to_the_dead_letters(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    stream, long_ago = keys.tools("default"), clock.at_ms() - OVERDUE_MS - 1_000
    await put(bus, stream, *(dated(clock, f"old{n}", long_ago) for n in range(450)))
    await put(bus, stream, dated(clock, "late", clock.at_ms() - 1_000), dated(clock, "undated", None))
    await sweep(bus, clock, keys, stream)
    assert await calls(bus, stream) == ["late", "undated", "new"]
    letters = await bus.call("XRANGE", keys.dead("default"), "-", "+")
    assert [Entry.parse(letter).data["call_id"] for _, letter in letters] == [f"old{n}" for n in range(450)]
    assert {letter["reason"] for _, letter in letters} == {"expired"}
    (group,) = [pairs(row) for row in await bus.call("XINFO", "GROUPS", stream)]
    assert (group["pending"], group["consumers"], group["lag"]) == (0, 0, 3)
    counted = REGISTRY.get_sample_value(
        "voicebus_messages_deadlettered_total", {"service": "sweep-test", "reason": "expired"}
    )
    assert counted is not None
    assert counted >= 450


async def test_what_a_vanished_worker_held_is_buried_and_what_may_still_be_answered_is_not(
    bus: RedisConnection, clock: RedisClock, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicebus.adapters.redis.overdue.OVERDUE_MS", 50)
    stream = keys.tools("default")
    await put(bus, stream, dated(clock, "old", clock.at_ms() - 1_000), dated(clock, "due", clock.at_ms() + 60_000))
    await bus.call("XGROUP", "CREATE", stream, "workers", "0")
    await bus.call("XREADGROUP", "GROUP", "workers", "host-1-aaaaaa", "STREAMS", stream, ">")

    async def rested() -> bool:
        return len(await bus.call("XPENDING", stream, "workers", "IDLE", 50, "-", "+", 9, parse_detail=True)) == 2

    await wait_until(rested, description="both entries to rest")
    await sweep(bus, clock, keys, stream)
    assert await calls(bus, stream) == ["due", "new"]
    assert await bus.call("XLEN", keys.dead("default")) == 1
