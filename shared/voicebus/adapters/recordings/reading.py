"""Recordings as they are read: one stream of bytes with a size, of a call that is over or still goes on.

The whole, or the parts of an only segment, are read from the storage piece by piece. Several segments have to be put
together first: once and for all where the call has long been over, else for a reader that gets what there is now.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from voicebus.adapters.recordings.recorder import assembled
from voicebus.adapters.recordings.storage import Object, RecordingStorage, Stored
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

SETTLED: Final = timedelta(minutes=5)
"""So long after the end of a call nobody writes to its recording any more: whoever held it has stopped trying."""
SNAPSHOT_S: Final = 15.0
"""How long readers of a call that goes on are given the same: to put it together takes a while."""

_SNAPSHOTS: Final = 4
_CHUNK: Final = 256 * 1024
# Of an Ogg stream this has its serial number, which tells it from every other.
_HEAD: Final = 64
# A recording that has begun has two pages that say what it is, and nothing that a player would open. Not larger:
_SILENT: Final = 4096
_PAGE: Final = b"OggS"
_HEADERS: Final = 2
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Recording:
    """What there is of a recording now: `read(start, end)` gives its bytes from `start` up to `end`.

    `read` raises `StoreError` or `FileNotFoundError` where the storage fails, or the recording is deleted meanwhile.
    """

    size: int
    version: str
    modified: datetime
    read: Callable[[int, int], AsyncIterator[bytes]]


class RecordingReader:
    """Opens recordings. Every method raises `StoreError` where the storage cannot be reached: trying again may work."""

    def __init__(self, storage: RecordingStorage, wanted: Callable[[str, str], Awaitable[bool]]) -> None:
        """`wanted` tells of a tenant's session whether its recording is to be kept: it may be erased while read."""
        self._storage = storage
        self._wanted = wanted
        # One at a time: it takes a processor for a second of each minute or so of the call, and memory for all of it.
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="recording")
        self._assembling = asyncio.Lock()
        self._snapshots: OrderedDict[tuple[str, str], tuple[float, Recording]] = OrderedDict()

    def close(self) -> None:
        """What is being put together is left undone."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def open(self, tenant: str, session: str, *, ended_at: datetime | None) -> Recording | None:
        """What there is of a session's recording; None where there is no sound yet. `ended_at` is when it ended."""
        for _ in range(_TRIES):
            stored = await self._storage.find(tenant, session)
            if not stored.segments and stored.whole is None:
                return None
            try:
                if stored.pieces is not None:
                    return await self._of_pieces(tenant, session, stored.pieces, whole=stored.whole is not None)
                if ended_at is not None and datetime.now(UTC) > ended_at + SETTLED:
                    await self.complete(tenant, session)
                else:
                    return await self._snapshot(tenant, session)
            except FileNotFoundError:
                continue  # somebody else has put it together meanwhile
        return None

    async def complete(self, tenant: str, session: str) -> bool:
        """Put together for good what a session that is over has left in parts; whether there was anything to do.

        Raises:
            FileNotFoundError: somebody else has done so, or deleted it, meanwhile.
        """
        async with self._assembling:
            stored = await self._storage.find(tenant, session)
            if stored.whole is not None or not stored.segments:
                return False
            data = await assembled(self._storage, stored, self._threads)
            await self._storage.complete(tenant, session, stored, data)
            if not await self._wanted(tenant, session):
                await self._storage.erase(tenant, session)
        return True

    async def _snapshot(self, tenant: str, session: str) -> Recording:
        async with self._assembling:
            now = time.monotonic()
            for key in [key for key, (until, _) in self._snapshots.items() if until < now]:
                del self._snapshots[key]
            known = self._snapshots.get((tenant, session))
            if known is not None:
                return known[1]
            stored = await self._storage.find(tenant, session)
            if stored.pieces is not None or not stored.segments:
                raise FileNotFoundError(f"the segments of session {session!r} are gone")  # look again
            data = await assembled(self._storage, stored, self._threads)
            made = _of_bytes(data, stored)
            self._snapshots[tenant, session] = time.monotonic() + SNAPSHOT_S, made
            if len(self._snapshots) > _SNAPSHOTS:
                self._snapshots.popitem(last=False)
            return made

    async def _of_pieces(
        self, tenant: str, session: str, pieces: tuple[Object, ...], *, whole: bool
    ) -> Recording | None:
        size = sum(piece.size for piece in pieces)
        head = b"" if whole else await self._head(pieces[0])
        if not whole and size <= _SILENT:
            begun = b"".join([await self._storage.read(piece.path) for piece in pieces])
            if begun.count(_PAGE) <= _HEADERS:
                return None

        async def read(start: int, end: int) -> AsyncIterator[bytes]:
            at, begins = start, 0
            for piece in pieces:
                lower, upper = max(at, begins), min(end, begins + piece.size)
                if lower < upper:
                    try:
                        async for chunk in self._storage.stream(piece.path, lower - begins, upper - begins):
                            yield chunk
                            at += len(chunk)
                    except FileNotFoundError:
                        # The call has ended meanwhile, and its whole begins with these parts.
                        found = (await self._storage.find(tenant, session)).whole
                        if whole or found is None or found.size < end or await self._head(found) != head:
                            raise
                        async for chunk in self._storage.stream(found.path, at, end):
                            yield chunk
                        return
                begins += piece.size

        return Recording(size, _version(pieces), _modified(pieces), read)

    async def _head(self, piece: Object) -> bytes:
        return b"".join([chunk async for chunk in self._storage.stream(piece.path, 0, min(_HEAD, piece.size))])


def _of_bytes(data: bytes, stored: Stored) -> Recording:
    async def read(start: int, end: int) -> AsyncIterator[bytes]:
        for at in range(start, end, _CHUNK):
            yield data[at : min(end, at + _CHUNK)]

    parts = tuple(part for segment in stored.segments for part in segment.parts)
    return Recording(len(data), hashlib.sha256(data).hexdigest()[:32], _modified(parts), read)


def _version(pieces: tuple[Object, ...]) -> str:
    told = "\n".join(f"{piece.path} {piece.size} {piece.version} {piece.modified}" for piece in pieces)
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _modified(pieces: tuple[Object, ...]) -> datetime:
    return max(piece.modified for piece in pieces)
