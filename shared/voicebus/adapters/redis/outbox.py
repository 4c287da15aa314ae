"""Entries on their way to a stream: taken over at once, sent in pipelines, sent again until Redis has them.

At least once: after a lost connection what was under way is sent again under the same message id.
"""

import asyncio
from collections import deque
from typing import Final

import msgspec

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.lanes import Lanes
from voicebus.adapters.redis.overdue import bury_overdue
from voicebus.adapters.redis.sending import Outgoing, Refused, Sendable, Sender, Unsealed
from voicebus.contracts.envelope import Entry, Sealed
from voicebus.errors import BusError
from voicebus.ports import Clock
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

# What was sent is kept for so long, for a fail-over that loses it; beyond so many entries, or so many characters, the
# oldest goes first.
KEPT_S: Final = 60.0
KEPT: Final = 10_000
KEPT_CHARS: Final = 32_000_000

# How often a stream that may have no worker is looked after, for as long as something is sent to it.
SWEEP_EVERY_S: Final = 60.0


class _Kept(msgspec.Struct, frozen=True, gc=False):
    """An entry for a stream, as it is kept after it was sent at `sent_at` (monotonic, s)."""

    stream: str
    entry: Sealed
    ttl_s: int | None
    sent_at: float


class Outbox:
    """Sends entries, those of one stream in the order given. Run `run` as a task; `drain` before it is cancelled.

    What waits for one server holds up nothing that is for another. What is dropped: see `Sender`.
    """

    def __init__(self, bus: RedisConnection, clock: Clock, *, service: str) -> None:
        self._bus = bus
        self._clock = clock
        self._service = service
        self._senders = Lanes(lambda: Sender(bus, clock, self._keep, service=service), name="outbox")
        # Streams that may have no worker, with the key of their dead letters; as many as there are queues and shards.
        self._looked_after: dict[str, str] = {}
        self._kept: deque[_Kept] = deque()
        self._kept_chars = 0

    def __len__(self) -> int:
        return sum(map(len, self._senders))

    def send(
        self,
        stream: str,
        entry: Entry | Sealed | Unsealed,
        *,
        ttl_s: int | None = None,
        dead: str | None = None,
        refused: Refused | None = None,
    ) -> None:
        """Queue an entry; `ttl_s` renews the stream's own time to live.

        `dead`, for a stream of the workers' group, is where entries go that no worker takes (`adapters.redis.overdue`).
        `refused` is called where Redis will never take it, with a sentence that names the key.
        """
        if dead is not None:
            self._looked_after[stream] = dead
        sealed = entry.sealed() if isinstance(entry, Entry) else entry
        self._put(Outgoing(stream, sealed, ttl_s, refused=refused))

    def deliver(self, stream: str, entry: Entry | Sealed, *, ttl_s: int | None = None) -> asyncio.Future[None]:
        """Queue an entry; the future is done once it is in its stream or was given up."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(Outgoing(stream, entry.sealed() if isinstance(entry, Entry) else entry, ttl_s, written))
        return written

    def resend(self, since: float) -> None:
        """Send again what was sent since then (monotonic, s): a master that is gone may not have passed it on.

        Whoever reads it knows an entry, or what it is about, that comes twice.
        """
        again = [item for item in self._kept if item.sent_at >= since]
        self._kept.clear()
        self._kept_chars = 0
        for item in again:
            self._put(Outgoing(item.stream, item.entry, item.ttl_s))
        if again:
            log.info("entries are sent again after a fail-over", entries=len(again))

    async def run(self) -> None:
        """Send what is queued, and look after streams that may have no worker, until cancelled."""
        sweeping = asyncio.create_task(self._keep_swept(), name="sweep")
        try:
            await self._senders.run()
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

    async def drain(self, timeout_s: float) -> None:
        """Wait until everything is sent, at most `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*(sender.drained() for sender in self._senders))
        except TimeoutError:
            log.warning("entries not sent before the end", entries=len(self))

    def _put(self, item: Outgoing) -> None:
        self._senders.of(self._bus.lane(item.stream), item.stream).put(item)

    def _keep(self, item: Sendable, now: float) -> None:
        kept = self._kept
        kept.append(_Kept(item.stream, item.entry, item.ttl_s, now))
        self._kept_chars += len(item.entry.data)
        while kept and (len(kept) > KEPT or self._kept_chars > KEPT_CHARS or kept[0].sent_at < now - KEPT_S):
            self._kept_chars -= len(kept.popleft().entry.data)
