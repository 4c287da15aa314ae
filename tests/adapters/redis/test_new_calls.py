"""Calls that are claimed as they are delivered: which are, and which are left to be claimed by themselves."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import pytest

from adapters.redis.test_topologies import cluster
from support.cutting_proxy import cutting_proxy
from support.servers import RedisServer
from support.waiting import wait_until
from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.consumer import RedisStreamConsumer
from voicebus.adapters.redis.new_calls import MOST, NewCalls
from voicebus.adapters.redis.scripts import CLAIM, CLAIM_NEW, HANDOVER, RELEASE
from voicebus.contracts.streams import Keys
from voicebus.errors import BusError
from voicebus.ports import Delivery

__all__ = ["cluster"]  # the fixture

OURS, THEIRS = "host-1-aaaaaa", "host-2-bbbbbb"
TOOLS = {"add": "1", "look": "2.1"}


def member(bus: RedisConnection, keys: Keys, name: str = OURS) -> RedisStreamConsumer:
    calls = NewCalls(bus, keys, "default", name, lambda: TOOLS)
    return RedisStreamConsumer(
        bus, keys, stream=keys.tools("default"), group="workers", consumer=name, dead_queue="default", calls=calls
    )


def fields(keys: Keys, *, at: int, call_id: str = "c1", entry: dict[str, str] | None = None, **data: Any) -> list[str]:
    call = {"call_id": call_id, "tool": "add", "arguments": "{}", "agent": "a", "reply_to": keys.inbox("g1"), **data}
    named = {
        "v": "1", "id": f"id-{call_id}", "type": "tool.call", "session": "s1", "epoch": "3", "at": str(at),
        "deadline": str(at + 10_000), "data": json.dumps(call), **(entry or {}),
    }  # fmt: skip
    return [text for pair in named.items() for text in pair if pair[1] != ""]


async def read(
    bus: RedisConnection, consumer: RedisStreamConsumer, write: Callable[[], Awaitable[object]], *, count: int = 10
) -> Sequence[Delivery]:
    """What a read brings that waits as `write` is done."""
    await consumer.read(count=count, block_ms=1)  # makes the group; a server learns the script by the first one
    await consumer.read(count=count, block_ms=1)
    reading = asyncio.create_task(consumer.read(count=count, block_ms=5_000), name="read")

    async def waits() -> bool:
        return any("b" in client["flags"] for client in await bus.call("CLIENT LIST"))

    await wait_until(waits, description="the read to wait")
    await write()
    return await reading


async def record(bus: RedisConnection, keys: Keys, call_id: str = "c1") -> dict[str, str]:
    flat = await bus.call("HGETALL", keys.call("default", "s1", call_id))
    return flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))


async def since(delivery: Delivery) -> int | None:
    """Since when the call is claimed, once that is told."""
    return None if delivery.claimed_at is None else await delivery.claimed_at


async def test_a_lone_call_is_claimed_as_it_is_delivered(bus: RedisConnection, keys: Keys, clock: RedisClock) -> None:
    stream, now = keys.tools("default"), clock.at_ms()
    (delivery,) = await read(bus, member(bus, keys), lambda: bus.call("XADD", stream, "*", *fields(keys, at=now)))
    claimed_at = await since(delivery)
    assert claimed_at is not None
    assert abs(claimed_at - clock.at_ms()) < 10_000
    known = await record(bus, keys)
    assert (known["state"], known["worker"], known["attempt"], known["epoch"]) == ("running", OURS, "1", "3")
    assert known["reply_to"] == keys.inbox("g1")
    assert known["history"] == f"{OURS} {claimed_at}\n"
    assert int(known["started_at"]) == claimed_at
    assert await bus.call("TTL", keys.call("default", "s1", "c1")) > 3600
    # To everybody else it is as claimed as any: whoever takes it over is told so.
    claim = (THEIRS, 3, keys.inbox("g1"), "", 0, 60, "")
    assert await bus.script(CLAIM, [keys.call("default", "s1", "c1")], *claim) == ["running", OURS]


@pytest.mark.parametrize(
    "odd",
    [
        {"tool": "unknown"},
        {"version": "2"},
        {"tool": "look", "version": "1"},
        {"attempt": 2},
        {"replayed": True},
        {"reply_to": "a key of somebody"},
        {"call_id": 7},
        {"tool": ["add"]},
        {"arguments": "x" * 20_000},
        {"entry": {"data": "no json"}},
        {"entry": {"data": "[1]"}},
        {"entry": {"data": "[" * 3_000}},
        {"entry": {"data": ""}},
        {"entry": {"v": "2"}},
        {"entry": {"v": ""}},
        {"entry": {"type": "tool.progress"}},
        {"entry": {"session": ""}},
        {"entry": {"epoch": "x"}},
        {"entry": {"deadline": "1"}},
        {"entry": {"deadline": "soon"}},
    ],
    ids=lambda odd: str(odd)[:60],
)
async def test_a_call_about_which_something_is_odd_is_delivered_and_not_claimed(
    bus: RedisConnection, keys: Keys, clock: RedisClock, odd: dict[str, Any]
) -> None:
    odd_one = fields(keys, at=clock.at_ms(), **odd)
    (delivery,) = await read(bus, member(bus, keys), lambda: bus.call("XADD", keys.tools("default"), "*", *odd_one))
    assert await since(delivery) is None
    assert await record(bus, keys) == {}


async def test_a_call_without_a_deadline_and_one_that_names_its_version_are_claimed(
    bus: RedisConnection, keys: Keys, clock: RedisClock
) -> None:
    stream, consumer, at = keys.tools("default"), member(bus, keys), clock.at_ms()
    plain = [
        fields(keys, at=at, call_id="c1", entry={"deadline": ""}),
        fields(keys, at=at, call_id="c2", version="1"),
        fields(keys, at=at, call_id="c3", version=None, context=None, idempotent=True),
        fields(keys, at=at, call_id="c4", tool="look", version="2.1"),
    ]
    for one in plain:
        (delivery,) = await read(bus, consumer, lambda one=one: bus.call("XADD", stream, "*", *one))  # type: ignore[misc]
        assert await since(delivery) is not None, one


async def test_a_call_that_has_a_record_is_left_as_it_is(bus: RedisConnection, keys: Keys, clock: RedisClock) -> None:
    """One that was cancelled before it came, or came before."""
    key, consumer = keys.call("default", "s1", "c1"), member(bus, keys)
    await bus.call("HSET", key, "cancelled", "hangup")
    await bus.call("EXPIRE", key, 60)
    (delivery,) = await read(
        bus, consumer, lambda: bus.call("XADD", keys.tools("default"), "*", *fields(keys, at=clock.at_ms()))
    )
    assert await since(delivery) is None
    assert await record(bus, keys) == {"cancelled": "hangup"}


async def test_a_call_that_waited_is_not_claimed_before_its_session_was_asked_about(
    bus: RedisConnection, keys: Keys, clock: RedisClock
) -> None:
    stream = keys.tools("default")
    await bus.call("XADD", stream, f"{clock.at_ms() - 1_500}-0", *fields(keys, at=clock.at_ms() - 1_500))
    consumer = member(bus, keys)
    await consumer.read(count=1, block_ms=1)
    (delivery,) = await consumer.read(count=1, block_ms=5_000)
    assert await since(delivery) is None
    assert await record(bus, keys) == {}


@pytest.mark.parametrize("count", [MOST, MOST + 1])
async def test_a_few_calls_are_claimed_as_they_come_and_many_are_left_to_be_claimed_together(
    bus: RedisConnection, keys: Keys, clock: RedisClock, count: int
) -> None:
    stream, at = keys.tools("default"), clock.at_ms()
    consumer = member(bus, keys)
    await consumer.read(count=10, block_ms=1)
    await consumer.read(count=10, block_ms=1)
    for number in range(count):
        await bus.call("XADD", stream, "*", *fields(keys, at=at, call_id=f"c{number}"))
    deliveries = await consumer.read(count=10, block_ms=5_000)
    assert [await since(delivery) is not None for delivery in deliveries] == [count == MOST] * count


async def test_a_call_that_comes_twice_at_once_is_claimed_once(
    bus: RedisConnection, keys: Keys, clock: RedisClock
) -> None:
    stream, consumer, at = keys.tools("default"), member(bus, keys), clock.at_ms()
    await consumer.read(count=10, block_ms=1)
    await consumer.read(count=10, block_ms=1)
    for _ in range(2):
        await bus.call("XADD", stream, "*", *fields(keys, at=at))
    first, second = await consumer.read(count=10, block_ms=5_000)
    assert await since(first) is not None
    assert await since(second) is None


async def test_what_others_hold_and_what_this_one_had_before_is_not_touched(
    bus: RedisConnection, keys: Keys, clock: RedisClock
) -> None:
    stream, at = keys.tools("default"), clock.at_ms()
    ours, theirs = member(bus, keys), member(bus, keys, THEIRS)
    await bus.call("XGROUP", "CREATE", stream, "workers", "0", "MKSTREAM")
    for number in range(3):
        await bus.call("XADD", stream, "*", *fields(keys, at=at, call_id=f"c{number}"))
    await theirs.read(count=1, block_ms=0)
    await ours.read(count=1, block_ms=0)  # not the way of a blocking read: it claims nothing
    (third,) = await ours.read(count=1, block_ms=5_000)
    assert await since(third) is not None
    assert await record(bus, keys, "c0") == {}
    assert await record(bus, keys, "c1") == {}


async def test_a_call_that_was_handed_over_meanwhile_is_this_workers_all_the_same(
    bus: RedisConnection, keys: Keys, clock: RedisClock
) -> None:
    stream, at = keys.tools("default"), clock.at_ms()
    ours, theirs = member(bus, keys), member(bus, keys, THEIRS)
    await bus.call("XGROUP", "CREATE", stream, "workers", "0", "MKSTREAM")
    await bus.call("XADD", stream, "*", *fields(keys, at=at, call_id="c1"))
    (handed,) = await theirs.read(count=1, block_ms=0)

    async def hand_over() -> None:
        await bus.script(HANDOVER, [stream], "workers", handed.entry_id, THEIRS, OURS)
        await bus.call("XADD", stream, "*", *fields(keys, at=at, call_id="c2"))

    (delivery,) = await read(bus, ours, hand_over)
    assert (delivery.fields["id"], await since(delivery) is not None) == ("id-c2", True)
    claim = (OURS, 3, keys.inbox("g1"), "", 0, 60, "")
    status, _ = await bus.script(CLAIM, [keys.call("default", "s1", "c1")], *claim)
    assert status == "start"


async def test_a_server_that_forgot_its_scripts_delivers_all_the_same_and_learns_them_anew(
    bus: RedisConnection, keys: Keys, clock: RedisClock
) -> None:
    stream, consumer, at = keys.tools("default"), member(bus, keys), clock.at_ms()
    claimed: list[bool] = []
    for call_id in ("c1", "c2", "c3"):

        async def send(call_id: str = call_id) -> None:
            if call_id == "c2":
                await bus.call("SCRIPT", "FLUSH")
            await bus.call("XADD", stream, "*", *fields(keys, at=at, call_id=call_id))

        (delivery,) = await read(bus, consumer, send)
        claimed.append(await since(delivery) is not None)
        assert claimed[-1] == bool(await record(bus, keys, call_id))
    assert claimed == [True, False, True]


async def test_a_claim_that_is_under_way_as_its_reader_ends_is_given_up(
    redis_url: str, bus: RedisConnection, keys: Keys, clock: RedisClock
) -> None:
    """Nobody waits for ever for a reply on a connection that is closed."""
    async with await connect(redis_url) as own:
        consumer = member(own, keys)
        await consumer.read(count=1, block_ms=1)
        await bus.call("XADD", keys.tools("default"), "*", *fields(keys, at=clock.at_ms()))
        (delivery,) = await consumer.read(count=1, block_ms=5_000)
    assert delivery.claimed_at is not None
    async with asyncio.timeout(20):
        await delivery.claimed_at


async def test_a_claim_that_the_network_swallows_is_given_up_though_nobody_reads_again(
    redis_url: str, bus: RedisConnection, keys: Keys, clock: RedisClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where all slots are taken by what waits for it."""
    monkeypatch.setattr("voicebus.adapters.redis.client.COMMAND_TIMEOUT_S", 1.0)
    async with cutting_proxy(urlsplit(redis_url).port or 6379) as network:
        async with await connect(f"redis://127.0.0.1:{network.port}") as own:
            consumer = member(own, keys)
            await consumer.read(count=1, block_ms=1)
            await bus.call("XADD", keys.tools("default"), "*", *fields(keys, at=clock.at_ms()))
            network.slow_word, network.slow_s = b"EVAL", 3600
            (delivery,) = await consumer.read(count=1, block_ms=5_000)
            async with asyncio.timeout(20):
                assert await since(delivery) is None
            network.slow_word = b""
            await bus.call("XADD", keys.tools("default"), "*", *fields(keys, at=clock.at_ms(), call_id="c2"))
            (delivery,) = await consumer.read(count=1, block_ms=5_000)
            assert delivery.fields["id"] == "id-c2", "on another connection"


