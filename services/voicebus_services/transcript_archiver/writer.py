"""From stream entries to committed transcripts: one task that batches what all shards bring, and acknowledges it.

The order is the promise: commit, then acknowledge. What cannot be understood or stored goes to the dead letters and
holds nobody up; a database that is away holds everybody up, and nothing is acknowledged.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from voicebus.adapters.database.lines import RecordedEvent
from voicebus.adapters.database.store import TranscriptStore
from voicebus.contracts.envelope import Entry
from voicebus.errors import BusError, ContractError, StoreError
from voicebus.ports import Clock
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger
from voicebus_services.transcript_archiver.shards import BATCH, EventShards, StreamEntry

log = get_logger(__name__)

LINGER_S: Final = 0.05
"""How long the first entry of a batch waits for others: a commit costs as much for one as for many."""

_RETRY_FIRST_S: Final = 0.1
_RETRY_MOST_S: Final = 2.0


class _Delivered:
    """What one shard brought, and its reader who waits."""

    def __init__(self, entries: Sequence[StreamEntry]) -> None:
        self.entries = entries
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class BatchWriter:
    """`run` as a task; `archive` from the readers. `stalled` tells that the database refuses or is away."""

    def __init__(self, store: TranscriptStore, shards: EventShards, clock: Clock) -> None:
        self._store = store
        self._shards = shards
        self._clock = clock
        # Bounded by the readers: each waits for its entries before it brings more.
        self._queue: asyncio.Queue[_Delivered] = asyncio.Queue()
        self.stalled = False

    async def archive(self, entries: Sequence[StreamEntry]) -> None:
        """Returns once these entries are committed (or dead letters) and acknowledged.

        Raises:
            BusError: they could not be acknowledged or moved to the dead letters; take them over again.
        """
        delivered = _Delivered(entries)
        await self._queue.put(delivered)
        await delivered.done

    async def run(self) -> None:
        """Write until cancelled. A batch cut off by that was not acknowledged and will be delivered again."""
        while True:
            batch = await self._collect()
            try:
                await self._archive([entry for delivered in batch for entry in delivered.entries])
            except BusError as error:
                for delivered in batch:
                    if not delivered.done.done():
                        delivered.done.set_exception(error)
            else:
                for delivered in batch:
                    if not delivered.done.done():
                        delivered.done.set_result(None)

    async def _collect(self) -> list[_Delivered]:
        batch = [await self._queue.get()]
        try:
            async with asyncio.timeout(LINGER_S):
                while sum(len(delivered.entries) for delivered in batch) < BATCH:
                    batch.append(await self._queue.get())
        except TimeoutError:
            pass
        return batch

    async def _archive(self, entries: Sequence[StreamEntry]) -> None:
        events: list[tuple[StreamEntry, RecordedEvent]] = []
        refused: list[tuple[StreamEntry, ContractError]] = []
        for entry in entries:
            try:
                events.append((entry, RecordedEvent.of(Entry.parse(entry.fields))))
            except ContractError as error:
                refused.append((entry, error))
        try:
            await self._store_all([event for _, event in events])
        except ContractError:
            refused += await self._store_singly(events)
        for entry, why in refused:
            log.warning("entry moved to the dead letters", entry=entry.id, shard=entry.shard, reason=why.reason)
            await self._shards.dead_letter(entry, reason=why.reason, error=str(why))
        await self._shards.acknowledge(entries)

    async def _store_singly(
        self, events: Sequence[tuple[StreamEntry, RecordedEvent]]
    ) -> list[tuple[StreamEntry, ContractError]]:
        """The database refuses something of a batch: find out what, and keep the rest."""
        refused = []
        for entry, event in events:
            try:
                await self._store_all([event])
            except ContractError as error:
                refused.append((entry, error))
        return refused

    async def _store_all(self, events: Sequence[RecordedEvent]) -> None:
        delay = _RETRY_FIRST_S
        while True:
            try:
                written = await self._store.write(events)
            except StoreError as error:
                if not self.stalled:
                    log.warning("transcripts cannot be written; trying again until they can", error=str(error))
                self.stalled = True
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads archivers, no secret
                delay = min(2 * delay, _RETRY_MOST_S)
            else:
                break
        if self.stalled:
            log.info("transcripts are written again")
        self.stalled = False
        now = self._clock.at_ms()
        for event in events:
            metrics.TRANSCRIPT_WRITE_LAG.observe(max(0, now - event.at) / 1000)
        for session, count in written.missing.items():
            metrics.TRANSCRIPT_GAPS.inc(count)
            log.warning("recorded events are missing from an ended session", session=session, missing=count)
