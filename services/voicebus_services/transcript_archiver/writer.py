"""From stream entries to committed transcripts: one task that batches what all shards bring.

The order is the promise: commit, then acknowledge. What cannot be understood or stored goes to the dead letters and
holds nobody up; a database that is away holds everybody up, and nothing is acknowledged. Readers decode and acknowledge
while the batch of others is written, so that neither the database nor this process waits for the other.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from voicebus.adapters.database.epochs import DisplacedError
from voicebus.adapters.database.ingest import Written
from voicebus.adapters.database.lines import Claim, RecordedEvent
from voicebus.adapters.database.store import TranscriptStore
from voicebus.contracts.envelope import Entry
from voicebus.errors import BusError, ContractError, StoreError
from voicebus.ports import Clock
from voicebus.telemetry import metrics
from voicebus.telemetry.batched import batch_span
from voicebus.telemetry.logging import get_logger
from voicebus_services.privacy.events import Rules, redacted_fields
from voicebus_services.transcript_archiver.shards import EventShards, StreamEntry

log = get_logger(__name__)

LINGER_S: Final = 0.05
"""How long the first entry of a batch waits for others: a commit costs as much for one as for many."""
BATCH: Final = 2_000
"""Events of one transaction, about: a reader's are never split."""

_SEQ_DIGITS: Final = 10
_OUTDATED: Final = "outdated_owner"
# Which entry an event was that is stored is not known any more.
_NOWHERE: Final = "0-0"
_RETRY_FIRST_S: Final = 0.1
_RETRY_MOST_S: Final = 2.0


class _Refused(NamedTuple):
    entry: StreamEntry
    why: ContractError


class _Delivered:
    """What one shard brought and can be read, and its reader, who waits for what the database refuses of it."""

    def __init__(self, events: Sequence[tuple[StreamEntry, RecordedEvent]]) -> None:
        self.events = events
        self.done: asyncio.Future[list[_Refused]] = asyncio.get_running_loop().create_future()


def read_event(fields: Mapping[str, str]) -> RecordedEvent:
    """What an entry says. Everything that is stored comes through here, and nothing is stored that did not.

    Raises:
        ContractError: it cannot be read; dead-letter it.
    """
    return RecordedEvent.of(Entry.parse(fields))


