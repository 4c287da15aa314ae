"""When sessions of a journal are flushed (`journal.py`): soon after something was queued, those of a server as one."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from voicebus.adapters.redis.journal_queue import OwnedSession
from voicebus.errors import BusError
from voicebus.runtime.retrying import retry_delay
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

FLUSH_WINDOW_S: Final = 0.004


class Flusher:
    """Has sessions flushed. `flush` says what failed, and has those flushed again `soon` of which something is left."""

    def __init__(
        self, flush: Callable[[Collection[OwnedSession]], Awaitable[BusError | None]], *, service: str
    ) -> None:
        self._flush = flush
        self._service = service
        self._dirty: dict[str, OwnedSession] = {}
        self._flushing: dict[str, OwnedSession] = {}
        self._wake = asyncio.Event()

    def soon(self, owned: OwnedSession) -> None:
        """Within `FLUSH_WINDOW_S`, together with what is queued until then."""
        if not self._dirty:
            asyncio.get_running_loop().call_later(FLUSH_WINDOW_S, self._wake.set)
        self._dirty[owned.id] = owned

    def now(self, owned: OwnedSession) -> None:
        self._dirty[owned.id] = owned
        self._wake.set()

    def holds(self, session: str) -> bool:
        return session in self._dirty or session in self._flushing

    def forget(self, owned: OwnedSession) -> None:
        self._dirty.pop(owned.id, None)

    async def run(self) -> None:
        """Flush until cancelled."""
        failures = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._flushing, self._dirty = self._dirty, {}
            failed = await self._flush(self._flushing.values())
            self._flushing = {}
            if failed is None:
                failures = 0
                continue
            failures += 1
            if failures == 1:
                metrics.REDIS_DISRUPTIONS.labels(service=self._service).inc()
                log.warning("journal waits for Redis", sessions=len(self._dirty), error=str(failed))
            await asyncio.sleep(retry_delay(failures - 1))
