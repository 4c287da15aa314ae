"""One member of a group: delivery, takeover by heartbeat, trimming that never deletes what is undelivered."""

import struct
from typing import Any

import pytest
import redis

from support.servers import RedisServer
from support.waiting import wait_until
from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.adapters.redis.consumer import CLAIM_DEAD_MS, RedisStreamConsumer
from voicebus.adapters.redis.heartbeat import Heartbeat, living, new_incarnation, sends_heartbeats
from voicebus.contracts.streams import Keys
from voicebus.errors import BusError
from voicebus.ports import Delivery, StreamConsumer

ALIVE, DEAD, BASIC = "host-1-aaaaaa", "host-2-bbbbbb", "worker-in-go"


@pytest.fixture
def stream(keys: Keys) -> str:
    return keys.tools("default")


def member(bus: RedisConnection, keys: Keys, stream: str, name: str = ALIVE) -> RedisStreamConsumer:
    consumer = RedisStreamConsumer(bus, keys, stream=stream, group="workers", consumer=name, dead_queue="default")
    _: StreamConsumer = consumer
    return consumer


async def add(bus: RedisConnection, stream: str, *names: str) -> list[str]:
    return [await bus.call("XADD", stream, "*", "name", name) for name in names]


async def names(bus: RedisConnection, stream: str) -> list[str]:
    return [fields["name"] for _, fields in await bus.call("XRANGE", stream, "-", "+")]


def of(deliveries: Any) -> list[str]:
    return [delivery.fields["name"] for delivery in deliveries]


async def rested(bus: RedisConnection, stream: str, consumer: str, milliseconds: int = CLAIM_DEAD_MS) -> None:
    """Wait until the consumer's entries have rested that long."""

    async def idle() -> Any:
        return await bus.call(
            "XPENDING", stream, "workers", "IDLE", milliseconds, "-", "+", 1, consumer, parse_detail=True
        )

    await wait_until(idle, description=f"entries of {consumer} to rest")


async def test_what_was_written_before_the_group_existed_is_delivered(
    bus: RedisConnection, keys: Keys, stream: str
) -> None:
    await add(bus, stream, "first")
    consumer = member(bus, keys, stream)
    assert await consumer.read(count=10, block_ms=0) == []  # creates the group
    assert of(await consumer.read(count=10, block_ms=0)) == ["first"]


@pytest.mark.parametrize("block_ms", [0, 2000])
async def test_a_group_that_vanished_is_made_again(
    bus: RedisConnection, keys: Keys, stream: str, block_ms: int
) -> None:
    consumer = member(bus, keys, stream)
    await consumer.read(count=1, block_ms=0)
    await bus.call("DEL", stream)
    await add(bus, stream, "after the loss")
    await consumer.read(count=1, block_ms=block_ms)
    assert of(await consumer.read(count=1, block_ms=block_ms)) == ["after the loss"]
    for step in (consumer.tidy, consumer.leave, consumer.read_own):
        await bus.call("DEL", stream)
        await step()
    assert await consumer.claim_abandoned(count=5) == []


async def test_entries_of_a_dead_worker_are_taken_over_and_a_living_ones_are_not(
    bus: RedisConnection, keys: Keys, stream: str, redis_url: str
) -> None:
    heartbeat = Heartbeat(redis_url, keys.worker(ALIVE), dict)
    await heartbeat.start()
    try:
        alive, dead, third = (member(bus, keys, stream, name) for name in (ALIVE, DEAD, "host-3-cccccc"))
        await third.read(count=1, block_ms=0)
        await add(bus, stream, "of the dead", "of the living")
        assert of(await dead.read(count=1, block_ms=0)) == ["of the dead"]
        assert of(await alive.read(count=1, block_ms=0)) == ["of the living"]
        await rested(bus, stream, ALIVE)
        (taken,) = await third.claim_abandoned(count=10)
        assert (taken.fields["name"], taken.deliveries, taken.previous, taken.cause) == ("of the dead", 2, DEAD, "dead")
        assert await third.claim_abandoned(count=10) == []
    finally:
        await heartbeat.stop()
    assert of(await third.claim_abandoned(count=10)) == ["of the living"]


