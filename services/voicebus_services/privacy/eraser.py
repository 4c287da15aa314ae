"""Erasing sessions wherever something of them is kept, in the order that leaves nothing behind.

Recordings go first, as their place is known by the rows, but not before their sizes are with the database; then the
rows, with the note that keeps late events from being written again; then everything is looked for once more.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from voicebus.adapters.database.erasing import RECORDING, Gone
from voicebus.adapters.database.store import TranscriptStore
from voicebus.errors import StoreError
from voicebus.telemetry import metrics

if TYPE_CHECKING:
    from voicebus.adapters.recordings.storage import RecordingStorage

BATCH: Final = 100
"""Sessions of one transaction: writers wait for it."""

_AT_ONCE: Final = 8

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased of one session."""

    session: str
    tenant: str
    rows: int
    recording_bytes: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of some sessions: what was erased, and of the others why they were not."""

    erased: Sequence[Erased]
    failed: Mapping[str, StoreError]


class Eraser:
    """Erases in an archive, and in a storage of recordings where there is one.

    One session whose recording cannot be erased keeps no other. What a database that failed has not noted of erased
    recordings is noted with the next try, by whoever makes it.
    """

    def __init__(self, store: TranscriptStore, storage: "RecordingStorage | None") -> None:
        self._erasing = store.erasing
        self._storage = storage

    async def erase(self, names: Mapping[str, str], reason: str, at_ms: int) -> Batch:
        """Erase these sessions (by id, with their tenants), at most `BATCH`; again does no harm.

        Raises:
            StoreError: the database failed, or something came back: do it again.
        """
        failed = await self._recordings(names)
        done = _without(names, failed)
        gone = await self._erasing.erase(done, reason, at_ms)
        # Who held a recording open may have written to it until its row was gone.
        failed |= await self._recordings(done)
        done = _without(done, failed)
        late = await self._erasing.announced(done)
        more = await self._erasing.erase(_only(done, late), reason, at_ms)
        left = await self._erasing.left(done)
        if left:
            raise StoreError(f"{left} rows of erased sessions are still there; do it again")
        erased = [
            Erased(session, tenant, gone[session].rows, gone[session].recording_bytes + _bytes(more, session))
            for session, tenant in done.items()
        ]
        _count(reason, erased)
        return Batch(erased, failed)

    async def erase_recordings(self, names: Mapping[str, str], at_ms: int) -> Batch:
        """Erase these sessions' recordings, and keep their transcripts.

        Raises:
            StoreError: the database failed: do it again.
        """
        failed = await self._recordings(names)
        done = _without(names, failed)
        gone = await self._erasing.note_recordings(done, at_ms)
        erased = [Erased(session, tenant, 0, _bytes(gone, session)) for session, tenant in done.items()]
        _count(RECORDING, erased)
        return Batch(erased, failed)

    async def erase_again(self, names: Mapping[str, str], reason: str, at_ms: int) -> Batch:
        """Erase what was written to the recordings of erased sessions after that; tells only of those.

        Raises:
            StoreError: the database failed: do it again.
        """
        failed = await self._recordings(names)
        done = _without(names, failed)
        back = _only(done, await self._erasing.announced(done))
        if reason == RECORDING:
            gone = await self._erasing.note_recordings(back, at_ms)
        else:
            gone = await self._erasing.erase(back, reason, at_ms)
        erased = [Erased(session, tenant, 0, _bytes(gone, session)) for session, tenant in back.items()]
        _count(reason, erased)
        return Batch(erased, failed)

    @property
    def has_storage(self) -> bool:
        """Whether recordings are looked for."""
        return self._storage is not None

    async def _recordings(self, names: Mapping[str, str]) -> dict[str, StoreError]:
        """Erase the recordings of sessions, once the database knows how large they are; those that could not be."""
        if self._storage is None:
            return {}
        sizes, failed = await _each(names, self._storage.size)
        await self._erasing.announce({session: size for session, size in sizes.items() if size})
        erased, kept = await _each(_without(names, failed), self._storage.erase)
        # A part may have come since its size was asked for.
        await self._erasing.announce({session: size for session, size in erased.items() if size > sizes[session]})
        return failed | kept


async def _each(
    names: Mapping[str, str], work: Callable[[str, str], Awaitable[T]]
) -> tuple[dict[str, T], dict[str, StoreError]]:
    """What `work(tenant, session)` returns for each session, and why it failed for the others."""
    turns = asyncio.Semaphore(_AT_ONCE)
    done: dict[str, T] = {}
    failed: dict[str, StoreError] = {}

    async def one(session: str, tenant: str) -> None:
        async with turns:
            try:
                done[session] = await work(tenant, session)
            except StoreError as error:
                failed[session] = error

    async with asyncio.TaskGroup() as tasks:
        for session, tenant in names.items():
            tasks.create_task(one(session, tenant), name=f"erase {session}")
    return done, failed


def _bytes(gone: Mapping[str, Gone], session: str) -> int:
    return gone[session].recording_bytes if session in gone else 0


def _only(names: Mapping[str, str], wanted: Collection[str]) -> dict[str, str]:
    return {session: tenant for session, tenant in names.items() if session in wanted}


def _without(names: Mapping[str, str], unwanted: Collection[str]) -> dict[str, str]:
    return {session: tenant for session, tenant in names.items() if session not in unwanted}


def _count(reason: str, erased: Sequence[Erased]) -> None:
    touched = sum(bool(one.rows or one.recording_bytes) for one in erased)
    metrics.ERASED_SESSIONS.labels(reason=reason).inc(touched)
    metrics.ERASED_ROWS.labels(reason=reason).inc(sum(one.rows for one in erased))
    metrics.ERASED_RECORDING_BYTES.labels(reason=reason).inc(sum(one.recording_bytes for one in erased))
