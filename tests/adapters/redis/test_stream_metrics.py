"""A stream and its group as metrics."""

from prometheus_client import REGISTRY

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.stream_metrics import measure
from voicebus.contracts.streams import Keys


async def test_a_group_is_measured_and_a_lag_that_redis_does_not_know_is_absent(
    bus: RedisConnection, keys: Keys
) -> None:
    stream = keys.tools("default")

    def value(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(f"voicebus_stream_{name}", {"stream": stream, **labels})

    await bus.call("XADD", stream, "*", "a", "1")
    await measure(bus, stream, "workers")
    assert value("length") is None, "there is no group yet"
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
