"""Which conversations are wanted, and how the database finds them: by tenant, agent, time, and words.

Words are found as whole words, whatever their case, in lines and in tools' arguments and outputs. Several must all be
in one line; `"two words"` follow each other, `wor*` begins like that. PostgreSQL's full text search and SQLite's FTS5
say what a word is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    tuple_,
)

from voicebus.adapters.database.schema import items, sessions
from voicebus.adapters.database.transcripts import TranscriptSummary
from voicebus.contracts.journal import LOCAL_TENANT

_TERM: Final = re.compile(r'"([^"]*)"?|([^\s"]+)')


@dataclass(frozen=True, slots=True)
class Filter:
    """Which of a tenant's transcripts: begun in [`start`, `end`), with this agent first, with the words of `text` in
    one of their lines.
    """

    tenant: str
    agent: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    text: str | None = None


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


def find(
    connection: Connection, wanted: Filter, limit: int, after: Position | None
) -> tuple[list[TranscriptSummary], Position | None]:
    """Transcripts, newest first, at most `limit`, and where to go on if there are more."""
    looked_for = None if wanted.text is None else terms(wanted.text)
    if looked_for == []:
        return [], None
    of_session = and_(items.c.session == sessions.c.session, items.c.month == sessions.c.month)
    query: Select[Any] = (
        select(sessions.c.session, sessions.c.month, sessions.c.agent, sessions.c.status, sessions.c.started_at)
        .add_columns(sessions.c.ended_at)
        .where(owned_by(wanted.tenant))
        .order_by(sessions.c.started_at.desc(), sessions.c.session.desc())
        .limit(limit + 1)
    )
    if wanted.agent is not None:
        query = query.where(sessions.c.agent == wanted.agent)
    if wanted.start is not None:
        query = query.where(sessions.c.started_at >= _ms(wanted.start))
    if wanted.end is not None:
        query = query.where(sessions.c.started_at < _ms(wanted.end))
    if looked_for is not None:
        said = _said(connection.dialect.name, looked_for)
        query = query.where(select(items.c.seq).where(of_session, said).exists())
    if after is not None:
        place = tuple_(sessions.c.started_at, sessions.c.session)
        query = query.where(place < tuple_(after.started_at, after.session))
    page = query.subquery("page")
    of_page = and_(items.c.session == page.c.session, items.c.month == page.c.month)
    count = select(func.count()).where(of_page).scalar_subquery()
    shown = select(page, count.label("items")).order_by(page.c.started_at.desc(), page.c.session.desc())
    rows = connection.execute(shown).all()
    found = [
        TranscriptSummary(
            session=row.session,
            agent=row.agent,
            status=row.status,
            started_at=moment(row.started_at),
            ended_at=None if row.ended_at is None else moment(row.ended_at),
            items=row.items,
        )
        for row in rows[:limit]
    ]
    last = rows[limit - 1] if len(rows) > limit else None
    return found, Position(last.started_at, last.session) if last else None


def owned_by(tenant: str) -> ColumnElement[bool]:
    """Whether a row of `sessions` is this tenant's."""
    owned = sessions.c.tenant == tenant
    return or_(owned, sessions.c.tenant.is_(None)) if tenant == LOCAL_TENANT else owned


def moment(ms: int) -> datetime:
    """A time of the database."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)


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
