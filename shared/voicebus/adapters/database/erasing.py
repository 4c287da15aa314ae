"""Erasing what was kept: which sessions are due, their rows and their months' partitions, and the proof of it.

A row of `erasures` is that proof, and keeps what arrives late from being written again. How large a recording is has to
be said before it goes (`announce`): the note is right then, whoever dies meanwhile. Whoever erases is alone for the
moment of it: writers hold a lock of their transaction together, which an erasure takes for itself. SQLite has one
writer at a time anyway.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    and_,
    case,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite

from voicebus.adapters.database.answering import limit_statements
from voicebus.adapters.database.schema import PARTITIONED, announced, erasures, events, gaps, items, sessions, turns
from voicebus.contracts.journal import LOCAL_TENANT

REQUEST: Final = "request"
RETENTION: Final = "retention"
RECORDING: Final = "recording"

NEVER_ENDED_MS: Final = 48 * 3600 * 1000
"""How much older a session has to be that nothing has ended: none lasts as long, so it never will be."""

# Any number does, if it is always the same.
_ADVISORY_LOCK: Final = 8_613_402_279
_LOCK_TIMEOUT_MS: Final = 2_000
_COUNTING_TIMEOUT_S: Final = 600.0
# Before all times.
_NEVER: Final = -1
_CHILDREN: Final = (events, items, turns)
_INSERTS: Final[Mapping[str, Callable[..., Any]]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}

T = TypeVar("T")


class Doing(Protocol):
    """Does this in a transaction."""

    def __call__(self, work: Callable[[Connection], T], /) -> Awaitable[T]: ...


@dataclass(frozen=True, slots=True)
class Known:
    """A session of the archive. `tenant` is whose it counts as."""

    session: str
    tenant: str
    month: int
    status: str
    started_at: int


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """Before when (ms) a session has to have ended to be due, by tenant; None is never. `others`: of all the rest."""

    tenants: Mapping[str, int | None]
    others: int | None = None


@dataclass(frozen=True, slots=True)
class Erasure:
    """A row of `erasures`."""

    session: str
    tenant: str | None
    reason: str
    at: int
    rows: int
    recording_bytes: int


class Gone(NamedTuple):
    """How much was erased of a session."""

    rows: int
    recording_bytes: int


def stay_while_writing(connection: Connection) -> None:
    """Nobody erases until this transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock_shared(:number)"), {"number": _ADVISORY_LOCK})


def erased(connection: Connection, names: Sequence[str]) -> set[str]:
    """Those of these sessions of which nothing is to be written any more."""
    query = select(erasures.c.session).where(erasures.c.session.in_(names), erasures.c.reason != RECORDING)
    return set(connection.execute(query).scalars())


class _SomeStayError(Exception):
    """A month has sessions that are not due after all."""


