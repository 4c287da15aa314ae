"""The script `conclude`: a call's result is stored, answered and its entry acknowledged in one step."""

from typing import Any

import pytest

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.scripts import CLAIM, CONCLUDE
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import Keys


class Queue:
    """A queue with one entry for each of `calls`, read and claimed by the worker w1."""

    def __init__(self, bus: RedisConnection, keys: Keys) -> None:
        self.bus = bus
        self.keys = keys
        self.stream = keys.tools("default")
        self.entries: dict[str, str] = {}

    def record(self, call: str) -> str:
        return self.keys.call("default", "s1", call)

    async def holds(self, *calls: str, reply_to: str, epoch: int = 3) -> None:
        await self.bus.call("XGROUP", "CREATE", self.stream, "workers", "0", "MKSTREAM")
        for call in calls:
            self.entries[call] = await self.bus.call("XADD", self.stream, "*", "call", call)
            await self.claimed(call, reply_to=reply_to, epoch=epoch)
        await self.bus.call("XREADGROUP", "GROUP", "workers", "w1", "STREAMS", self.stream, ">")

    async def claimed(self, call: str, *, reply_to: str, epoch: int) -> None:
        await self.bus.script(CLAIM, [self.record(call)], "w1", epoch, reply_to, "", 0, 100, "")

    def conclude(self, call: str, *, reply_to: str, result: str = "{}", entry: bool = True, trace: str = "") -> Any:
        """Its reply, to be awaited."""
        return self.bus.script(
            CONCLUDE, [self.record(call), self.stream, reply_to],
            "w1", result, 100, "workers", self.entries[call] if entry else "", reply_to, 3, 600,
            f"id-{call}", "s1", 1234, trace,
        )  # fmt: skip

    async def pending(self) -> int:
        return int((await self.bus.call("XPENDING", self.stream, "workers"))["pending"])


@pytest.fixture
def queue(bus: RedisConnection, keys: Keys) -> Queue:
    return Queue(bus, keys)


async def test_a_result_is_stored_answered_and_acknowledged(bus: RedisConnection, keys: Keys, queue: Queue) -> None:
    inbox = keys.inbox("g1")
    await queue.holds("c1", reply_to=inbox)
    assert await queue.conclude("c1", reply_to=inbox, result='{"output": "5"}', trace="00-ab-cd-01") == [
        "answered", "", "", "",
    ]  # fmt: skip
    ((_, fields),) = await bus.call("XRANGE", inbox, "-", "+")
    assert Entry.parse(fields) == Entry(
        "id-c1", "tool.result", "s1", 3, 1234, {"output": "5"}, traceparent="00-ab-cd-01"
    )
    assert await bus.call("HMGET", queue.record("c1"), "state", "worker", "result") == [
        "finished", "w1", '{"output": "5"}',
    ]  # fmt: skip
    assert await queue.pending() == 0
    assert 0 < await bus.call("TTL", inbox) <= 600
    assert 0 < await bus.call("TTL", queue.record("c1")) <= 100


async def test_a_call_that_was_published_again_meanwhile_is_answered_with_its_owners_epoch(
    bus: RedisConnection, keys: Keys, queue: Queue
) -> None:
    inbox = keys.inbox("g1")
    await queue.holds("c1", reply_to=inbox)
    await queue.claimed("c1", reply_to=inbox, epoch=7)
    await queue.conclude("c1", reply_to=inbox)
    ((_, fields),) = await bus.call("XRANGE", inbox, "-", "+")
    assert Entry.parse(fields).epoch == 7


async def test_where_another_owner_waits_by_now_the_worker_is_told_where_to_answer(
    bus: RedisConnection, keys: Keys, queue: Queue
) -> None:
    await queue.holds("c1", reply_to=keys.inbox("g1"))
    await queue.claimed("c1", reply_to=keys.inbox("g2"), epoch=4)
    assert await queue.conclude("c1", reply_to=keys.inbox("g1")) == ["stored", "", keys.inbox("g2"), "4"]
    assert await bus.call("EXISTS", keys.inbox("g1"), keys.inbox("g2")) == 0
    assert await queue.pending() == 1


async def test_a_second_result_is_neither_stored_nor_sent(bus: RedisConnection, keys: Keys, queue: Queue) -> None:
    inbox = keys.inbox("g1")
    await queue.holds("c1", reply_to=inbox)
    await queue.conclude("c1", reply_to=inbox, result='{"output": "first"}')
    second = await queue.conclude("c1", reply_to=inbox, result='{"output": "second"}')
    assert second == ["duplicate", '{"output": "first"}', inbox, "3"]
    assert await bus.call("XLEN", inbox) == 1


async def test_an_entry_that_is_to_be_buried_stays_pending(keys: Keys, queue: Queue) -> None:
    await queue.holds("c1", reply_to=keys.inbox("g1"))
    await queue.conclude("c1", reply_to=keys.inbox("g1"), entry=False)
    assert await queue.pending() == 1


async def test_an_inbox_that_is_no_stream_keeps_no_other_call_from_its_answer(
    bus: RedisConnection, keys: Keys, queue: Queue
) -> None:
    odd, inbox = keys.inbox("odd"), keys.inbox("g1")
    await bus.call("SET", odd, "x", "EX", "60")
    await queue.holds("c1", "c2", "c3", reply_to=inbox)
    await queue.claimed("c2", reply_to=odd, epoch=3)
    together = [queue.conclude(call, reply_to=odd if call == "c2" else inbox) for call in ("c1", "c2", "c3")]
    assert [(await reply)[0] for reply in together] == ["answered", "stored", "answered"]
    assert [Entry.parse(fields).id for _, fields in await bus.call("XRANGE", inbox, "-", "+")] == ["id-c1", "id-c3"]
    assert await bus.call("HGET", queue.record("c2"), "state") == "finished"
