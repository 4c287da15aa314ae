"""Sessions with a line of which more than one thing is wanted, the newest first, on PostgreSQL.

Its planner takes several things for as frequent together as each by itself: two common words that are in no line
together for common, so that it goes through the whole archive in search of the newest. Its index knows which lines
have all words of a phrase, and must read each of those to see whether they follow each other; of common words that is
most of the archive. So the newest sessions are looked through one by one, which is enough for what is common; what is
rarer is asked of the index month by month, until there is enough.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, select, true, tuple_

from voicebus.adapters.database.schema import items, month_of, sessions

WALKED: Final = 500
"""Sessions that are looked through one by one: about 10 ms of a processor."""

_PLACE: Final = tuple_(sessions.c.started_at, sessions.c.session)
_NEWEST_FIRST: Final = (sessions.c.started_at.desc(), sessions.c.session.desc())


def newest_with(
    connection: Connection, wanted: Select[Any], lines: Sequence[ColumnElement[bool]], limit: int
) -> list[Row[Any]]:
    """The newest `limit` of the sessions that `wanted` selects which have a line that fulfils `lines`.

    `wanted` has columns `session` and `started_at`, and no order.
    """
    oldest = connection.execute(wanted.order_by(*_NEWEST_FIRST).offset(WALKED).limit(1)).one_or_none()
    newest = wanted if oldest is None else wanted.where(tuple_(oldest.started_at, oldest.session) < _PLACE)
    found = _walk(connection, newest, lines, limit)
    if oldest is None or len(found) >= limit:
        return found
    rest = wanted.where(tuple_(oldest.started_at, oldest.session) >= _PLACE)
    return found + _by_month(connection, rest, lines, limit - len(found), oldest.started_at)


def _walk(
    connection: Connection, wanted: Select[Any], lines: Sequence[ColumnElement[bool]], limit: int
) -> list[Row[Any]]:
    # As a join that stops at the first line: of an EXISTS the planner would make a set of all such lines.
    of_session = and_(items.c.session == sessions.c.session, items.c.month == sessions.c.month)
    line = select(items.c.seq).where(of_session, *lines).limit(1).lateral("line")
    query = wanted.join_from(sessions, line, true()).order_by(*_NEWEST_FIRST).limit(limit)
    # The lines of a session are found by its key: the index of words would be gone through anew for each session.
    connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
    found = list(connection.execute(query).all())
    connection.exec_driver_sql("SET LOCAL enable_bitmapscan = on")
    return found


def _by_month(
    connection: Connection, wanted: Select[Any], lines: Sequence[ColumnElement[bool]], limit: int, upto: int
) -> list[Row[Any]]:
    """Of sessions that all began at `upto` (ms) or before."""
    first = connection.execute(wanted.with_only_columns(func.min(sessions.c.started_at))).scalar()
    found: list[Row[Any]] = []
    if first is None:
        return found
    for month in _months_back(month_of(upto), month_of(first)):
        hits = select(items.c.session).where(items.c.month == month, *lines).distinct().cte("hits")
        hits = hits.prefix_with("MATERIALIZED", dialect="postgresql")
        query = wanted.where(sessions.c.month == month, sessions.c.session.in_(select(hits.c.session)))
        found += connection.execute(query.order_by(*_NEWEST_FIRST).limit(limit)).all()
        found.sort(key=lambda row: (row.started_at, row.session), reverse=True)
        # A session's month is that in which it began, or a later one. So those that began in this month or after are
        # all known now, and whatever comes from months before is older.
        if sum(month_of(row.started_at) >= month for row in found) >= limit:
            break
    return found[:limit]


def _months_back(last: int, first: int) -> Iterator[int]:
    """The months from the one after `last` (a call that began in it may be told of in the next) down to `first`."""
    year, number = divmod(last, 100)
    index = year * 12 + number
    while (month := index // 12 * 100 + index % 12 + 1) >= first:
        yield month
        index -= 1
