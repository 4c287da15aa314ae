"""A stream and its group as metrics, and the one gateway that shows them."""

import json

from prometheus_client import REGISTRY

from support.tasks import running
from support.waiting import wait_until
from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.gateways import Gateways
from voicebus.adapters.redis.stream_metrics import StreamReporter, measure
from voicebus.contracts.streams import Keys


async def test_a_group_is_measured_and_a_lag_that_redis_does_not_know_is_absent(
    bus: RedisConnection, keys: Keys
) -> None:
    stream = keys.tools("default")

    def value(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(f"voicebus_stream_{name}", {"stream": stream, **labels})

    await bus.call("XADD", stream, "*", "a", "1")
    await measure(bus, stream, "workers")
    assert (value("length"), value("lag", group="workers")) == (1, None), "there is no group yet"
    await bus.call("XGROUP", "CREATE", stream, "workers", "0")
    for _ in range(3):
        await bus.call("XADD", stream, "*", "a", "1")
    reply = await bus.call("XREADGROUP", "GROUP", "workers", "w1", "COUNT", 1, "STREAMS", stream, ">")
    await measure(bus, stream, "workers")
    found = {name: value(name, group="workers") for name in ("lag", "lag_unknown", "pending", "consumers")}
    assert found == {"lag": 3, "lag_unknown": 0, "pending": 1, "consumers": 1}
    assert value("length") == 4
    oldest = value("oldest_pending_seconds", group="workers")
    assert oldest is not None
    assert oldest >= 0

    entries = await bus.call("XRANGE", stream, "-", "+")
    await bus.call("XDEL", stream, entries[2][0])  # one that nobody was given: Redis cannot count any more
    await bus.call("XACK", stream, "workers", reply[0][1][0][0])
    await measure(bus, stream, "workers")
    assert (value("lag", group="workers"), value("lag_unknown", group="workers")) == (None, 1)
    assert (value("pending", group="workers"), value("oldest_pending_seconds", group="workers")) == (0, 0)


def shown(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"voicebus_{name}", labels)


async def test_all_streams_are_measured_also_those_that_nobody_reads(bus: RedisConnection, keys: Keys) -> None:
    await bus.call("HSET", keys.registry_tools, "ring", json.dumps({"queue": "phones"}), "odd", "no JSON", "evil", "[]")
    for stream in (keys.tools("phones"), keys.tools("mail"), keys.events(1), keys.dead("phones")):
        await bus.call("XADD", stream, "*", "a", "1")
    await bus.call("XGROUP", "CREATE", keys.tools("phones"), "workers", "0")
    reporter = StreamReporter(bus, keys, Gateways(bus, keys, RedisClock(bus), "a-1-abcdef"), {"mail"})
    await reporter.report()
    assert shown("stream_lag", stream=keys.tools("phones"), group="workers") == 1, "its workers are all gone"
    assert shown("stream_length", stream=keys.tools("mail")) == 1
    assert shown("stream_length", stream=keys.events(1)) == 1
    assert (shown("dead_letters", queue="phones"), shown("dead_letters", queue="events")) == (1, 0)

    await bus.call("DEL", keys.tools("phones"), keys.registry_tools)
    await reporter.report()
    assert shown("stream_length", stream=keys.tools("phones")) is None
    assert shown("stream_lag", stream=keys.tools("phones"), group="workers") is None
    assert shown("dead_letters", queue="phones") is None
    reporter.forget()
    assert shown("stream_length", stream=keys.tools("mail")) is None


async def test_what_others_wrote_hides_nothing_but_itself(bus: RedisConnection, keys: Keys) -> None:
    odd = {
        "nested": "[" * 100_000,
        "evil": '{"queue": "no name"}',
        "key": '{"queue": "odd"}',
        "letters": '{"queue": "x"}',
    }
    await bus.call("HSET", keys.registry_tools, *[text for pair in odd.items() for text in pair])
    await bus.call("SET", keys.tools("odd"), "no stream")
    await bus.call("SET", keys.dead("x"), "no stream")
    await bus.call("XADD", keys.tools("mail"), "*", "a", "1")
    reporter = StreamReporter(bus, keys, Gateways(bus, keys, RedisClock(bus), "a-1-abcdef"), {"mail"})
    await reporter.report()
    assert shown("stream_length", stream=keys.tools("mail")) == 1
    assert shown("stream_length", stream=keys.tools("odd")) is None
    assert (shown("dead_letters", queue="mail"), shown("dead_letters", queue="x")) == (0, None)
    reporter.forget()
    await bus.call("DEL", keys.registry_tools, keys.tools("odd"), keys.dead("x"))


async def test_the_first_of_the_living_gateways_reports(bus: RedisConnection, keys: Keys) -> None:
    clock = RedisClock(bus)
    await clock.synchronise()
    first, second = (Gateways(bus, keys, clock, name) for name in ("a-1-aaaaaa", "b-1-bbbbbb"))
    assert not await first.is_first(), "nobody is listed yet"
    await bus.call("ZADD", keys.gateways, 1, "a-1-aaaaaa", 1, "b-1-bbbbbb")
    await bus.call("EXPIRE", keys.gateways, 60)
    await bus.call("SET", keys.gateway("a-1-aaaaaa"), "1", "EX", 5)
    await bus.call("SET", keys.gateway("b-1-bbbbbb"), "1", "EX", 5)
    assert (await first.is_first(), await second.is_first()) == (True, False)
    await bus.call("XADD", keys.tools("mail"), "*", "a", "1")
    async with running(StreamReporter(bus, keys, first, {"mail"}).run()):
        await wait_until(lambda: shown("stream_length", stream=keys.tools("mail")) == 1, description="the stream shown")
    await bus.call("DEL", keys.gateway("a-1-aaaaaa"))
    assert (await first.is_first(), await second.is_first()) == (False, True)
    async with running(StreamReporter(bus, keys, first, {"mail"}).run()):
        await wait_until(lambda: shown("stream_length", stream=keys.tools("mail")) is None, description="nothing shown")
