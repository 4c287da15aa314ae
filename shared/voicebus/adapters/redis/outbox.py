"""Entries on their way to a stream: taken over at once, sent in pipelines, sent again until Redis has them.

At least once: after a lost connection what was under way is sent again under the same message id.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from voicebus.adapters.redis.client import RedisConnection, is_final
from voicebus.adapters.redis.overdue import bury_overdue
from voicebus.contracts.envelope import Entry
from voicebus.errors import BusError
from voicebus.ports import Clock
from voicebus.runtime.retrying import retry_delay
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger
from voicebus.telemetry.outage import Outage

log: Final = get_logger(__name__)

CAPACITY: Final = 10_000

# What was sent is kept for so long, for a fail-over that loses it; beyond `CAPACITY` entries, or so many characters,
# the oldest goes first.
KEPT_S: Final = 60.0
KEPT_CHARS: Final = 32_000_000
_BATCH: Final = 256
_RENEW_S: Final = 10.0

# How often a stream that may have no worker is looked after, for as long as something is sent to it.
SWEEP_EVERY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Outgoing:
    stream: str
    entry: Entry
    ttl_s: int | None
    written: asyncio.Future[None] | None


class Outbox:
    """Sends entries in the order given. Run `run` as a task; `drain` before it is cancelled.

    Overflow: when `CAPACITY` entries wait, the oldest is dropped and counted; who waits for its answer has a deadline.
    Entries whose own deadline has passed are dropped too, as nobody would act on them, and so are those that Redis
    refuses for good (a `reply_to` that is no stream).
    """

    def __init__(self, bus: RedisConnection, clock: Clock, *, service: str) -> None:
        self._bus = bus
        self._clock = clock
        self._service = service
        self._renewed: dict[str, float] = {}
        # Streams that may have no worker, with the key of their dead letters; as many as there are queues and shards.
        self._looked_after: dict[str, str] = {}
        self._waiting: deque[_Outgoing] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._outage = Outage(log, "entries wait for Redis")
        self._kept: deque[tuple[float, int, _Outgoing]] = deque()
        self._kept_chars = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def send(self, stream: str, entry: Entry, *, ttl_s: int | None = None, dead: str | None = None) -> None:
        """Queue an entry; `ttl_s` renews the stream's own time to live.

        `dead`, for a stream of the workers' group, is where entries go that no worker takes (`adapters.redis.overdue`).
        """
        if dead is not None:
            self._looked_after[stream] = dead
        self._put(_Outgoing(stream, entry, ttl_s, None))

    async def deliver(self, stream: str, entry: Entry, *, ttl_s: int | None = None) -> None:
        """Queue an entry and wait until it is in its stream or was given up."""
        written = asyncio.get_running_loop().create_future()
        self._put(_Outgoing(stream, entry, ttl_s, written))
        await written

    def resend(self, since: float) -> None:
        """Send again what was sent since then (monotonic, s): a master that is gone may not have passed it on.

        Whoever reads it knows an entry, or what it is about, that comes twice.
        """
        again = [item for sent_at, _, item in self._kept if sent_at >= since]
        self._kept.clear()
        self._kept_chars = 0
        for item in again:
            self._put(_Outgoing(item.stream, item.entry, item.ttl_s, None))
        if again:
            log.info("entries are sent again after a fail-over", entries=len(again))

    async def run(self) -> None:
        """Send what is queued, and look after streams that may have no worker, until cancelled."""
        sweeping = asyncio.create_task(self._keep_swept(), name="sweep")
        try:
            await self._keep_sending()
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)

    async def sweep(self) -> None:
        """Bury what is overdue in the streams that were written from here."""
        for stream, dead in list(self._looked_after.items()):
            try:
                await bury_overdue(self._bus, stream, dead, now_ms=self._clock.at_ms(), service=self._service)
            except BusError as error:
                log.info("stream not looked after", stream=stream, error=str(error))

    async def _keep_swept(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                await self.sweep()
            except Exception:  # one odd entry must not end the care of all streams
                log.exception("streams not looked after")

    async def _keep_sending(self) -> None:
        failures = 0
        while True:
            if not self._waiting:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            batch = [item for item in batch if self._still_wanted(item)]
            unsent = await self._send(batch)
            if unsent:
                self._waiting.extendleft(reversed(unsent))
                await asyncio.sleep(retry_delay(failures))
                failures += 1
            else:
                failures = 0

    async def drain(self, timeout_s: float) -> None:
        """Wait until everything is sent, at most `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("entries not sent before the end", entries=len(self._waiting))

    def _put(self, item: _Outgoing) -> None:
        if len(self._waiting) >= CAPACITY:
            self._give_up(self._waiting.popleft(), "outbox full")
        self._waiting.append(item)
        self._idle.clear()
        self._wake.set()

    def _still_wanted(self, item: _Outgoing) -> bool:
        deadline = item.entry.deadline
        if deadline is None or self._clock.at_ms() < deadline:
            return True
        self._give_up(item, "deadline passed")
        return False

    async def _send(self, batch: list[_Outgoing]) -> list[_Outgoing]:
        """Send a batch in one pipeline; returns what must be sent again."""
        calls: list[asyncio.Future[Any]] = []
        sizes: list[int] = []
        for item in batch:
            fields = [text for pair in item.entry.fields().items() for text in pair]
            sizes.append(sum(map(len, fields)))
            calls.append(self._bus.submit("XADD", item.stream, "*", *fields))
        renewals = self._renewals(batch)
        calls += [self._bus.submit("EXPIRE", stream, ttl_s) for stream, ttl_s in renewals.items()]
        replies = await asyncio.gather(*calls, return_exceptions=True)
        now = time.monotonic()
        for stream, reply in zip(renewals, replies[len(batch) :], strict=True):
            if not isinstance(reply, BaseException):
                self._renewed[stream] = now
        unsent: list[_Outgoing] = []
        error: BusError | None = None
        for item, size, failed in zip(batch, sizes, replies[: len(batch)], strict=True):
            if not isinstance(failed, BaseException):
                self._keep(now, item, size)
                if item.written is not None and not item.written.done():
                    item.written.set_result(None)
            elif isinstance(failed, BusError) and is_final(failed):
                self._give_up(item, str(failed))
            elif isinstance(failed, BusError):
                unsent.append(item)
                error = failed
            else:
                raise failed
        if error is None:
            self._outage.over(now)
        elif self._outage.failed(now, entries=len(unsent) + len(self._waiting), error=str(error)):
            metrics.REDIS_DISRUPTIONS.labels(service=self._service).inc()
        return unsent

    def _keep(self, now: float, item: _Outgoing, chars: int) -> None:
        kept = self._kept
        kept.append((now, chars, item))
        self._kept_chars += chars
        while kept and (len(kept) > CAPACITY or self._kept_chars > KEPT_CHARS or kept[0][0] < now - KEPT_S):
            self._kept_chars -= kept.popleft()[1]

    def _renewals(self, batch: list[_Outgoing]) -> dict[str, int]:
        """The streams of this batch whose time to live is to be renewed: each now and then, not with every entry."""
        horizon = time.monotonic() - _RENEW_S
        self._renewed = {stream: at for stream, at in self._renewed.items() if at > horizon}
        return {
            item.stream: item.ttl_s for item in batch if item.ttl_s is not None and item.stream not in self._renewed
        }

    def _give_up(self, item: _Outgoing, why: str) -> None:
        log.warning("entry not sent", why=why, type=item.entry.type, session=item.entry.session, stream=item.stream)
        if item.written is not None and not item.written.done():
            item.written.set_result(None)
