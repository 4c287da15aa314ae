"""Which conversations are wanted, and how the database finds them: by tenant, agent, time, status, and their lines.

Words are found as whole words, whatever their case, in lines and in tools' arguments and outputs. Several must all be
in one line; `"two words"` follow each other, `wor*` begins like that. PostgreSQL's full text search and SQLite's FTS5
say what a word is.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    RowMapping,
    Select,
    and_,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    true,
    tuple_,
)

from voicebus.adapters.database.newest import newest_with
from voicebus.adapters.database.schema import items, sessions
from voicebus.adapters.database.transcripts import (
    Item,
    ItemType,
    Progress,
    Revised,
    Role,
    Status,
    TranscriptSummary,
    in_conversation_order,
)
from voicebus.contracts.journal import LOCAL_TENANT

_WORD: Final = re.compile(r"\w+")
_TERM: Final = re.compile(r'"([^"]*)"?|([^\s"]+)')


@dataclass(frozen=True, slots=True)
class Filter:
    """Which of a tenant's transcripts (of every tenant's: None): begun in [`start`, `end`), with this agent first, of
    this status, and with one line that is of this type, by this role, and has the words of `text`.
    """

    tenant: str | None
    agent: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    text: str | None = None
    status: Status | None = None
    role: Role | None = None
    type: ItemType | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a list goes on: behind the session that began at `started_at` (ms)."""

    started_at: int
    session: str


class Term(NamedTuple):
    """One word, several that follow each other, or (`prefix`) how words begin."""

    words: str
    prefix: bool = False


def terms(query: str) -> list[Term]:
    """What a query looks for; nothing where it has no letter or digit."""
    found = []
    for match in _TERM.finditer(query):
        phrase, word = match.groups()
        words = phrase if phrase is not None else word.rstrip("*")
        if any(character.isalnum() for character in words):
            found.append(Term(words, phrase is None and word.endswith("*")))
    return found


def missed(connection: Connection) -> str | None:
    """One sentence, for a database whose locale makes a search miss words; None for any other."""
    if connection.dialect.name != "postgresql":
        return None
    same = "SELECT to_tsvector('simple', 'É Я') = to_tsvector('simple', 'é я')"
    if connection.exec_driver_sql(same).scalar():
        return None
    locale = "SELECT datctype FROM pg_database WHERE datname = current_database()"
    return (
        f"a search finds É, and Cyrillic or Greek letters, only in the case in which they were said, as the database's"
        f" locale (LC_CTYPE) is {connection.exec_driver_sql(locale).scalar()}; make one with"
        " CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'"
    )


def find(
    connection: Connection, wanted: Filter, limit: int, after: Position | None
) -> tuple[list[TranscriptSummary], Position | None]:
    """Transcripts, newest first, at most `limit`, and where to go on if there are more."""
    lines = _lines(connection.dialect.name, wanted)
    if lines is None:
        return [], None
    query: Select[Any] = (
        select(sessions.c.session, sessions.c.month, sessions.c.agent, sessions.c.status, sessions.c.started_at)
        .add_columns(sessions.c.ended_at)
        .where(*of_sessions(wanted))
    )
    if after is not None:
        place = tuple_(sessions.c.started_at, sessions.c.session)
        query = query.where(place < tuple_(after.started_at, after.session))
    if connection.dialect.name == "postgresql" and lines and not _is_one_word(wanted):
        rows = newest_with(connection, query, lines, limit + 1)
    else:
        if lines:
            of_session = and_(items.c.session == sessions.c.session, items.c.month == sessions.c.month)
            query = query.where(select(items.c.seq).where(of_session, *lines).exists())
        newest_first = query.order_by(sessions.c.started_at.desc(), sessions.c.session.desc())
        rows = list(connection.execute(newest_first.limit(limit + 1)).all())
    counts = _counts(connection, rows[:limit])
    found = [
        TranscriptSummary(
            session=row.session,
            agent=row.agent,
            status=row.status,
            started_at=moment(row.started_at),
            ended_at=None if row.ended_at is None else moment(row.ended_at),
            items=counts.get(row.session, 0),
        )
        for row in rows[:limit]
    ]
    last = rows[limit - 1] if len(rows) > limit else None
    return found, Position(last.started_at, last.session) if last else None


def _counts(connection: Connection, of: Sequence[Row[Any]]) -> Mapping[str, int]:
    """How many lines these sessions have."""
    names, months = [row.session for row in of], {row.month for row in of}
    query = select(items.c.session, func.count()).where(items.c.session.in_(names), items.c.month.in_(months))
    return {row.session: row[1] for row in connection.execute(query.group_by(items.c.session))}