async def test_nobody_counts_as_dead_while_it_may_be_redis_that_stood_still(
    bus: RedisConnection, keys: Keys, stream: str
) -> None:
    in_touch: list[str] = []

    async def tells_dead(heartbeat: str) -> bool:
        return heartbeat in in_touch

    other = RedisStreamConsumer(
        bus, keys, stream=stream, group="workers", consumer=ALIVE, dead_queue="default", tells_dead=tells_dead
    )
    silent = member(bus, keys, stream, DEAD)
    await silent.read(count=1, block_ms=0)
    await add(bus, stream, "first")
    await silent.read(count=1, block_ms=0)
    await rested(bus, stream, DEAD)
    assert await other.claim_abandoned(count=10) == []
    in_touch.append(keys.worker(DEAD))
    assert of(await other.claim_abandoned(count=10)) == ["first"]


async def test_a_consumer_without_heartbeats_is_given_longer(
    bus: RedisConnection, keys: Keys, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer, basic = member(bus, keys, stream), member(bus, keys, stream, BASIC)
    await consumer.read(count=1, block_ms=0)
    await add(bus, stream, "slow")
    await basic.read(count=1, block_ms=0)
    await rested(bus, stream, BASIC)
    assert await consumer.claim_abandoned(count=10) == []
    monkeypatch.setattr("voicebus.adapters.redis.consumer.CLAIM_IDLE_MS", 300)
    await rested(bus, stream, BASIC, 300)
    (taken,) = await consumer.claim_abandoned(count=10)
    assert (taken.cause, taken.previous) == ("idle", BASIC)


async def clock_set_back_since_delivery(server: RedisServer, bus: RedisConnection, stream: str, consumer: str) -> None:
    """What is pending for this consumer was delivered an hour later than now, by the server's clock."""
    (row,) = await bus.call("XPENDING", stream, "workers", "-", "+", 10, consumer, parse_detail=True)
    at = 1_234_567_890_123  # found again in what the server keeps
    await bus.call("XCLAIM", stream, "workers", consumer, 0, row["message_id"], "TIME", at, "JUSTID")
    with redis.Redis(port=server.port) as client:
        dump = client.dump(stream)
        later = struct.pack("<q", (client.time()[0] + 3600) * 1000)
        assert dump.count(struct.pack("<q", at)) == 1
        client.execute_command("DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", 1)
        client.restore(stream, 0, dump.replace(struct.pack("<q", at), later), replace=True)


@pytest.mark.parametrize("consumer", [DEAD, BASIC])
async def test_entries_delivered_before_the_servers_clock_was_set_back_rest_from_then_on(
    keys: Keys, stream: str, consumer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicebus.adapters.redis.consumer.CLAIM_IDLE_MS", 300)
    with RedisServer(arguments=("--enable-debug-command", "yes")) as server:
        async with await connect(server.url) as bus:
            alive, other = member(bus, keys, stream), member(bus, keys, stream, consumer)
            await alive.read(count=1, block_ms=0)
            await add(bus, stream, "first")
            await other.read(count=1, block_ms=0)
            await clock_set_back_since_delivery(server, bus, stream, consumer)
            assert await alive.claim_abandoned(count=10) == []
            await rested(bus, stream, consumer, 300)
            (taken,) = await alive.claim_abandoned(count=10)
            assert (taken.fields["name"], taken.deliveries, taken.previous) == ("first", 2, consumer)


async def test_only_what_is_acknowledged_is_trimmed(bus: RedisConnection, keys: Keys, stream: str) -> None:
    consumer = member(bus, keys, stream)
    await consumer.read(count=1, block_ms=0)
    await add(bus, stream, "done", "in hand", "done too", "undelivered")
    done, _, done_too = await consumer.read(count=3, block_ms=0)
    await consumer.acknowledge(done)
    await consumer.acknowledge(done_too)
    await consumer.tidy()
    assert await names(bus, stream) == ["in hand", "done too", "undelivered"]
    for delivery in await consumer.read_own():
        await consumer.acknowledge(delivery)
    await consumer.tidy()
    assert await names(bus, stream) == ["undelivered"]
    groups = await bus.call("XINFO", "GROUPS", stream)
    assert dict(zip(groups[0][::2], groups[0][1::2], strict=True))["lag"] == 1  # still known, for autoscalers


async def test_another_group_that_is_behind_holds_the_trim_back(bus: RedisConnection, keys: Keys, stream: str) -> None:
    consumer = member(bus, keys, stream)
    await consumer.read(count=1, block_ms=0)
    await bus.call("XGROUP", "CREATE", stream, "observer", "0")
    await add(bus, stream, "done")
    for delivery in await consumer.read(count=1, block_ms=0):
        await consumer.acknowledge(delivery)
    await consumer.tidy()
    assert await names(bus, stream) == ["done"]


async def test_dead_consumers_are_removed_once_they_hold_nothing(bus: RedisConnection, keys: Keys, stream: str) -> None:
    consumer, dead = (member(bus, keys, stream, name) for name in (ALIVE, DEAD))
    await consumer.read(count=1, block_ms=0)
    await add(bus, stream, "held")
    (held,) = await dead.read(count=1, block_ms=0)
    for name in (ALIVE, BASIC):  # not every server creates one that got nothing yet
        await bus.call("XGROUP", "CREATECONSUMER", stream, "workers", name)

    async def consumers() -> set[str]:
        return {row[1] for row in await bus.call("XINFO", "CONSUMERS", stream, "workers")}

    await consumer.tidy()
    assert DEAD in await consumers()
    await consumer.acknowledge(held)
    await consumer.tidy()
    assert await consumers() == {ALIVE, BASIC}
    await consumer.leave()
    assert await consumers() == {BASIC}


async def test_a_dead_letter_keeps_the_entry_and_says_why(bus: RedisConnection, keys: Keys, stream: str) -> None:
    consumer = member(bus, keys, stream)
    await consumer.read(count=1, block_ms=0)
    (entry_id,) = await add(bus, stream, "poison")
    (delivery,) = await consumer.read(count=1, block_ms=0)
    await consumer.dead_letter(delivery, reason="malformed", error="no data")
    ((_, letter),) = await bus.call("XRANGE", keys.dead("default"), "-", "+")
    assert letter == {
        "name": "poison", "reason": "malformed", "error": "no data", "deliveries": "1",
        "origin": f"{stream}/{entry_id}",
    }  # fmt: skip
    assert await consumer.read_own() == []


async def test_bytes_that_are_no_text_are_delivered_all_the_same(bus: RedisConnection, keys: Keys, stream: str) -> None:
    consumer = member(bus, keys, stream)
    await consumer.read(count=1, block_ms=0)
    await bus.submit("XADD", stream, "*", "name", b"\xff\xfe")  # type: ignore[arg-type]
    assert of(await consumer.read(count=1, block_ms=0)) == ["\ufffd\ufffd"]


async def test_an_entry_that_was_deleted_while_pending_is_no_delivery(
    bus: RedisConnection, keys: Keys, stream: str
) -> None:
    consumer = member(bus, keys, stream)
    await consumer.read(count=1, block_ms=0)
    (entry_id,) = await add(bus, stream, "gone")
    deliveries: list[Delivery] = list(await consumer.read(count=1, block_ms=0))
    await bus.call("XDEL", stream, entry_id)
    assert of(deliveries) == ["gone"]
    assert await consumer.read_own() == []


async def test_a_heartbeat_beats_while_the_event_loop_is_stuck(
    bus: RedisConnection, keys: Keys, redis_url: str
) -> None:
    import time

    heartbeat = Heartbeat(redis_url, keys.worker(ALIVE), lambda: {"queues": "[]"})
    await heartbeat.start()
    try:
        time.sleep(3.0)  # noqa: ASYNC251 - the point: nothing on this loop can beat now
        assert await living(bus, [keys.worker(ALIVE), keys.worker(DEAD)]) == [True, False]
    finally:
        await heartbeat.stop()
    assert await bus.call("EXISTS", keys.worker(ALIVE)) == 0


async def test_a_heartbeat_outlives_a_description_that_fails(bus: RedisConnection, keys: Keys, redis_url: str) -> None:
    asked = 0

    def describe() -> dict[str, str]:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise ZeroDivisionError
        return {"asked": str(asked)}

    heartbeat = Heartbeat(redis_url, keys.worker(ALIVE), describe)
    await heartbeat.start()
    try:

        async def beats_again() -> bool:
            return bool(await bus.call("HGET", keys.worker(ALIVE), "asked") == "3")

        await wait_until(beats_again, description="the beat after the one that failed")
    finally:
        await heartbeat.stop()


async def test_a_heartbeat_without_redis_fails_at_its_start(keys: Keys) -> None:
    with pytest.raises(BusError, match="cannot be reached"):
        await Heartbeat("redis://127.0.0.1:1", keys.worker(ALIVE), dict).start()


def test_incarnations_promise_heartbeats_and_other_names_do_not() -> None:
    assert sends_heartbeats(new_incarnation())
    assert sends_heartbeats("tools-7d9f8b6c5-abcde-17-0a1b2c")
    for name in ("worker-in-go", "tools-7d9f8b6c5-abcde", "host-17-0A1B2C", "host-17-0a1b2cd"):
        assert not sends_heartbeats(name)