async def test_a_server_that_runs_no_such_script_delivers_all_the_same() -> None:
    """As one that wants all keys of a script named."""
    keys = Keys("vb")
    with RedisServer() as server:
        async with await connect(server.url) as plain:
            await plain.call("ACL", "SETUSER", "w", "on", ">w", "~*", "+@all", "-xpending")
            clock = RedisClock(plain)
            await clock.synchronise()
            write = fields(keys, at=clock.at_ms())
            async with await connect(f"redis://w:w@127.0.0.1:{server.port}/0") as bus:
                (delivery,) = await read(
                    plain, member(bus, keys), lambda: plain.call("XADD", keys.tools("default"), "*", *write)
                )
                assert await since(delivery) is None
            assert await record(plain, keys) == {}


async def test_calls_are_claimed_as_they_come_on_a_cluster_too(cluster: str) -> None:
    keys = Keys("vb")

    async def up() -> bool:
        try:
            await (await connect(cluster)).aclose()
        except BusError:
            return False
        return True

    await wait_until(up, description="the cluster to be up")
    async with await connect(cluster) as bus:
        clock = RedisClock(bus)
        await clock.synchronise()
        consumer = member(bus, keys)
        for _ in range(3):  # the first makes the group, the second asks the cluster for its slots
            await consumer.read(count=1, block_ms=1)
        await bus.call("XADD", keys.tools("default"), "*", *fields(keys, at=clock.at_ms()))
        (delivery,) = await consumer.read(count=1, block_ms=5_000)
        assert await since(delivery) is not None
        assert (await record(bus, keys))["worker"] == OURS


