"""Writing a batch of recorded events: what is new of it goes into every table, in the caller's transaction.

A batch is sent as one JSON text per table on PostgreSQL, which the server turns into rows: a fraction of the work, for
this process, of binding each value. SQLite takes the rows one by one.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from sqlalchemy import Column, Connection, Table, and_, bindparam, case, func, select
from sqlalchemy.dialects import postgresql, sqlite

from voicebus.adapters.database.epochs import DisplacedError, Standing, contest, of_sessions, remove
from voicebus.adapters.database.erasing import erased, stay_while_writing
from voicebus.adapters.database.lines import (
    AGENT_EVENTS,
    COUNTED,
    ITEM_FIELDS,
    Claim,
    Identity,
    RecordedEvent,
    Row,
    agents_of,
    merge_sessions,
)
from voicebus.adapters.database.schema import events, gaps, items, month_of, sessions, turns
from voicebus.contracts.journal import EventType, SessionResumed, SessionStarted

_INSERTS: Final[Mapping[str, Callable[[Table], Any]]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_encode: Final = msgspec.json.Encoder().encode


Redact = Callable[[str | None, RecordedEvent, Counter[str]], RecordedEvent]
"""An event as it may be written, by its tenant (None: nobody knows it); the counts say how often each rule took
something from it.
"""


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did: how many events were new, in which sessions events below the newest one are missing, how often
    each rule took something from the new ones. Where two owners of a session have written (a fail-over that lost the
    taking over), also which were not stored: as another event has their seq (`taken`), or as they do not count from
    where the later owner has begun (`void`).
    """

    new: int
    gaps: frozenset[str] = frozenset()
    redacted: Counter[str] = field(default_factory=Counter)
    taken: frozenset[Identity] = frozenset()
    void: frozenset[Claim] = frozenset()


