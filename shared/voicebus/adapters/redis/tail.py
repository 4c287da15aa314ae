"""Reading one stream without a group, from a saved id, for the one process it is addressed to."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from voicebus.adapters.redis.client import RedisConnection, is_final
from voicebus.adapters.redis.portions import Portion
from voicebus.adapters.redis.trimming import after, position
from voicebus.errors import BusError
from voicebus.runtime.retrying import retry_delay
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

BLOCK_MS: Final = 2_000
REWIND_MS: Final = 60_000
_TIDY_S: Final = 10.0
_MAKER: Final = "maker"

# Within so many turns of the event loop: the caller's, the outbox's, the connection's.
_TURNS: Final = 3
# Turns that take as long as this have much else in them, and the next entry waits for each.
_LONG_TURN_S: Final = 0.002


class StreamTail:
    """Calls `route` with every entry of `stream`, in order; run `run` as a task.

    What was read is trimmed, and the stream ends `ttl_s` after its reader. `route` is called again with an entry for
    which it raised `BusError`; `on_reachable` hears whether the last read reached Redis. `on_refused` hears why Redis
    will not read the stream until somebody mends that, as where its key has become something else, and None once it is
    read again.
    """

    def __init__(
        self,
        bus: RedisConnection,
        stream: str,
        route: Callable[[str, dict[str, str]], Awaitable[None]],
        *,
        ttl_s: int,
        service: str,
        on_reachable: Callable[[bool], None] | None = None,
        on_refused: Callable[[str | None], None] | None = None,
    ) -> None:
        self.stream = stream
        self._on_refused = on_refused
        self._refused: str | None = None
        self._bus = bus
        self._route = route
        self._ttl_s = ttl_s
        self._service = service
        self._on_reachable = on_reachable
        self._last = "0-0"
        self._rewind = False
        self._portion = Portion()

    def rewind(self) -> None:
        """Another server is the master: read again from `REWIND_MS` before the last entry on.

        It may have given lower ids to what it wrote since than were read of the one before. `route` must know entries
        that it has had.
        """
        self._rewind = True

    async def run(self) -> None:
        """Read until cancelled; a lost connection loses nothing, because reading goes on behind the last entry."""
        tidied = float("-inf")
        failures = 0
        while True:
            try:
                if self._rewind:
                    self._rewind = False
                    self._last = f"{max(0, position(self._last)[0] - REWIND_MS)}-0"
                if time.monotonic() - tidied > _TIDY_S:
                    await self.tidy()
                    tidied = time.monotonic()
                reply = await self._bus.read_blocking(
                    "XREAD", "COUNT", self._portion.count, "BLOCK", BLOCK_MS, "STREAMS", self.stream, self._last
                )
                entries = [entry for _, found in reply or () for entry in found]
                self._portion.took(fields for _, fields in entries)
                for entry_id, fields in entries:
                    await self._route(entry_id, fields)
                    self._last = entry_id
                # What whoever waited for an entry sends because of it leaves before the next read, for which nobody
                # waits.
                since = time.monotonic()
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                    if time.monotonic() - since > _LONG_TURN_S:
                        break
            except BusError as error:
                if failures == 0:
                    metrics.REDIS_DISRUPTIONS.labels(service=self._service).inc()
                    log.warning("reading waits for Redis", stream=self.stream, error=str(error))
                self._reachable(False)
                if is_final(error):
                    self._tell(f"{error} (key {self.stream})")
                await asyncio.sleep(retry_delay(failures))
                failures += 1
                continue
            failures = 0
            self._reachable(True)
            self._tell(None)

    async def tidy(self) -> None:
        """Remove what was read and renew the stream's time to live.

        Raises:
            BusError: Redis cannot be reached.
        """
        if self._last != "0-0":
            await self._bus.call("XTRIM", self.stream, "MINID", after(self._last))
        if not await self._bus.call("EXPIRE", self.stream, self._ttl_s):
            # Not there yet. Made here, because who writes first may not know that it must end; a group made and
            # destroyed is the way to an empty stream.
            # In one pipeline, so that a reader stopped in between leaves no stream without an end.
            await asyncio.gather(
                self._bus.submit("XGROUP", "CREATE", self.stream, _MAKER, "0", "MKSTREAM"),
                self._bus.submit("XGROUP", "DESTROY", self.stream, _MAKER),
                self._bus.submit("EXPIRE", self.stream, self._ttl_s),
            )

    def _tell(self, refused: str | None) -> None:
        if refused != self._refused and self._on_refused is not None:
            self._on_refused(refused)
        self._refused = refused

    def _reachable(self, reached: bool) -> None:
        if self._on_reachable is not None:
            self._on_reachable(reached)
