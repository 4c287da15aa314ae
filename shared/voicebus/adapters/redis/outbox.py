"""Entries on their way to a stream: taken over at once, sent in pipelines, sent again until Redis has them.

At least once: after a lost connection what was under way is sent again under the same message id.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from voicebus.adapters.redis.client import RedisConnection, is_final, is_unknown_script
from voicebus.adapters.redis.overdue import bury_overdue
from voicebus.adapters.redis.scripts import APPEND
from voicebus.contracts.envelope import Entry, Sealed
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


class Unsealed(Protocol):
    """An entry that is made when it is sent, and not before: what it says may change until then."""

    @property
    def type(self) -> str: ...

    @property
    def session(self) -> str: ...

    @property
    def deadline(self) -> int | None: ...

    def sealed(self) -> Sealed: ...


class _Kept(msgspec.Struct, frozen=True, gc=False):
    """An entry for a stream, as it is kept after it was sent at `sent_at` (monotonic, s)."""

    stream: str
    entry: Sealed
    ttl_s: int | None
    sent_at: float


Refused = Callable[[str], None]
"""Hears why Redis takes an entry never."""


class _Outgoing(msgspec.Struct, frozen=True):
    stream: str
    entry: Sealed | Unsealed
    ttl_s: int | None
    written: asyncio.Future[None] | None = None
    refused: Refused | None = None


class _Sendable(msgspec.Struct, frozen=True):
    stream: str
    entry: Sealed
    ttl_s: int | None
    written: asyncio.Future[None] | None
    refused: Refused | None


class Outbox:
    """Sends entries in the order given. Run `run` as a task; `drain` before it is cancelled.

    Overflow: when `CAPACITY` entries wait, the oldest is dropped, and the log says so; who waits for its answer has a
    deadline. Entries whose own deadline has passed are dropped too, as nobody would act on them, and so are those that
    Redis refuses for good (a key that is no stream).
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
        self._kept: deque[_Kept] = deque()
        self._kept_chars = 0

    def __len__(self) -> int:
        return len(self._waiting)

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
        self._put(_Outgoing(stream, sealed, ttl_s, refused=refused))

    def deliver(self, stream: str, entry: Entry | Sealed, *, ttl_s: int | None = None) -> asyncio.Future[None]:
        """Queue an entry; the future is done once it is in its stream or was given up."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(_Outgoing(stream, entry.sealed() if isinstance(entry, Entry) else entry, ttl_s, written))
        return written

    def resend(self, since: float) -> None:
        """Send again what was sent since then (monotonic, s): a master that is gone may not have passed it on.

        Whoever reads it knows an entry, or what it is about, that comes twice.
        """
        again = [item for item in self._kept if item.sent_at >= since]
        self._kept.clear()
        self._kept_chars = 0
        for item in again:
            self._put(_Outgoing(item.stream, item.entry, item.ttl_s))
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
            sealed = [
                _Sendable(item.stream, _sealed(item.entry), item.ttl_s, item.written, item.refused)
                for item in batch
                if self._still_wanted(item)
            ]
            del batch
            unsent = await self._send(sealed)
            if unsent:
                self._waiting.extendleft(
                    _Outgoing(item.stream, item.entry, item.ttl_s, item.written, item.refused)
                    for item in reversed(unsent)
                )
                await asyncio.sleep(retry_delay(failures))
                failures += 1
            else:
                failures = 0

    async def drain(self, timeout_s: float) -> None:
        """Wait until everything is sent, at most `timeout_s`."""
        self._wake.set()
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

    async def _send(self, batch: list[_Sendable]) -> list[_Sendable]:
        """Send a batch in one pipeline; returns what must be sent again."""
        streams: dict[str, list[_Sendable]] = {}
        for item in batch:
            streams.setdefault(item.stream, []).append(item)
        renewals = self._renewals(batch)
        commands = [_appending(stream, items) for stream, items in streams.items()]
        commands += [("EXPIRE", stream, ttl_s) for stream, ttl_s in renewals.items()]
        found = await self._bus.submit_all(commands)
        now = time.monotonic()
        for stream, reply in zip(renewals, found[len(streams) :], strict=True):
            if reply == 1:
                self._renewed[stream] = now
        replies = dict(zip(streams, found, strict=False))
        for stream in [stream for stream, reply in replies.items() if is_unknown_script(reply)]:
            (replies[stream],) = await self._bus.submit_all([_appending(stream, streams[stream], known=False)])
        unsent: list[_Sendable] = []
        error: BusError | None = None
        for item in batch:
            failed = replies[item.stream]
            if not isinstance(failed, Exception):
                self._keep(now, item)
                if item.written is not None and not item.written.done():
                    item.written.set_result(None)
            elif isinstance(failed, BusError) and is_final(failed):
                self._give_up(item, str(failed))
                if item.refused is not None:
                    item.refused(f"{failed} (key {item.stream})")
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

    def _keep(self, now: float, item: _Sendable) -> None:
        kept = self._kept
        kept.append(_Kept(item.stream, item.entry, item.ttl_s, now))
        self._kept_chars += len(item.entry.data)
        while kept and (len(kept) > CAPACITY or self._kept_chars > KEPT_CHARS or kept[0].sent_at < now - KEPT_S):
            self._kept_chars -= len(kept.popleft().entry.data)

    def _renewals(self, batch: list[_Sendable]) -> dict[str, int]:
        """The streams of this batch whose time to live is to be renewed: each now and then, not with every entry."""
        horizon = time.monotonic() - _RENEW_S
        self._renewed = {stream: at for stream, at in self._renewed.items() if at > horizon}
        return {
            item.stream: item.ttl_s for item in batch if item.ttl_s is not None and item.stream not in self._renewed
        }

    def _give_up(self, item: _Outgoing | _Sendable, why: str) -> None:
        log.warning("entry not sent", why=why, type=item.entry.type, session=item.entry.session, stream=item.stream)
        if item.written is not None and not item.written.done():
            item.written.set_result(None)


def _appending(stream: str, items: Sequence[_Sendable], *, known: bool = True) -> Sequence[str | int]:
    """The command that appends these to their stream: several by one script, which the server may not know yet."""
    if len(items) == 1:
        return ("XADD", stream, "*", *items[0].entry.flat())
    counted: list[str | int] = []
    for item in items:
        flat = item.entry.flat()
        counted.append(len(flat))
        counted += flat
    return ("EVALSHA", APPEND.sha, 1, stream, *counted) if known else ("EVAL", APPEND.text, 1, stream, *counted)


def _sealed(entry: Sealed | Unsealed) -> Sealed:
    return entry if isinstance(entry, Sealed) else entry.sealed()
