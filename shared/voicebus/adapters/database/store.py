"""The one place that writes and reads transcripts; the same statements on SQLite and PostgreSQL."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final, Self, TypeVar

from sqlalchemy import (
    Connection,
    Engine,
    and_,
    func,
    select,
)

from voicebus.adapters.database.connection import (
    CONNECTIONS,
    in_thread,
    mapped_errors,
    open_engine,
    purge,
    reading,
    require_migrated,
    searching,
    writing,
)
from voicebus.adapters.database.epochs import first_after
from voicebus.adapters.database.erasing import Erasing
from voicebus.adapters.database.exporting import RowPlace, count_sessions, list_rows, list_sessions
from voicebus.adapters.database.finding import (
    Filter,
    Position,
    find,
    item_of,
    matching,
    missed,
    moment,
    owned_by,
    progress,
    revised,
)
from voicebus.adapters.database.gaps import Range, missing, settle, with_gaps
from voicebus.adapters.database.ingest import Ingest, Redact, Written
from voicebus.adapters.database.lines import Claim, RecordedEvent
from voicebus.adapters.database.partitions import create_partitions
from voicebus.adapters.database.schema import events, items, sessions
from voicebus.adapters.database.transcripts import (
    Item,
    LastEvent,
    Progress,
    Revised,
    Rows,
    Transcript,
    TranscriptSummary,
    in_conversation_order,
)
from voicebus.contracts.journal import EventType
from voicebus.telemetry import metrics

T = TypeVar("T")
Transaction = Callable[[Engine], AbstractContextManager[Connection]]

SEARCH_TIMEOUT_S: Final = 5.0

CLOSING_S: Final = 5.0
"""How long the end of a store waits for work whose caller was cancelled."""

MAX_UNFINISHED: Final = 10_000
"""Sessions without an end that are told of at once."""


class _Working:
    """Counts the threads that are at work; each enters it as a context manager."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Return once none is; False where that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count == 0, timeout_s)


