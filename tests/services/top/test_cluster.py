"""What is read of a cluster, on a real Redis."""

import json
from typing import Any

import pytest

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.clock import RedisClock
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import HEARTBEAT_TTL_S, Keys
from voicebus_services.top.cluster import Cluster, GatewaySeen


@pytest.fixture
async def cluster(bus: RedisConnection, keys: Keys) -> Cluster:
    clock = RedisClock(bus)
    await clock.synchronise()
    return Cluster(bus, keys, clock, tenant="acme", sessions=5)


async def test_nothing_is_a_cluster_of_nothing(cluster: Cluster) -> None:
    seen = await cluster.look()
    assert (seen.gateways, seen.sessions, seen.recent.turns) == ([], [], 0)
    assert [queue.name for queue in seen.queues] == ["guardrails", "events"]


async def test_living_gateways_are_seen_with_what_they_say(bus: RedisConnection, keys: Keys, cluster: Cluster) -> None:
    await bus.call("ZADD", keys.gateways, 1, "a-1-aaaaaa", 1, "b-1-bbbbbb", 1, "c-1-cccccc")
    await bus.call("EXPIRE", keys.gateways, 60)
    for name, fields in (
        ("a-1-aaaaaa", ["sessions", "3", "free", "7"]),
        ("b-1-bbbbbb", ["free", "0", "draining", "1"]),
    ):
        await bus.call("HSET", keys.gateway(name), *fields)
        await bus.call("EXPIRE", keys.gateway(name), HEARTBEAT_TTL_S)
    seen = await cluster.look()
    assert seen.gateways == [GatewaySeen("a-1-aaaaaa", 3, 7, False), GatewaySeen("b-1-bbbbbb", None, 0, True)]


async def test_a_queue_without_workers_shows_what_waits(bus: RedisConnection, keys: Keys, cluster: Cluster) -> None:
    await bus.call("HSET", keys.registry_tools, "ring", json.dumps({"queue": "phones"}), "odd", "no JSON")
    stream = keys.tools("phones")
    await bus.call("XGROUP", "CREATE", stream, "workers", "0", "MKSTREAM")
    for _ in range(3):
        await bus.call("XADD", stream, "*", "a", "1")
    await bus.call("XREADGROUP", "GROUP", "workers", "w-1-aaaaaa", "COUNT", 1, "STREAMS", stream, ">")
    await bus.call("XADD", keys.dead("phones"), "*", "a", "1")
    await bus.call("XTRIM", keys.dead("phones"), "MAXLEN", 100)
    phones = (await cluster.look()).queues[0]
    assert (phones.name, phones.workers, phones.lag, phones.pending, phones.dead) == ("phones", 0, 2, 1, 1)
    await bus.call("SET", keys.worker("w-1-aaaaaa"), "1", "EX", HEARTBEAT_TTL_S)
    assert (await cluster.look()).queues[0].workers == 1
    await bus.call("DEL", stream, keys.registry_tools, keys.dead("phones"))


async def test_what_is_archived_and_trimmed_between_two_looks_is_counted(
    bus: RedisConnection, keys: Keys, cluster: Cluster
) -> None:
    seconds, _ = await bus.call("TIME")
    fields = Entry(id="1", type="turn_ended", session="s", epoch=1, at=int(seconds) * 1000, data={}, seq=1).fields()
    flat = [text for pair in fields.items() for text in pair]
    assert (await cluster.look()).recent.turns == 0
    for shard in (0, 3):
        await bus.call("XADD", keys.events(shard), "*", *flat)
        await cluster.follow(0.05)
        await bus.call("XTRIM", keys.events(shard), "MAXLEN", 0)
    assert (await cluster.look()).recent.turns == 2
    await bus.call("DEL", keys.events(0), keys.events(3))


async def test_events_are_followed_and_what_is_no_event_is_passed_over(
    bus: RedisConnection, keys: Keys, cluster: Cluster
) -> None:
    def turn(at: int, **data: Any) -> dict[str, str]:
        return Entry(id="1", type="turn_ended", session="s", epoch=1, at=at, data=data, seq=1).fields()

    seconds, _ = await bus.call("TIME")
    now = int(seconds) * 1000
    for fields in (
        turn(now, latencies={"first_audio": 5.0}),
        turn(now, latencies=[1]),
        {"v": "1", "type": "turn_ended"},
        {"junk": "1"},
    ):
        flat = [text for pair in fields.items() for text in pair]
        await bus.call("XADD", keys.events(2), "*", *flat)
    assert (await cluster.look()).recent.turns == 1
    await bus.call("XADD", keys.events(2), "*", *[text for pair in turn(now + 1).items() for text in pair])
    assert (await cluster.look()).recent.turns == 2
    await bus.call("DEL", keys.events(2))