class Erasing:
    """Every method raises `StoreError` when the database is away or fails, and may be called again then."""

    def __init__(self, write: Doing, read: Doing, purge: Callable[[], Awaitable[bool]]) -> None:
        self._write = write
        self._read = read
        self._purge = purge

    async def due(self, cutoffs: Cutoffs, *, limit: int) -> list[Known]:
        """Sessions that are due, oldest first."""
        return await self._read(lambda connection: _known(connection, _due(cutoffs), limit))

    async def due_recordings(self, cutoffs: Cutoffs, *, limit: int) -> list[Known]:
        """Sessions whose recordings are due, and have not been erased for that."""
        return await self._read(lambda connection: _known(connection, and_(_due(cutoffs), ~_silenced), limit))

    async def count(self, cutoffs: Cutoffs) -> dict[str, int]:
        """How many sessions are due, by tenant."""
        return await self._read(lambda connection: _count(connection, _due(cutoffs)))

    async def count_recordings(self, cutoffs: Cutoffs, *, beside: Cutoffs) -> dict[str, int]:
        """Of how many sessions the recordings alone are due, by tenant: those that are due `beside` go whole. Some may
        have none.
        """
        alone = and_(_due(cutoffs), ~_due(beside), ~_silenced)
        return await self._read(lambda connection: _count(connection, alone))

    async def find(self, names: Sequence[str]) -> list[Known]:
        """What the archive has of these sessions."""
        return await self._read(lambda connection: _known(connection, sessions.c.session.in_(names), len(names)))

    async def before(self, tenant: str | None, at_ms: int, *, limit: int, after: str = "") -> list[Known]:
        """A tenant's (None: every tenant's) sessions that began before, by their ids, those above `after`."""
        wanted = and_(sessions.c.started_at < at_ms, sessions.c.session > after)
        whose = wanted if tenant is None else and_(wanted, _tenant == tenant)
        return await self._read(lambda connection: _known(connection, whose, limit, by_id=True))

    async def announce(self, recording_bytes: Mapping[str, int]) -> None:
        """So large are the recordings of these sessions that are about to be erased. Of what was announced before and
        is not noted yet, the larger counts: it has not gone whole, or something came after it.
        """
        if recording_bytes:
            await self._write(lambda connection: _announce(connection, recording_bytes))

    async def announced(self, names: Collection[str]) -> set[str]:
        """Those of these sessions whose recordings were announced, and are not noted yet."""
        if not names:
            return set()
        query = select(announced.c.session).where(announced.c.session.in_(list(names)))
        return await self._read(lambda connection: set(connection.execute(query).scalars()))

    async def erase(self, names: Mapping[str, str], reason: str, at_ms: int) -> dict[str, Gone]:
        """Erase sessions (by id, with their tenants) in one transaction, whether there is anything of them or not, and
        note that, with what was announced of their recordings. Nothing of them is written after it.
        """
        if not names:
            return {}
        return await self._write(lambda connection: _erase(connection, names, reason, at_ms))

    async def note_recordings(self, names: Mapping[str, str], at_ms: int) -> dict[str, Gone]:
        """These sessions' recordings were erased as they were announced, and their transcripts stay."""
        if not names:
            return {}
        return await self._write(lambda connection: _note(connection, names, RECORDING, at_ms, dict.fromkeys(names, 0)))

    async def drop_month(self, cutoffs: Cutoffs, month: int, at_ms: int) -> int:
        """Drop the partitions of a month of which every session is due, and note that they are erased; returns the
        rows that went. Their rows of `sessions` are left for `erase`. 0 where there is nothing to drop.
        """
        try:
            return await self._write(lambda connection: _drop_month(connection, cutoffs, month, at_ms))
        except _SomeStayError:
            return 0

    async def months(self, before: int) -> list[int]:
        """The months below `before` (YYYYMM) that have partitions of their own."""
        return await self._read(lambda connection: _months(connection, before))

    async def left(self, names: Collection[str]) -> int:
        """How many rows there are of these sessions, in every table: none, once they are erased."""
        return await self._read(lambda connection: _left(connection, list(names)))

    async def of_session(self, session: str) -> list[Erasure]:
        """What was erased of a session, by whom it was asked."""
        query = select(erasures).where(erasures.c.session == session).order_by(erasures.c.at)
        return await self._read(lambda connection: [_erasure(row) for row in connection.execute(query)])

    async def since(self, at_ms: int, *, limit: int) -> list[Erasure]:
        """The erasures since a moment, newest first."""
        query = select(erasures).where(erasures.c.at >= at_ms).order_by(erasures.c.at.desc()).limit(limit)
        return await self._read(lambda connection: [_erasure(row) for row in connection.execute(query)])

    async def purge(self) -> bool:
        """Have the database overwrite what it still holds of deleted rows; see `connection.purge`."""
        return await self._purge()


_tenant: Final = func.coalesce(sessions.c.tenant, LOCAL_TENANT)
# Whether the recording of a session was erased, and its transcript kept.
_silenced: Final = exists().where(erasures.c.session == sessions.c.session, erasures.c.reason == RECORDING)


def _due(cutoffs: Cutoffs) -> ColumnElement[bool]:
    """Whether a row of `sessions` is due."""
    named = {tenant: _NEVER if at is None else at for tenant, at in cutoffs.tenants.items()}
    others = _NEVER if cutoffs.others is None else cutoffs.others
    cutoff: Any = literal(others, BigInteger)
    if named:
        cutoff = case(*((_tenant == tenant, literal(at, BigInteger)) for tenant, at in named.items()), else_=cutoff)
    # What the index of `started_at` helps with: nothing is due that has begun after all of them.
    latest = max((*named.values(), others))
    over = and_(sessions.c.status != "active", func.coalesce(sessions.c.ended_at, sessions.c.started_at) < cutoff)
    return and_(sessions.c.started_at < latest, or_(over, sessions.c.started_at < cutoff - NEVER_ENDED_MS))


def _known(connection: Connection, wanted: ColumnElement[bool], limit: int, *, by_id: bool = False) -> list[Known]:
    query = select(sessions.c.session, _tenant, sessions.c.month, sessions.c.status, sessions.c.started_at)
    order = (sessions.c.session,) if by_id else (sessions.c.started_at, sessions.c.session)
    return [Known(*row) for row in connection.execute(query.where(wanted).order_by(*order).limit(limit))]


def _count(connection: Connection, wanted: ColumnElement[bool]) -> dict[str, int]:
    query = select(_tenant, func.count()).select_from(sessions).where(wanted).group_by(_tenant)
    return {str(tenant): int(number) for tenant, number in connection.execute(query)}


def _announce(connection: Connection, recording_bytes: Mapping[str, int]) -> None:
    told = _INSERTS[connection.dialect.name](announced)
    larger = case((announced.c.recording_bytes > told.excluded.recording_bytes, announced.c.recording_bytes),
                  else_=told.excluded.recording_bytes)  # fmt: skip
    told = told.on_conflict_do_update(index_elements=[announced.c.session], set_={"recording_bytes": larger})
    rows = [{"session": name, "recording_bytes": size} for name, size in sorted(recording_bytes.items())]
    connection.execute(told, rows)


