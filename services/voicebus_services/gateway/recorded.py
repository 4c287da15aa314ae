"""Recorded events for whoever comes late: from the owner's memory, else from Redis, else as a gap that says so.

Native face and SSE read through here, so that both give exactly the same.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

from voicebus.adapters.redis.records import RedisRecords
from voicebus.contracts.journal import EVENTS, EventType, for_callers
from voicebus_services.gateway.faces.base import event_frame
from voicebus_services.gateway.faces.recorded import Recorded, RecordedLog


class Recall:
    """Called with a session, and the seqs between which its events are wanted: above the first, up to the second."""

    def __init__(self, records: RedisRecords) -> None:
        self._records = records

    async def __call__(self, session: str, after: int, upto: int) -> Sequence[Recorded]:
        """Every event of the range in order; for those that are nowhere any more, a `transcript_gap` of them all.

        Raises:
            BusError: Redis cannot be reached.
        """
        found = await self._records.read(session, after, upto)
        events: list[Recorded] = []
        expected, at_ms = after + 1, 0
        for seq in sorted(found):
            at_ms, kind, data = found[seq]
            if seq > expected:
                events.append(_gap(session, expected, seq - 1, at_ms))
            fields = for_callers(EVENTS[kind].model_validate(data))
            events.append(Recorded(seq, kind.value, event_frame(kind.value, seq, session, at_ms, fields)))
            expected = seq + 1
        if expected <= upto:
            events.append(_gap(session, expected, upto, at_ms))
        return events

    async def follow(
        self, session: str, log: RecordedLog, after: int, *, idle_s: float
    ) -> AsyncIterator[Recorded | None]:
        """The events above `after`, then each further one as it is recorded, until the session has ended.

        None comes where nothing was recorded for `idle_s`.

        Raises:
            BusError: Redis is needed, and cannot be reached.
        """
        seen = log.known(after)
        while True:
            while seen < log.forgotten:
                upto = log.forgotten
                for event in await self(session, seen, upto):
                    yield event
                seen = upto
            for event in log.after(seen):
                seen = event.seq
                yield event
            if seen >= log.last:
                if log.closed:
                    return
                try:
                    async with asyncio.timeout(idle_s):
                        await log.more(seen)
                except TimeoutError:
                    yield None


def _gap(session: str, first: int, last: int, at_ms: int) -> Recorded:
    kind = EventType.TRANSCRIPT_GAP.value
    return Recorded(last, kind, event_frame(kind, last, session, at_ms, {"first": first, "last": last}))