def matching(connection: Connection, wanted: Filter, sessions_found: Sequence[str]) -> Mapping[str, list[Item]]:
    """Of these transcripts, the lines for which `find` found them, by session, in the order they were spoken."""
    lines = _lines(connection.dialect.name, wanted)
    if not lines or not sessions_found:
        return {}
    of_session = and_(items.c.session == sessions.c.session, items.c.month == sessions.c.month)
    query = select(items).join(sessions, of_session).where(sessions.c.session.in_(sessions_found), *lines)
    found: dict[str, list[Item]] = {}
    for row in connection.execute(query).mappings():
        found.setdefault(row["session"], []).append(item_of(row))
    return {session: in_conversation_order(items_found) for session, items_found in found.items()}


def progress(connection: Connection, names: Collection[str], tenant: str | None) -> dict[str, Progress]:
    """How far those of these sessions have come that are this tenant's (None: anybody's) and were recorded."""
    told = [column for column in sessions.c if column.name in Progress.__slots__]
    query = select(*told).where(sessions.c.session.in_(names), owned_by(tenant))
    found = {}
    for row in connection.execute(query).mappings():
        ended_at = row["ended_at"]
        found[row["session"]] = Progress(**{**row, "ended_at": None if ended_at is None else moment(ended_at)})
    return found


def revised(connection: Connection, of: Progress, after: int, upto: int, limit: int) -> list[Revised]:
    """Of a session the first `limit` lines whose last revision has a seq above `after`, up to `upto`."""
    query = (
        select(items)
        .where(items.c.session == of.session, items.c.month == of.month)
        .where(items.c.revised_seq > after, items.c.revised_seq <= upto)
        .order_by(items.c.revised_seq)
        .limit(limit)
    )
    return [Revised(row["revised_seq"], item_of(row)) for row in connection.execute(query).mappings()]


def item_of(row: RowMapping) -> Item:
    """A line, of a row of `items`."""
    return Item(**{name: row[name] for name in Item.model_fields} | {"at": moment(row["at"])})


def owned_by(tenant: str | None) -> ColumnElement[bool]:
    """Whether a row of `sessions` is this tenant's; None is everybody's."""
    if tenant is None:
        return true()
    owned = sessions.c.tenant == tenant
    return or_(owned, sessions.c.tenant.is_(None)) if tenant == LOCAL_TENANT else owned


def moment(ms: int) -> datetime:
    """A time of the database."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def of_sessions(wanted: Filter) -> list[ColumnElement[bool]]:
    """What is wanted of a row of `sessions`."""
    conditions = [owned_by(wanted.tenant)]
    if wanted.agent is not None:
        conditions.append(sessions.c.agent == wanted.agent)
    if wanted.status is not None:
        conditions.append(sessions.c.status == wanted.status)
    if wanted.start is not None:
        conditions.append(sessions.c.started_at >= _ms(wanted.start))
    if wanted.end is not None:
        conditions.append(sessions.c.started_at < _ms(wanted.end))
    return conditions


def _lines(dialect: str, wanted: Filter) -> list[ColumnElement[bool]] | None:
    """What is wanted of a row of `items`; None where no row can be it."""
    conditions = []
    if wanted.role is not None:
        # Nothing else has one, and the index is by type first.
        conditions += [items.c.role == wanted.role, items.c.type == "message"]
    if wanted.type is not None:
        conditions.append(items.c.type == wanted.type)
    if wanted.text is not None:
        looked_for = terms(wanted.text)
        if not looked_for:
            return None
        conditions.append(_said(dialect, looked_for))
    return conditions


def _is_one_word(wanted: Filter) -> bool:
    """Whether lines are wanted for one word alone, of which the database knows how frequent it is. What is written as
    one may be several (`check-in`).
    """
    return wanted.role is None and wanted.type is None and len(_WORD.findall(wanted.text or "")) == 1


def _said(dialect: str, looked_for: Sequence[Term]) -> ColumnElement[bool]:
    """Whether a row of `items` has all of these in its words (see migration 0004)."""
    if dialect == "sqlite":
        match = " AND ".join(_fts5(term) for term in looked_for)
        rows = text("SELECT rowid FROM item_words WHERE item_words MATCH :match").bindparams(match=match)
        return literal_column("items.rowid").in_(rows)
    query = _tsquery(looked_for[0])
    for term in looked_for[1:]:
        query = query.op("&&")(_tsquery(term))
    return literal_column("items.words").op("@@", is_comparison=True)(query)


def _fts5(term: Term) -> str:
    words = term.words.replace('"', '""')
    return f'"{words}"{" *" if term.prefix else ""}'


def _tsquery(term: Term) -> ColumnElement[Any]:
    if term.prefix:
        quoted = term.words.replace("\\", "\\\\").replace("'", "''")
        return func.to_tsquery(literal_column("'simple'"), literal(f"'{quoted}':*"))
    return func.phraseto_tsquery(literal_column("'simple'"), literal(term.words))