def _erase(connection: Connection, names: Mapping[str, str], reason: str, at_ms: int) -> dict[str, Gone]:
    _alone(connection)
    rows = dict.fromkeys(sorted(names), 0)
    months = set(connection.execute(select(sessions.c.month).where(sessions.c.session.in_(list(rows)))).scalars())
    for table in _CHILDREN:
        counted = select(table.c.session, func.count()).where(
            table.c.session.in_(list(rows)), table.c.month.in_(sorted(months))
        )
        for session, number in connection.execute(counted.group_by(table.c.session)):
            rows[session] += number
    # What belongs to them goes with them (ON DELETE CASCADE).
    gone = connection.execute(delete(sessions).where(sessions.c.session.in_(list(rows))).returning(sessions.c.session))
    for session in gone.scalars():
        rows[session] += 1
    return _note(connection, names, reason, at_ms, rows)


def _note(
    connection: Connection, names: Mapping[str, str], reason: str, at_ms: int, rows: Mapping[str, int]
) -> dict[str, Gone]:
    told = delete(announced).where(announced.c.session.in_(list(names)))
    sizes = {row.session: row.recording_bytes for row in connection.execute(told.returning(*announced.c))}
    gone = {session: Gone(rows[session], sizes.get(session, 0)) for session in sorted(names)}
    noted = _INSERTS[connection.dialect.name](erasures)
    noted = noted.on_conflict_do_update(
        index_elements=[erasures.c.session, erasures.c.reason],
        set_={
            "rows": erasures.c.rows + noted.excluded.rows,
            "recording_bytes": erasures.c.recording_bytes + noted.excluded.recording_bytes,
        },
    )
    connection.execute(
        noted,
        [
            {"session": session, "reason": reason, "at": at_ms, "tenant": names[session], "rows": of.rows,
             "recording_bytes": of.recording_bytes}
            for session, of in gone.items()
        ],
    )  # fmt: skip
    return gone


def _drop_month(connection: Connection, cutoffs: Cutoffs, month: int, at_ms: int) -> int:
    """Counting comes first, as it takes its time; then it is alone for the moment in which the partitions go."""
    if connection.dialect.name != "postgresql":
        return 0
    limit_statements(connection, _COUNTING_TIMEOUT_S)
    connection.execute(text(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}"))
    stays = select(exists().where(sessions.c.month == month, ~_due(cutoffs)))
    partitions = [name for table in PARTITIONED if _exists(connection, name := f"{table}_{month}")]
    if len(partitions) < len(PARTITIONED) or connection.execute(stays).scalar():
        return 0
    union = " UNION ALL ".join(f"SELECT session FROM {name}" for name in partitions)  # noqa: S608 - names from above
    connection.execute(
        text(
            "INSERT INTO erasures (session, reason, at, tenant, rows)"  # noqa: S608
            f" SELECT sessions.session, '{RETENTION}', :at, sessions.tenant, count(*)"
            f" FROM sessions JOIN ({union}) AS parts ON parts.session = sessions.session"
            " WHERE sessions.month = :month GROUP BY sessions.session, sessions.tenant"
            " ON CONFLICT (session, reason) DO UPDATE SET rows = erasures.rows + excluded.rows"
        ),
        {"at": at_ms, "month": month},
    )
    rows = sum(connection.execute(text(f"SELECT count(*) FROM {name}")).scalar() or 0 for name in partitions)  # noqa: S608
    _alone(connection)
    if connection.execute(stays).scalar():
        raise _SomeStayError
    for name in partitions:
        connection.execute(text(f"DROP TABLE {name}"))
    return rows


def _alone(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _ADVISORY_LOCK})


def _months(connection: Connection, before: int) -> list[int]:
    if connection.dialect.name != "postgresql":
        return []
    query = text("SELECT relid::regclass::text FROM pg_partition_tree('events') WHERE isleaf ORDER BY 1")
    names = [str(name).rpartition("_")[2] for name in connection.execute(query).scalars()]
    return [int(name) for name in names if name.isdecimal() and int(name) < before]


def _left(connection: Connection, names: list[str]) -> int:
    tables = (sessions, gaps, *_CHILDREN)
    return sum(
        connection.execute(select(func.count()).select_from(table).where(table.c.session.in_(names))).scalar() or 0
        for table in tables
    )


def _exists(connection: Connection, name: str) -> bool:
    return connection.execute(text("SELECT to_regclass(:name)"), {"name": name}).scalar() is not None


def _erasure(row: Any) -> Erasure:
    return Erasure(row.session, row.tenant, row.reason, row.at, row.rows, row.recording_bytes)
