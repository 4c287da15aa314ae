"""Transcripts while they are written: each line as it comes, and again when it changes, until the session has ended.

Any archiver may have written them, so the database is asked: once for the sessions of all readers, and only of those
that have come further anything else. A reader is given lines at its own pace; nothing is kept for it.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final, NamedTuple

from voicebus.adapters.database.store import TranscriptStore
from voicebus.adapters.database.transcripts import Progress, Revised
from voicebus.errors import StoreError
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

EVERY_S: Final = 0.5
"""How often it is looked for what is new."""
MAX_READERS: Final = 500
"""Readers of one archiver at once."""
MAX_READERS_OF_ONE: Final = 16
"""Readers of one session at once."""

_PAGE: Final = 100


class Restarted(NamedTuple):
    """What was given from `from_seq` on a former owner has written, and it does not count: all lines come again."""

    session: str
    from_seq: int


Told = Revised | Restarted | Progress | None


class TooManyReadersError(Exception):
    """As many read already as may."""


class _Watched:
    """A session that somebody reads. `news` is set anew for each change; `progress` is None once it was erased."""

    def __init__(self, progress: Progress) -> None:
        self.progress: Progress | None = progress
        self.news = asyncio.Event()
        self.readers = 0

    def tell(self, progress: Progress | None) -> None:
        if progress != self.progress:
            self.progress = progress
            self.wake()

    def wake(self) -> None:
        self.news.set()
        self.news = asyncio.Event()


class Tails:
    """Everything that is read here. `close` ends every reader."""

    def __init__(self, store: TranscriptStore) -> None:
        self._store = store
        self._watched: dict[str, _Watched] = {}
        self._readers = 0
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def readers(self) -> int:
        """How many follow a transcript now."""
        return self._readers

    @property
    def looks(self) -> bool:
        """Whether the database is asked for what is new."""
        return self._looking is not None

    def close(self) -> None:
        """The process stops: readers are let go, and come again elsewhere."""
        self._closed = True
        for watched in self._watched.values():
            watched.wake()

    async def follow(self, begun: Progress, after: int, *, idle_s: float) -> AsyncGenerator[Told, None]:
        """Lines whose last revision is above `after`, in the order of the record, then each as it comes or changes.

        None comes first, and where there was nothing for `idle_s`; at last how the session has ended, but where it was
        erased. What is missing of the record is waited for until it has arrived or is given up, so that nothing comes
        twice and nothing is left out for a reader that goes on from the last seq that it has; but that all lines come
        again behind a `Restarted` (`adapters/database/epochs.py`).

        Raises:
            TooManyReadersError: before anything comes.
            StoreError: the database is away; going on later does no harm.
        """
        session = begun.session
        watched = self._watched.get(session) or _Watched(begun)
        if self._readers >= MAX_READERS:
            raise TooManyReadersError(f"this archiver has {MAX_READERS} readers, as many as it may have")
        if watched.readers >= MAX_READERS_OF_ONE:
            raise TooManyReadersError(f"this session has {MAX_READERS_OF_ONE} readers, as many as it may have")
        self._watched[session] = watched
        watched.readers += 1
        self._readers += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="transcript-tails")
        epoch = begun.epoch
        try:
            yield None
            while not self._closed:
                news = watched.news
                progress = watched.progress
                if progress is None:
                    return
                if progress.epoch > epoch:
                    first = await self._store.first_after(progress, epoch)
                    epoch = progress.epoch
                    if first is not None and first <= after:
                        after = 0
                        yield Restarted(progress.session, first)
                upto = await self._settled(progress)
                while after < upto:
                    lines = await self._store.revised(progress, after=after, upto=upto, limit=_PAGE)
                    for line in lines:
                        yield line
                    after = lines[-1].seq if len(lines) == _PAGE else upto
                if progress.status != "active" and upto == progress.last_seq:
                    yield progress
                    return
                try:
                    async with asyncio.timeout(idle_s):
                        await news.wait()
                except TimeoutError:
                    yield None
        finally:
            self._readers -= 1
            watched.readers -= 1
            if not watched.readers:
                del self._watched[session]
            if not self._readers and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def _settled(self, progress: Progress) -> int:
        """The seq up to which the record is complete, or known never to be."""
        if progress.has_gap:
            missing = await self._store.missing(progress.session)
            if missing:
                return min(missing[0][0] - 1, progress.last_seq)
        return progress.last_seq

    async def _look(self) -> None:
        away = False
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                found = await self._store.progress_of(list(self._watched))
            except Exception as error:  # nobody else wakes those that read
                if not away:
                    defect = not isinstance(error, StoreError)
                    log.warning("transcripts cannot be followed now", error=str(error), exc_info=defect)
                away = True
            else:
                away = False
                for session, watched in list(self._watched.items()):
                    watched.tell(found.get(session))
