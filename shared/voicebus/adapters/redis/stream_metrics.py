"""A stream and one of its groups as metrics, measured by whoever reads it: several readers of one say the same."""

import asyncio

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.trimming import pairs
from voicebus.telemetry import metrics


async def measure(bus: RedisConnection, stream: str, group: str) -> None:
    """Set the gauges of `stream` and `group`; nothing where there is no such group yet.

    Raises:
        BusError: Redis cannot be reached, or there is no such stream.
    """
    groups, length, time = await asyncio.gather(
        bus.submit("XINFO", "GROUPS", stream), bus.submit("XLEN", stream), bus.submit("TIME")
    )
    found = next((row for row in map(pairs, groups) if row["name"] == group), None)
    if found is None:
        return
    labels = {"stream": stream, "group": group}
    metrics.STREAM_LENGTH.labels(stream=stream).set(int(length))
    metrics.STREAM_PENDING.labels(**labels).set(int(found["pending"]))
    metrics.STREAM_CONSUMERS.labels(**labels).set(int(found["consumers"]))
    unknown = found.get("lag") is None
    metrics.STREAM_LAG_UNKNOWN.labels(**labels).set(int(unknown))
    if unknown:
        # Absent, as 0 would read as "no backlog".
        metrics.STREAM_LAG.labels(**labels)
        metrics.STREAM_LAG.remove(stream, group)
    else:
        metrics.STREAM_LAG.labels(**labels).set(int(found["lag"]))
    oldest = 0.0
    if found["pending"]:
        rows = await bus.call("XPENDING", stream, group, "-", "+", 1, parse_detail=True)
        if rows:
            seconds, microseconds = time
            now_ms = int(seconds) * 1000 + int(microseconds) // 1000
            oldest = max(0, now_ms - int(rows[0]["message_id"].partition("-")[0])) / 1000
    metrics.STREAM_OLDEST_PENDING.labels(**labels).set(oldest)
