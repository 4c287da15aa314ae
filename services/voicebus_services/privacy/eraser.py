"""Erasing sessions wherever something of them is kept, in the order that leaves nothing behind.

Recordings go first, as their place is known by the rows; then the rows, with the note that keeps late events from being
written again; then everything is looked for once more.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from voicebus.adapters.database.erasing import RECORDING
from voicebus.adapters.database.store import TranscriptStore
from voicebus.errors import StoreError
from voicebus.telemetry import metrics

if TYPE_CHECKING:
    from voicebus.adapters.recordings.storage import RecordingStorage

BATCH: Final = 100
"""Sessions of one transaction: writers wait for it."""

_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased of one session."""

    session: str
    tenant: str
    rows: int
    recording_bytes: int


class Eraser:
    """Erases in an archive, and in a storage of recordings where there is one."""

    def __init__(self, store: TranscriptStore, storage: "RecordingStorage | None") -> None:
        self._erasing = store.erasing
        self._storage = storage

    async def erase(self, names: Mapping[str, str], reason: str, at_ms: int) -> list[Erased]:
        """Erase these sessions (by id, with their tenants), at most `BATCH`; again does no harm.

        Raises:
            StoreError: database or storage failed, or something came back: do it again.
        """
        stored = await self._recordings(names)
        rows = await self._erasing.erase(names, reason, at_ms, stored)
        # Who held a recording open may have written to it until its row was gone.
        late = await self._recordings(names)
        if any(late.values()):
            await self._erasing.erase(names, reason, at_ms, late)
        left = await self._erasing.left(names)
        if left:
            raise StoreError(f"{left} rows of erased sessions are still there; do it again")
        erased = [
            Erased(session, tenant, rows.get(session, 0), stored.get(session, 0) + late.get(session, 0))
            for session, tenant in names.items()
        ]
        _count(reason, erased)
        return erased

    async def erase_recordings(self, names: Mapping[str, str], at_ms: int) -> list[Erased]:
        """Erase these sessions' recordings, and keep their transcripts.

        Raises:
            StoreError: database or storage failed: do it again.
        """
        stored = await self._recordings(names)
        await self._erasing.note_recordings(names, at_ms, stored)
        erased = [Erased(session, tenant, 0, stored.get(session, 0)) for session, tenant in names.items()]
        _count(RECORDING, erased)
        return erased

    async def erase_again(self, names: Mapping[str, str], reason: str, at_ms: int) -> list[Erased]:
        """Erase what was written to the recordings of erased sessions after that; tells only of those.

        Raises:
            StoreError: database or storage failed: do it again.
        """
        late = await self._recordings(names)
        back = {session: names[session] for session in late}
        if not back:
            return []
        if reason == RECORDING:
            await self._erasing.note_recordings(back, at_ms, late)
        else:
            await self._erasing.erase(back, reason, at_ms, late)
        erased = [Erased(session, tenant, 0, late[session]) for session, tenant in back.items()]
        _count(reason, erased)
        return erased

    @property
    def has_storage(self) -> bool:
        """Whether recordings are looked for."""
        return self._storage is not None

    async def _recordings(self, names: Mapping[str, str]) -> dict[str, int]:
        """Erase the recordings of sessions; their bytes, where there were some."""
        if self._storage is None:
            return {}
        storage, turns = self._storage, asyncio.Semaphore(_AT_ONCE)

        async def one(session: str, tenant: str) -> tuple[str, int]:
            async with turns:
                return session, await storage.erase(tenant, session)

        # All are waited for, also behind one that fails: none is to be erased by nobody's task.
        found = await asyncio.gather(
            *(one(session, tenant) for session, tenant in names.items()), return_exceptions=True
        )
        sizes: dict[str, int] = {}
        for erased in found:
            if isinstance(erased, BaseException):
                raise erased
            session, size = erased
            if size:
                sizes[session] = size
        return sizes


def _count(reason: str, erased: Sequence[Erased]) -> None:
    touched = sum(bool(one.rows or one.recording_bytes) for one in erased)
    metrics.ERASED_SESSIONS.labels(reason=reason).inc(touched)
    metrics.ERASED_ROWS.labels(reason=reason).inc(sum(one.rows for one in erased))
    metrics.ERASED_RECORDING_BYTES.labels(reason=reason).inc(sum(one.recording_bytes for one in erased))