class TranscriptStore:
    """Transcripts in a database. Safe to share by tasks: one writes at a time, a few read, and others wait their turn.

    Every method raises `StoreError` when the database is away or fails: trying again may work.
    """

    def __init__(self, url: str, *, redact: Redact | None = None) -> None:
        """Nothing connects yet. Nothing is written that did not go through `redact`, which runs in a thread. `where` is
        the database's name for sentences.

        Raises:
            SettingsError: `url` is not the address of a supported database.
        """
        self.where: str
        self._engine, self.where = open_engine(url)
        self._ingest = Ingest(self._engine.dialect.name, redact)
        # One connection is kept for the writer and one for the probe, so that readers, however many and slow, neither
        # hold up the archive nor make the database look away.
        self._writing = asyncio.Semaphore(1)
        self._probing = asyncio.Semaphore(1)
        self._reading = asyncio.Semaphore(CONNECTIONS - 2)
        self._working = _Working()
        self._erasing = Erasing(self._write, self._run, lambda: in_thread(lambda: purge(self._engine)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        # What was cancelled goes on in its thread, with a connection that nobody would close after this.
        await in_thread(lambda: self._working.wait(CLOSING_S))
        self._engine.dispose()

    async def check(self) -> None:
        """Make sure that the database answers and has this release's schema.

        Raises:
            StoreError: it is away or not migrated; the sentence says what to do.
        """

        def look() -> None:
            with self._working:
                require_migrated(self._engine, self.where)

        async with self._probing:
            await in_thread(look)

    async def missed(self) -> str | None:
        """One sentence, where searches miss words for the sake of the database's locale."""
        return await self._run(missed)

    async def write(self, batch: Sequence[RecordedEvent], *, kept: Collection[Claim] = frozenset()) -> Written:
        """Store a batch in one transaction; events stored before change nothing.

        Raises:
            ContractError: the database refuses some event of the batch for good; nothing of it was stored.
            DisplacedError: events of a former owner are to go; nothing of the batch was stored. Keep them elsewhere,
                and call again, with them in `kept`.
        """
        written = await self._run(lambda connection: self._ingest.write(connection, batch, kept), writing)
        for rule, count in written.redacted.items():
            metrics.REDACTIONS.labels(rule=rule).inc(count)
        return written

    async def prepare_months(self, month: int) -> list[str]:
        """Make the partitions that are missing of a month (YYYYMM) and the next ones; returns the names of those made.

        Nothing on SQLite. An archiver whose user may not create tables gets `StoreError` of it.
        """
        return await self._run(lambda connection: create_partitions(connection, month), writing)

    async def tenant(self, session: str) -> str | None:
        """Whose a session is, as far as it is known.

        Raises:
            ContractError: there can be no such session.
        """
        query = select(sessions.c.tenant).where(sessions.c.session == session)
        return await self._run(lambda connection: connection.execute(query).scalar())

    async def find(
        self, wanted: Filter, *, limit: int, after: Position | None = None
    ) -> tuple[list[TranscriptSummary], Position | None]:
        """Transcripts, newest first, at most `limit`, and where to go on if there are more.

        Words are looked for in every line of what is wanted: after `SEARCH_TIMEOUT_S` that is given up with StoreError.
        """
        search = partial(searching, seconds=SEARCH_TIMEOUT_S)
        return await self._run(lambda connection: find(connection, wanted, limit, after), search)

    async def matching(self, wanted: Filter, sessions: Sequence[str]) -> Mapping[str, list[Item]]:
        """Of these transcripts, which `find` gave, the lines for which they were found, by session."""
        search = partial(searching, seconds=SEARCH_TIMEOUT_S)
        return await self._run(lambda connection: matching(connection, wanted, sessions), search)

    async def transcript(self, session: str, *, tenant: str | None) -> Transcript | None:
        """One transcript, of this tenant or (None) of any; None for a session of which nothing was recorded."""
        return await self._run(lambda connection: _transcript(connection, session, tenant))

    async def progress(self, session: str, *, tenant: str | None) -> Progress | None:
        """How far a session of this tenant or (None) of any has come; None where nothing was recorded of it."""
        return (await self._run(lambda connection: progress(connection, [session], tenant))).get(session)

    async def last_event(self, session: str) -> LastEvent | None:
        """The newest event of a session of any tenant that has not ended; None where there is no such session."""
        gap = sessions.c.last_seq > sessions.c.stored + sessions.c.lost
        newest = and_(events.c.session == sessions.c.session, events.c.month == sessions.c.month)
        query = (
            select(sessions.c.tenant, sessions.c.started_at, sessions.c.last_seq, sessions.c.epoch, events.c.at, gap)
            .join(events, and_(newest, events.c.seq == sessions.c.last_seq))
            .where(sessions.c.session == session, sessions.c.status == "active")
        )
        row = await self._run(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else LastEvent(*row)

    async def progress_of(self, names: Collection[str]) -> Mapping[str, Progress]:
        """How far these sessions of any tenant have come, those that there are."""
        return await self._run(lambda connection: progress(connection, names, None))

    async def revised(self, of: Progress, *, after: int, upto: int, limit: int) -> list[Revised]:
        """Of a session the first `limit` lines whose last revision has a seq above `after`, up to `upto`."""
        return await self._run(lambda connection: revised(connection, of, after, upto, limit))

    async def first_after(self, of: Progress, epoch: int) -> int | None:
        """The first seq of a session that an owner later than that of `epoch` has written, if there is one."""
        return await self._run(lambda connection: first_after(connection, of, epoch))

    async def export(
        self,
        rows: Rows,
        wanted: Filter,
        *,
        after: Position | None = None,
        sessions_at_once: int = 50,
        rows_at_once: int = 2000,
    ) -> AsyncGenerator[tuple[list[dict[str, Any]], int, Position | None], None]:
        """All rows of the sessions that `wanted` describes (but for its words), page by page, oldest session first,
        from behind `after` on.

        Each page comes with how many sessions are done, and where to go on after it, None in the midst of sessions.
        What is recorded meanwhile may be among them.
        """
        done = 0
        while of := await self._run(partial(list_sessions, wanted=wanted, after=after, limit=sessions_at_once)):
            place: RowPlace | None = None
            while True:
                page, place = await self._run(partial(list_rows, rows=rows, of=of, after=place, limit=rows_at_once))
                if place is None:
                    after, done = Position(of[-1].started_at, of[-1].session), done + len(of)
                    yield page, done, after
                    break
                yield page, done, None

    async def count(self, wanted: Filter) -> int:
        """How many sessions `wanted` describes (but for its words)."""
        return await self._run(lambda connection: count_sessions(connection, wanted))

    @property
    def erasing(self) -> "Erasing":
        """What erases in this database; it waits its turn among those who write."""
        return self._erasing

    async def unfinished(self) -> list[str]:
        """The sessions that have not ended, newest first; at most `MAX_UNFINISHED`."""
        query = select(sessions.c.session).where(sessions.c.status == "active")
        query = query.order_by(sessions.c.started_at.desc()).limit(MAX_UNFINISHED)
        return await self._run(lambda connection: list(connection.execute(query).scalars()))

    async def with_gaps(self) -> list[str]:
        """Sessions of which events are missing that nobody has given up yet; at most `MAX_SESSIONS`."""
        return await self._run(with_gaps)

    async def missing(self, session: str) -> list[Range]:
        """The ranges of `seq` that are missing there and not given up; at most `MAX_RANGES`."""
        return await self._run(lambda connection: missing(connection, session))

    async def settle(self, session: str) -> None:
        """Nothing more is to be looked into of this session's gaps, until another one comes."""
        await self._run(lambda connection: settle(connection, session), writing)

    async def _write(self, work: Callable[[Connection], T]) -> T:
        return await self._run(work, writing)

    async def _run(self, work: Callable[[Connection], T], transaction: Transaction = reading) -> T:
        def run() -> T:
            with self._working, mapped_errors(self.where), transaction(self._engine) as connection:
                return work(connection)

        async with self._writing if transaction is writing else self._reading:
            return await in_thread(run)


def _transcript(connection: Connection, session: str, tenant: str | None) -> Transcript | None:
    row = connection.execute(select(sessions).where(sessions.c.session == session, owned_by(tenant))).one_or_none()
    if row is None:
        return None
    previous = func.lag(events.c.seq, 1, 0).over(order_by=events.c.seq).label("previous")
    arrived = and_(events.c.session == session, events.c.type != EventType.TRANSCRIPT_GAP)
    seqs = select(events.c.seq, previous).where(arrived).subquery()
    gaps = select(seqs.c.previous + 1, seqs.c.seq - 1).where(seqs.c.seq > seqs.c.previous + 1).order_by(seqs.c.seq)
    lines = connection.execute(select(items).where(items.c.session == session)).mappings()
    return Transcript(
        session=row.session,
        agent=row.agent,
        status=row.status,
        started_at=moment(row.started_at),
        ended_at=None if row.ended_at is None else moment(row.ended_at),
        end_reason=row.end_reason,
        last_seq=row.last_seq,
        gaps=[(first, last) for first, last in connection.execute(gaps)],
        items=in_conversation_order(item_of(line) for line in lines),
    )
