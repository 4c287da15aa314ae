"""Has what tenants do not keep any longer erased, from time to time, by one of the archivers.

The one that reads shard 0 does it, as that is always one alone; that two do it at once would do no harm.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Final

from voicebus.adapters.database.store import TranscriptStore
from voicebus.errors import StoreError
from voicebus.ports import Clock
from voicebus.telemetry.logging import get_logger
from voicebus_services.privacy.eraser import Eraser
from voicebus_services.privacy.policy import Policies
from voicebus_services.privacy.retention import Retention

log: Final = get_logger(__name__)

FIRST_S: Final = 10.0
"""How long after its start an archiver looks for the first time: it has its shards then."""


class Expiring:
    """Run `run` as a task: it looks `FIRST_S` after the start, and every `every_s` after that."""

    def __init__(
        self,
        store: TranscriptStore,
        eraser: Eraser,
        policies: Callable[[], Policies],
        clock: Clock,
        shards: Callable[[], Collection[int]],
        *,
        every_s: float,
    ) -> None:
        self._store = store
        self._eraser = eraser
        self._policies = policies
        self._clock = clock
        self._shards = shards
        self._every_s = every_s

    async def run(self) -> None:
        """Look after it until cancelled."""
        await asyncio.sleep(min(FIRST_S, self._every_s))
        while True:
            if 0 in self._shards() and self._policies().expires:
                try:
                    await self._look()
                except StoreError as error:
                    log.warning("what is due stays until the next look", error=str(error))
                except Exception:  # one odd session must not end the care of all
                    log.exception("what is due is not erased")
            await asyncio.sleep(self._every_s)

    async def _look(self) -> None:
        done = await Retention(self._store.erasing, self._eraser, self._policies(), self._clock.at_ms).run()
        if done.rows or done.recording_bytes or done.left:
            log.info(
                "erased what tenants do not keep any longer",
                sessions=sum(done.sessions.values()),
                rows=done.rows,
                recording_bytes=done.recording_bytes,
                months=list(done.months),
                left=sum(done.left.values()),
            )
