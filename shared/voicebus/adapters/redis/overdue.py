"""Entries that nobody takes, put to the dead letters long after their deadline.

Workers trim their streams; a stream without a worker would grow for ever, and Redis never evicts. Whoever writes such
a stream therefore looks after it as a member of the group: what is removed was delivered, and is counted and kept as
a dead letter, so that still no undelivered entry is ever deleted.
"""

import asyncio
from typing import Final

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.dead_letters import write_dead_letter
from voicebus.adapters.redis.scripts import OVERDUE, REAP
from voicebus.adapters.redis.trimming import pairs, trim
from voicebus.contracts.streams import WORKERS_GROUP
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

# Long enough for a worker that is being restarted to answer `expired` itself, and for an operator to look.
OVERDUE_MS: Final = 10 * 60_000

# No name of an incarnation, so that workers take over what a sweep that broke off has left pending.
CONSUMER: Final = "overdue"

_BATCH: Final = 200


async def bury_overdue(bus: RedisConnection, stream: str, dead: str, *, now_ms: int, service: str) -> int:
    """Move what is overdue in `stream` to the dead letters at `dead`; returns how many entries.

    Raises:
        BusError: Redis cannot be reached; what was taken is then pending, and is taken again later.
    """
    buried = 0
    while True:
        entries = await bus.script(OVERDUE, [stream], WORKERS_GROUP, CONSUMER, now_ms - OVERDUE_MS, OVERDUE_MS, _BATCH)
        letters = (
            write_dead_letter(
                bus, dead, pairs(flat), stream=stream, entry_id=entry_id, deliveries=1, reason="expired",
                error="no worker took it, and its deadline passed long ago",
            )
            for entry_id, flat in entries
        )  # fmt: skip
        await asyncio.gather(*letters)
        if entries:
            await bus.call("XACK", stream, WORKERS_GROUP, *(entry_id for entry_id, _ in entries))
        buried += len(entries)
        if len(entries) < _BATCH:
            break
    if buried:
        await trim(bus, stream)
        await bus.script(REAP, [stream], WORKERS_GROUP, CONSUMER)
        metrics.MESSAGES_DEADLETTERED.labels(service=service, reason="expired").inc(buried)
        log.warning("no worker took these entries before their deadline", stream=stream, entries=buried)
    return buried