class BatchWriter:
    """`run` as a task; `archive` from the readers. `stalled` tells that the database refuses or is away.

    `on_refused` hears of each event, by session and seq, that went to the dead letters.
    """

    def __init__(
        self,
        store: TranscriptStore,
        shards: EventShards,
        clock: Clock,
        *,
        rules: Rules,
        on_refused: Callable[[str, int], None],
    ) -> None:
        self._store = store
        self._shards = shards
        self._clock = clock
        self._rules = rules
        self._on_refused = on_refused
        # Bounded by the readers: each waits for its entries before it brings more.
        self._queue: asyncio.Queue[_Delivered] = asyncio.Queue()
        self.stalled = False

    async def archive(self, entries: Sequence[StreamEntry]) -> None:
        """Returns once these entries are committed (or dead letters) and acknowledged.

        Raises:
            BusError: they could not be acknowledged or moved to the dead letters; take them over again.
        """
        events: list[tuple[StreamEntry, RecordedEvent]] = []
        refused: list[_Refused] = []
        for entry in entries:
            try:
                events.append((entry, read_event(entry.fields)))
            except ContractError as error:
                refused.append(_Refused(entry, error))
        if events:
            delivered = _Delivered(events)
            await self._queue.put(delivered)
            refused += await delivered.done
        for entry, why in refused:
            await self._bury(entry, why)
        await self._shards.acknowledge(entries)

    async def _bury(self, entry: StreamEntry, why: ContractError) -> None:
        log.warning("entry moved to the dead letters", entry=entry.id, shard=entry.shard, reason=why.reason)
        session, seq = entry.fields.get("session", ""), entry.fields.get("seq", "")
        redaction = self._rules(await self._tenant(session))
        spared = redacted_fields(redaction, {**entry.fields, "error": str(why)}) if redaction else {}
        error = spared.pop("error", str(why))
        await self._shards.dead_letter(replace(entry, fields=spared or entry.fields), reason=why.reason, error=error)
        # Of one that does not count the place is another event's, which may be on its way.
        if why.reason != _OUTDATED and session and seq.isdecimal() and len(seq) <= _SEQ_DIGITS:
            self._on_refused(session, int(seq))

    async def _tenant(self, session: str) -> str | None:
        try:
            return await self._store.tenant(session) if session else None
        except (StoreError, ContractError):
            return None

    async def run(self) -> None:
        """Write until cancelled. A batch cut off by that was not acknowledged and will be delivered again."""
        while True:
            await self._write(await self._collect())  # of which nothing is kept while the next is waited for

    async def _write(self, batch: Sequence[_Delivered]) -> None:
        events = [event for delivered in batch for event in delivered.events]
        with batch_span("write events", (entry.fields.get("traceparent") for entry, _ in events), events=len(events)):
            try:
                written = await self._store_all(events)
                refused = {id(delivered): _outdone(delivered.events, written) for delivered in batch}
            except ContractError:
                refused = {id(delivered): await self._store_singly(delivered.events) for delivered in batch}
        for delivered in batch:
            if not delivered.done.done():
                delivered.done.set_result(refused.get(id(delivered), []))

    async def _collect(self) -> list[_Delivered]:
        batch = [await self._queue.get()]
        try:
            async with asyncio.timeout(LINGER_S):
                while sum(len(delivered.events) for delivered in batch) < BATCH:
                    batch.append(await self._queue.get())
        except TimeoutError:
            pass
        return batch

    async def _store_singly(self, events: Sequence[tuple[StreamEntry, RecordedEvent]]) -> list[_Refused]:
        """The database refuses something of a batch: find out what, and keep the rest."""
        refused: list[_Refused] = []
        for entry, event in events:
            try:
                refused += _outdone([(entry, event)], await self._store_all([(entry, event)]))
            except ContractError as error:
                refused.append(_Refused(entry, error))
        return refused

    async def _store_all(self, delivered: Sequence[tuple[StreamEntry, RecordedEvent]]) -> Written:
        events = [event for _, event in delivered]
        shards = {event.session: entry.shard for entry, event in delivered}
        delay = _RETRY_FIRST_S
        kept: set[Claim] = set()
        while True:
            try:
                written = await self._store.write(events, kept=kept)
            except DisplacedError as displaced:
                await self._keep(displaced.events, shards, kept)
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
        return written

    async def _keep(self, stored: Sequence[RecordedEvent], shards: Mapping[str, int], kept: set[Claim]) -> None:
        """Dead letters of what is stored and about to go."""
        for event in stored:
            while event.claim not in kept:
                try:
                    await self._bury(StreamEntry(shards[event.session], _NOWHERE, event.fields()), _void(event))
                    kept.add(event.claim)
                except BusError as error:
                    log.info("an event that does not count any more is kept later", error=str(error))
                    await asyncio.sleep(_RETRY_MOST_S)


def _outdone(events: Sequence[tuple[StreamEntry, RecordedEvent]], written: Written) -> list[_Refused]:
    """Those that were not stored for the sake of others."""
    refused: list[_Refused] = []
    for entry, event in events if written.void or written.taken else ():
        if event.claim in written.void:
            refused.append(_Refused(entry, _void(event)))
        elif event.identity in written.taken:
            why = ContractError(f"another event of seq {event.seq} is stored", reason="seq_taken")
            refused.append(_Refused(entry, why))
    return refused


def _void(event: RecordedEvent) -> ContractError:
    why = f"an owner after that of epoch {event.epoch} has written the session from seq {event.seq}, or before it, on"
    return ContractError(why, reason=_OUTDATED)