async def test_a_claim_is_given_back_by_whose_it_is_and_a_cancel_stays(bus: RedisConnection, keys: Keys) -> None:
    key = keys.call("default", "s1", "c1")
    await bus.script(CLAIM, [key], OURS, 1, keys.inbox("g1"), "", 0, 60, "")
    await bus.call("HSET", key, "cancelled", "hangup")
    assert await bus.script(RELEASE, [key], THEIRS) == 0
    assert (await record(bus, keys))["worker"] == OURS
    assert await bus.script(RELEASE, [key], OURS) == 1
    assert await record(bus, keys) == {"epoch": "1", "reply_to": keys.inbox("g1"), "cancelled": "hangup"}
    await bus.call("HSET", key, "state", "finished", "worker", OURS, "attempt", "1")
    assert await bus.script(RELEASE, [key], OURS) == 0


async def test_nothing_is_claimed_where_nothing_came(bus: RedisConnection, keys: Keys) -> None:
    stream = keys.tools("default")
    await bus.call("XGROUP", "CREATE", stream, "workers", "0", "MKSTREAM")
    arguments = ("workers", OURS, "0-0", MOST, 1_000, 60, keys.calls("default"), keys.inboxes, "\n")
    assert len(await bus.script(CLAIM_NEW, [stream], *arguments)) == 1