class Ingest:
    """The statements for one kind of database (`sqlite` or `postgresql`); `write` may be called again and again."""

    def __init__(self, dialect: str, redact: Redact | None = None) -> None:
        self._redact = redact
        self._whole = dialect == "postgresql"
        self._insert = _INSERTS[dialect]
        self._new_sessions = self._rows(sessions, ("session", "month", "status", "started_at", "last_seq"))
        self._new_sessions = self._new_sessions.on_conflict_do_nothing()
        self._events = self._unless_known(self._rows(events, [column.name for column in events.c]))
        self._gaps = self._rows(gaps, ("session",)).on_conflict_do_nothing()
        self._items = self._merging_items(self._rows(items, [column.name for column in items.c]))
        self._turns = self._rows(turns, [column.name for column in turns.c if column.name != "cost"])
        self._sessions = self._merging_sessions(
            self._rows(sessions, [column.name for column in sessions.c if column.name not in ("agents", "cost")])
        )

    def write(
        self, connection: Connection, batch: Sequence[RecordedEvent], kept: Collection[Claim] = frozenset()
    ) -> Written:
        """Store what is new of a batch; what was stored before changes nothing.

        Raises:
            DisplacedError: what is stored is to go, and not `kept`.
        """
        if not batch:
            return Written(0)
        stay_while_writing(connection)
        # Sorted: two writers lock in the same order, and a line's later event comes later.
        ordered = sorted(batch, key=_order)
        months, tenants, standings, given_up = self._known(connection, ordered)
        ordered = [event for event in ordered if event.session in months]
        rivals = contest(connection, ordered, standings, months)
        if rivals.void:
            ordered = [event for event in ordered if event.claim not in rivals.void]
        anew = rivals.sessions
        if anew:
            if any(event.claim not in kept for event in rivals.displaced):
                raise DisplacedError(rivals.displaced)
            remove(connection, rivals.displaced, months)
            given_up.forget(anew)
        ordered, counts = self._redacted(ordered, tenants)
        rows = [{**event.event_row(), "month": months[event.session]} for event in ordered]
        stored = {(row.session, row.seq) for row in self._execute(connection, self._events, _once(rows))}
        places = {_key(event): event for event in ordered if _key(event) in stored}
        taken = self._taken(connection, ordered, places, months) if len(places) < len(ordered) else frozenset()
        if not stored and not anew:
            return Written(0, taken=taken, void=rivals.void)
        new = list(places.values())
        if anew:
            new = [event for event in new if event.session not in anew] + of_sessions(connection, anew, months)
        self._execute(connection, self._items, _merged_items(_dated(months, (event.item_row() for event in new))))
        self._execute(connection, self._turns, _dated(months, (event.turn_row() for event in new)))
        told = merge_sessions(given_up.mended(_dated(months, (event.session_row() for event in new))))
        behind = frozenset(
            row.session
            for row in self._execute(connection, self._sessions, told)
            if row.last_seq > row.stored + row.lost
        )
        self._execute(connection, self._gaps, [{"session": session} for session in sorted(behind)])
        self._tell_agents(connection, {event.session for event in new if event.type in AGENT_EVENTS}, months)
        redacted = sum((counts[key] for key in stored if key in counts), Counter[str]())
        return Written(len(stored), behind, redacted, taken, rivals.void)

    @staticmethod
    def _taken(
        connection: Connection,
        ordered: Sequence[RecordedEvent],
        places: Mapping[tuple[str, int], RecordedEvent],
        months: Mapping[str, int],
    ) -> frozenset[Identity]:
        """Of a batch whose new events are at `places` the others that are not stored either."""
        holders: dict[tuple[str, int], tuple[Any, ...]] = {key: event.identity for key, event in places.items()}
        known = [event for event in ordered if _key(event) not in holders]
        if known:
            columns = select(events.c.session, events.c.seq, events.c.type, events.c.at).where(
                events.c.session.in_({event.session for event in known}),
                events.c.seq.in_({event.seq for event in known}),
                events.c.month.in_({months[event.session] for event in known}),
            )
            holders |= {(row.session, row.seq): tuple(row) for row in connection.execute(columns)}
        return frozenset(
            event.identity for event in ordered if holders.get(_key(event), event.identity) != event.identity
        )

    def _redacted(
        self, ordered: list[RecordedEvent], tenants: dict[str, str | None]
    ) -> tuple[list[RecordedEvent], Mapping[tuple[str, int], Counter[str]]]:
        if self._redact is None:
            return ordered, {}
        for event in ordered:
            if isinstance(event.event, SessionStarted | SessionResumed):
                tenants[event.session] = tenants.get(event.session) or event.event.tenant
        counts: dict[tuple[str, int], Counter[str]] = {_key(event): Counter() for event in ordered}
        redact = self._redact
        return [redact(tenants.get(event.session), event, counts[_key(event)]) for event in ordered], counts

    def _known(
        self, connection: Connection, ordered: Sequence[RecordedEvent]
    ) -> tuple[dict[str, int], dict[str, str | None], dict[str, Standing], "_GivenUp"]:
        """The months of a batch's sessions, made where they are not there yet, the tenants that are known of them, how
        far they have come, and what was given up of them. A session that was erased has none.
        """
        first: dict[str, int] = {}
        for event in ordered:
            first.setdefault(event.session, event.at)
        names = list(first)
        told = ("session", "month", "tenant", "epoch", "last_seq", "lost")
        known = select(*(sessions.c[name] for name in told))
        found = connection.execute(known.where(sessions.c.session.in_(names))).all()
        months = {row.session: row.month for row in found}
        tenants = {row.session: row.tenant for row in found}
        missing = [name for name in names if name not in months]
        if missing:
            gone = erased(connection, missing)
            missing = [name for name in missing if name not in gone]
        if missing:
            rows = [
                {"session": name, "month": month_of(first[name]), "status": "active", "started_at": first[name],
                 "last_seq": 0}
                for name in missing
            ]  # fmt: skip
            self._execute(connection, self._new_sessions, rows)
            months |= {
                row.session: row.month for row in connection.execute(known.where(sessions.c.session.in_(missing)))
            }
        standings = {row.session: Standing(row.epoch, row.last_seq) for row in found}
        return months, tenants, standings, _GivenUp.of(connection, [row.session for row in found if row.lost])

    def _tell_agents(self, connection: Connection, names: set[str], months: Mapping[str, int]) -> None:
        """Work out anew which agents these sessions went through: events may arrive in any order."""
        if not names:
            return
        moves = (
            select(events.c.session, events.c.type, events.c.data)
            .where(
                events.c.session.in_(sorted(names)),
                events.c.month.in_({months[name] for name in names}),
                events.c.type.in_(AGENT_EVENTS),
            )
            .order_by(events.c.session, events.c.seq)
        )
        told: dict[str, list[tuple[str, Mapping[str, Any]]]] = {name: [] for name in names}
        for row in connection.execute(moves):
            told[row.session].append((row.type, row.data))
        update = sessions.update().where(sessions.c.session == bindparam("name")).values(agents=bindparam("path"))
        connection.execute(update, [{"name": name, "path": agents_of(moves)} for name, moves in sorted(told.items())])

    def _rows(self, table: Table, names: Iterable[str]) -> Any:
        """An INSERT of rows with these columns; see `_execute`."""
        columns = [table.c[name] for name in names]
        insert = self._insert(table)
        if not self._whole:
            return insert.values({column.name: bindparam(column.name, type_=column.type) for column in columns})
        rows = func.json_to_recordset(bindparam("rows")).table_valued(
            *(Column(column.name, column.type) for column in columns), name="rows"
        )
        return insert.from_select([column.name for column in columns], select(rows.render_derived(with_types=True)))

    def _execute(self, connection: Connection, statement: Any, rows: Sequence[Row]) -> Any:
        if not rows:
            return ()
        return connection.execute(statement, {"rows": _encode(rows).decode()} if self._whole else rows)

    @staticmethod
    def _merging_items(insert: Any) -> Any:
        old, new = items.c, insert.excluded
        first, last = new.seq < old.seq, new.revised_seq >= old.revised_seq
        merged: dict[str, Any] = {
            "seq": case((first, new.seq), else_=old.seq),
            "at": case((first, new.at), else_=old.at),
            "revised_seq": case((last, new.revised_seq), else_=old.revised_seq),
        }
        for name in ITEM_FIELDS:
            merged[name] = case((last, func.coalesce(new[name], old[name])), else_=func.coalesce(old[name], new[name]))
        return insert.on_conflict_do_update(index_elements=[old.session, old.key, old.month], set_=merged)

    @staticmethod
    def _merging_sessions(insert: Any) -> Any:
        old, new = sessions.c, insert.excluded
        ends = new.ended_at.is_not(None)
        return insert.on_conflict_do_update(
            index_elements=[old.session],
            set_={
                **{name: func.coalesce(old[name], new[name]) for name in ("agent", "tenant", "model", "face")},
                "started_at": case((new.started_at < old.started_at, new.started_at), else_=old.started_at),
                **{name: case((new[name] > old[name], new[name]), else_=old[name]) for name in ("last_seq", "epoch")},
                **{name: case((ends, new[name]), else_=old[name]) for name in ("status", "ended_at", "end_reason")},
                **{name: old[name] + new[name] for name in COUNTED},
            },
        ).returning(old.session, old.last_seq, old.stored, old.lost)

    @staticmethod
    def _unless_known(insert: Any) -> Any:
        """What is stored stays, but for the mark of a gap: what was missing there has arrived after all."""
        old, new = events.c, insert.excluded
        return insert.on_conflict_do_update(
            index_elements=[old.session, old.seq, old.month],
            set_={name: new[name] for name in ("type", "at", "epoch", "data")},
            where=and_(old.type == EventType.TRANSCRIPT_GAP, new.type != EventType.TRANSCRIPT_GAP),
        ).returning(old.session, old.seq)


