"""The streams of the cluster as metrics: one gateway measures them all, so that a queue shows that nobody reads."""

import asyncio
from collections.abc import Awaitable, Collection, Mapping
from typing import Any, Final

from voicebus.adapters.redis.client import RedisConnection, is_final
from voicebus.adapters.redis.gateways import Gateways
from voicebus.adapters.redis.registry import offered_queues
from voicebus.adapters.redis.stream_state import group_state
from voicebus.contracts.streams import ARCHIVER_GROUP, RESERVED_QUEUES, WORKERS_GROUP, Keys
from voicebus.errors import BusError
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

EVERY_S: Final = 5.0

_OF_GROUPS: Final = (
    metrics.STREAM_LAG, metrics.STREAM_LAG_UNKNOWN, metrics.STREAM_PENDING, metrics.STREAM_OLDEST_PENDING,
    metrics.STREAM_CONSUMERS,
)  # fmt: skip


class StreamReporter:
    """Measures every stream while this gateway is the first of them; what it showed is gone when it is not.

    `queues` are tool queues that are known without the registry. Run `run` as a task.
    """

    def __init__(self, bus: RedisConnection, keys: Keys, gateways: Gateways, queues: Collection[str]) -> None:
        self._bus = bus
        self._keys = keys
        self._gateways = gateways
        self._queues = frozenset(queues)
        self._shown: frozenset[str] = frozenset()
        self._letters: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Measure until cancelled; nothing is shown while Redis is away, as nothing is known then."""
        while True:
            try:
                if await self._gateways.is_first():
                    await self.report()
                else:
                    self.forget()
            except BusError as error:
                log.debug("streams not measured", error=str(error))
                self.forget()
            except Exception:  # a figure less must not end the gateway
                log.exception("streams not measured")
                self.forget()
            await asyncio.sleep(EVERY_S)

    async def report(self) -> None:
        """Measure every stream that there is.

        Raises:
            BusError: Redis cannot be reached.
        """
        queues = self._queues | await offered_queues(self._bus, self._keys)
        streams = [
            *((self._keys.events(shard), ARCHIVER_GROUP) for shard in range(self._keys.event_shards)),
            *((self._keys.guardrails(shard), WORKERS_GROUP) for shard in range(self._keys.guardrail_shards)),
            *((self._keys.tools(queue), WORKERS_GROUP) for queue in sorted(queues)),
        ]
        known = await asyncio.gather(*(self._bus.submit("EXISTS", stream) for stream, _ in streams))
        there = [entry for entry, exists in zip(streams, known, strict=True) if exists]
        measured = await _of_each({stream: measure(self._bus, stream, group) for stream, group in there})
        self._forget_others(set(measured))
        letters = queues | RESERVED_QUEUES
        counts = await _of_each({queue: self._bus.submit("XLEN", self._keys.dead(queue)) for queue in letters})
        for queue, count in counts.items():
            metrics.DEAD_LETTERS.labels(queue=queue).set(int(count))
        for queue in self._letters - counts.keys():
            metrics.DEAD_LETTERS.remove(queue)
        self._letters = frozenset(counts)

    def forget(self) -> None:
        """Show nothing: another gateway does."""
        for gauge in (*_OF_GROUPS, metrics.STREAM_LENGTH, metrics.DEAD_LETTERS):
            gauge.clear()
        self._shown = self._letters = frozenset()

    def _forget_others(self, there: set[str]) -> None:
        """A stream that is gone is no stream without entries."""
        for stream in self._shown - there:
            metrics.STREAM_LENGTH.remove(stream)
            for gauge in _OF_GROUPS:
                for group in (ARCHIVER_GROUP, WORKERS_GROUP):
                    gauge.labels(stream=stream, group=group)
                    gauge.remove(stream, group)
        self._shown = frozenset(there)


async def measure(bus: RedisConnection, stream: str, group: str) -> None:
    """Set the gauges of `stream` and `group`; of a stream without the group there is only its length.

    Raises:
        BusError: Redis cannot be reached, or there is no such stream.
    """
    state, length, time = await asyncio.gather(
        group_state(bus, stream, group), bus.submit("XLEN", stream), bus.submit("TIME")
    )
    metrics.STREAM_LENGTH.labels(stream=stream).set(int(length))
    if state is None:
        return
    labels = {"stream": stream, "group": group}
    metrics.STREAM_PENDING.labels(**labels).set(state.pending)
    metrics.STREAM_CONSUMERS.labels(**labels).set(state.consumers)
    metrics.STREAM_LAG_UNKNOWN.labels(**labels).set(int(state.lag is None))
    if state.lag is None:
        # Absent, as 0 would read as "no backlog".
        metrics.STREAM_LAG.labels(**labels)
        metrics.STREAM_LAG.remove(stream, group)
    else:
        metrics.STREAM_LAG.labels(**labels).set(state.lag)
    seconds, microseconds = time
    metrics.STREAM_OLDEST_PENDING.labels(**labels).set(state.oldest_s(int(seconds) * 1000 + int(microseconds) // 1000))


async def _of_each(wanted: Mapping[str, Awaitable[Any]]) -> dict[str, Any]:
    """What comes of each, by its key; without those that are gone meanwhile, or are no streams.

    Raises:
        BusError: Redis cannot be reached.
    """
    found: dict[str, Any] = {}
    for key, outcome in zip(wanted, await asyncio.gather(*wanted.values(), return_exceptions=True), strict=True):
        if isinstance(outcome, BusError) and (is_final(outcome) or "no such key" in str(outcome.__cause__)):
            log.debug("a stream is not measured", stream=key, error=str(outcome))
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            found[key] = outcome
    return found
