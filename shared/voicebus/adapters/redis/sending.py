"""Entries on their way to the streams of one server: sent in pipelines, sent again until it has them."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from voicebus.adapters.redis.client import RedisConnection, is_final, is_unknown_script
from voicebus.adapters.redis.scripts import APPEND
from voicebus.contracts.envelope import Sealed
from voicebus.errors import BusError
from voicebus.ports import Clock
from voicebus.runtime.retrying import retry_delay
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger
from voicebus.telemetry.outage import Outage

log: Final = get_logger(__name__)

CAPACITY: Final = 10_000

_BATCH: Final = 256

_RENEW_S: Final = 10.0


class Unsealed(Protocol):
    """An entry that is made when it is sent, and not before: what it says may change until then."""

    @property
    def type(self) -> str: ...

    @property
    def session(self) -> str: ...

    @property
    def deadline(self) -> int | None: ...

    def sealed(self) -> Sealed: ...


Refused = Callable[[str], None]
"""Hears why Redis takes an entry never."""


class Outgoing(msgspec.Struct, frozen=True):
    """An entry for `stream`, whose time to live it renews; `written` is done once it is there or was given up."""

    stream: str
    entry: Sealed | Unsealed
    ttl_s: int | None
    written: asyncio.Future[None] | None = None
    refused: Refused | None = None


class Sendable(msgspec.Struct, frozen=True):
    """What is sent of an `Outgoing`, in its last words."""

    stream: str
    entry: Sealed
    ttl_s: int | None
    written: asyncio.Future[None] | None
    refused: Refused | None


class Sender:
    """Sends entries in the order given. Run `run` as a task.

    `sent` hears of each that Redis has, and since when (monotonic, s).

    Overflow: when `CAPACITY` entries wait, the oldest is dropped, and the log says so; who waits for its answer has a
    deadline. Entries whose own deadline has passed are dropped too, as nobody would act on them, and so are those that
    Redis refuses for good (a key that is no stream).
    """

    def __init__(
        self, bus: RedisConnection, clock: Clock, sent: Callable[[Sendable, float], None], *, service: str
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._sent = sent
        self._service = service
        self._renewed: dict[str, float] = {}
        self._waiting: deque[Outgoing] = deque()
        # Of what waits, or is under way.
        self._streams: set[str] = set()
        self._wake = asyncio.Event()
        self._outage = Outage(log, "entries wait for Redis")
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._waiting)

    def holds(self, stream: str) -> bool:
        """Whether something for this stream may not be sent yet."""
        return stream in self._streams

    def put(self, item: Outgoing) -> None:
        if len(self._waiting) >= CAPACITY:
            self._give_up(self._waiting.popleft(), "outbox full")
        self._waiting.append(item)
        self._streams.add(item.stream)
        self._idle.clear()
        self._wake.set()

    async def run(self) -> None:
        """Send what is queued, until cancelled."""
        failures = 0
        while True:
            self._streams = {item.stream for item in self._waiting}
            if not self._waiting:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            sealed = [
                Sendable(item.stream, _sealed(item.entry), item.ttl_s, item.written, item.refused)
                for item in batch
                if self._still_wanted(item)
            ]
            del batch
            unsent = await self._send(sealed)
            if unsent:
                self._waiting.extendleft(
                    Outgoing(item.stream, item.entry, item.ttl_s, item.written, item.refused)
                    for item in reversed(unsent)
                )
                await asyncio.sleep(retry_delay(failures))
                failures += 1
            else:
                failures = 0

    async def drained(self) -> None:
        """Wait until everything is sent."""
        self._wake.set()
        await self._idle.wait()

    def _still_wanted(self, item: Outgoing) -> bool:
        deadline = item.entry.deadline
        if deadline is None or self._clock.at_ms() < deadline:
            return True
        self._give_up(item, "deadline passed")
        return False

    async def _send(self, batch: list[Sendable]) -> list[Sendable]:
        """Send a batch in one pipeline; returns what must be sent again."""
        streams: dict[str, list[Sendable]] = {}
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
        unsent: list[Sendable] = []
        error: BusError | None = None
        for item in batch:
            failed = replies[item.stream]
            if not isinstance(failed, Exception):
                self._sent(item, now)
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

    def _renewals(self, batch: list[Sendable]) -> dict[str, int]:
        """The streams of this batch whose time to live is to be renewed: each now and then, not with every entry."""
        horizon = time.monotonic() - _RENEW_S
        self._renewed = {stream: at for stream, at in self._renewed.items() if at > horizon}
        return {
            item.stream: item.ttl_s for item in batch if item.ttl_s is not None and item.stream not in self._renewed
        }

    def _give_up(self, item: Outgoing | Sendable, why: str) -> None:
        log.warning("entry not sent", why=why, type=item.entry.type, session=item.entry.session, stream=item.stream)
        if item.written is not None and not item.written.done():
            item.written.set_result(None)


def _appending(stream: str, items: Sequence[Sendable], *, known: bool = True) -> Sequence[str | int]:
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