class _GivenUp:
    """The gaps of some sessions that were given up: ranges of `seq`. Nearly always there are none."""

    def __init__(self, ranges: Mapping[str, Sequence[tuple[int, int]]]) -> None:
        self._ranges = ranges

    @classmethod
    def of(cls, connection: Connection, names: Sequence[str]) -> "_GivenUp":
        ranges: dict[str, list[tuple[int, int]]] = {}
        if names:
            marks = select(events.c.session, events.c.seq, events.c.data).where(
                events.c.session.in_(names), events.c.type == EventType.TRANSCRIPT_GAP
            )
            for row in connection.execute(marks):
                if row.seq == row.data["first"]:
                    ranges.setdefault(row.session, []).append((row.seq, row.data["last"]))
        return cls(ranges)

    def forget(self, names: Collection[str]) -> None:
        """Nothing of these is given up any more."""
        self._ranges = {name: ranges for name, ranges in self._ranges.items() if name not in names}

    def mended(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Rows of sessions for their new events, counted rightly where one was given up before."""
        for row in rows if self._ranges else ():
            for first, last in self._ranges.get(row["session"], ()):
                if row["last_seq"] == first:  # it has taken the mark's place, and the rest of the gap is open again
                    row["stored"], row["lost"] = 0, first - last
                elif first < row["last_seq"] <= last:
                    row["lost"] -= 1
        return rows


def _key(event: RecordedEvent) -> tuple[str, int]:
    return event.session, event.seq


def _order(event: RecordedEvent) -> tuple[str, int, int]:
    return event.session, event.seq, -event.epoch


def _once(rows: Iterable[Row]) -> list[Row]:
    """One row per event: one statement may touch a row once."""
    return list({(row["session"], row["seq"]): row for row in rows}.values())


def _dated(months: Mapping[str, int], rows: Iterable[Row | None]) -> list[Row]:
    return [{**row, "month": months[row["session"]]} for row in rows if row is not None]


def _merged_items(rows: Iterable[Row]) -> list[Row]:
    """One row per line (one statement may touch a row once); of two the later event's word counts."""
    merged: dict[tuple[str, str], Row] = {}
    for row in rows:
        known = merged.setdefault((row["session"], row["key"]), row)
        if known is not row:
            known["revised_seq"] = row["revised_seq"]
            known |= {name: row[name] for name in ITEM_FIELDS if row[name] is not None}
    return list(merged.values())
