"""Whole tables of what was said, row by row, for other programs: columns, and pages that hold little at a time.

Sessions go by when they began, oldest first; the rows of one follow each other by `seq`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from sqlalchemy import JSON, Boolean, Column, Connection, Float, Integer, Table, func, select, tuple_

from voicebus.adapters.database.finding import Filter, Position, moment, of_sessions
from voicebus.adapters.database.schema import items, sessions, turns
from voicebus.adapters.database.transcripts import Rows
from voicebus.contracts.journal import LOCAL_TENANT


class Kind(StrEnum):
    """What a column holds; `JSON` is any value, `TIME` an aware datetime."""

    TEXT = "text"
    INTEGER = "integer"
    REAL = "real"
    TRUTH = "truth"
    TIME = "time"
    JSON = "json"


class Of(NamedTuple):
    """A session whose rows are exported."""

    session: str
    month: int
    tenant: str
    started_at: int


@dataclass(frozen=True, slots=True)
class RowPlace:
    """Behind which row the rows of some sessions go on."""

    session: str
    seq: int
    key: str


_TABLES: Final[Mapping[Rows, Table]] = {"lines": items, "sessions": sessions, "turns": turns}
_INTERNAL: Final = frozenset({"month", "key", "revised_seq", "session", "tenant", "epoch"})
_TIMES: Final = frozenset({"at", "started_at", "ended_at"})
_KINDS: Final = ((JSON, Kind.JSON), (Boolean, Kind.TRUTH), (Float, Kind.REAL), (Integer, Kind.INTEGER))


def columns(rows: Rows) -> dict[str, Kind]:
    """What each row has, in order."""
    told = {column.name: _kind(column) for column in _TABLES[rows].c if column.name not in _INTERNAL}
    return {"session": Kind.TEXT, "tenant": Kind.TEXT, **told}


def count_sessions(connection: Connection, wanted: Filter) -> int:
    """How many sessions are wanted, by what is known of them (of their lines nothing is asked)."""
    return int(connection.execute(select(func.count(sessions.c.session)).where(*of_sessions(wanted))).scalar_one())


def list_sessions(connection: Connection, wanted: Filter, after: Position | None, limit: int) -> list[Of]:
    """Wanted sessions in the order in which they began, from behind `after` on."""
    query = (
        select(sessions.c.session, sessions.c.month, sessions.c.tenant, sessions.c.started_at)
        .where(*of_sessions(wanted))
        .order_by(sessions.c.started_at, sessions.c.session)
        .limit(limit)
    )
    if after is not None:
        place = tuple_(sessions.c.started_at, sessions.c.session)
        query = query.where(place > tuple_(after.started_at, after.session))
    return [Of(row.session, row.month, row.tenant or LOCAL_TENANT, row.started_at) for row in connection.execute(query)]


def list_rows(
    connection: Connection, rows: Rows, of: Sequence[Of], after: RowPlace | None, limit: int
) -> tuple[list[dict[str, Any]], RowPlace | None]:
    """The rows of these sessions, at most `limit`, and where to go on if there may be more."""
    table = _TABLES[rows]
    tenants = {one.session: one.tenant for one in of}
    if rows == "sessions":
        order = [table.c.session]
    else:
        # Of a line several events may tell, so two lines may have one seq.
        order = [table.c.session, table.c.seq, *([table.c.key] if rows == "lines" else [])]
    query = select(table).where(table.c.session.in_(list(tenants)), table.c.month.in_({one.month for one in of}))
    if after is not None:
        place = (after.session, after.seq, after.key)[: len(order)]
        query = query.where(tuple_(*order) > tuple_(*place))
    found = connection.execute(query.order_by(*order).limit(limit)).mappings().all()
    told = columns(rows)
    made = [
        {"session": row["session"], "tenant": tenants[row["session"]]}
        | {name: _value(kind, row[name]) for name, kind in told.items() if name not in _INTERNAL}
        for row in found
    ]
    if len(found) < limit:
        return made, None
    last = found[-1]
    return made, RowPlace(last["session"], last.get("seq", 0), last.get("key", ""))


def _kind(column: Column[Any]) -> Kind:
    if column.name in _TIMES:
        return Kind.TIME
    return next((kind for of_type, kind in _KINDS if isinstance(column.type, of_type)), Kind.TEXT)


def _value(kind: Kind, value: Any) -> Any:
    if kind is Kind.TIME and value is not None:
        time: datetime = moment(value)
        return time
    return value
