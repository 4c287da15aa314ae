"""How a stream and one of its groups stand: what waits, what is in hand, and since when."""

from dataclasses import dataclass

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.trimming import pairs


@dataclass(frozen=True, slots=True)
class GroupState:
    """`lag` is None where Redis does not know it, as after a deletion by hand. `oldest_ms` is when the oldest entry
    that is not acknowledged was added (ms since 1970, the server's clock), None where there is none.
    """

    lag: int | None
    pending: int
    consumers: int
    oldest_ms: int | None

    def oldest_s(self, now_ms: int) -> float:
        """The age of that entry, 0 where there is none."""
        return 0.0 if self.oldest_ms is None else max(0, now_ms - self.oldest_ms) / 1000


async def group_state(bus: RedisConnection, stream: str, group: str) -> GroupState | None:
    """The state of `group`; None where the stream has none of that name.

    Raises:
        BusError: Redis cannot be reached, or there is no such stream.
    """
    rows = await bus.submit("XINFO", "GROUPS", stream)
    found = next((row for row in map(pairs, rows) if row["name"] == group), None)
    if found is None:
        return None
    lag, oldest_ms = found.get("lag"), None
    if int(found["pending"]):
        first = await bus.call("XPENDING", stream, group, "-", "+", 1, parse_detail=True)
        if first:
            oldest_ms = int(first[0]["message_id"].partition("-")[0])
    return GroupState(None if lag is None else int(lag), int(found["pending"]), int(found["consumers"]), oldest_ms)
