"""Of a session that two owners have written, whose events count: those of the later one, from its first on.

Where a taking over is lost with the master of Redis, nothing keeps the former owner from writing until the new one has
written again. An owner begins behind the last event that it has taken over: what a lower epoch has at that `seq` or
above it is of another course of the session than the one that went on. An event whose owner is unknown (epoch 0: stored
before there was the column, or filled in from what Redis keeps) neither takes a place nor gives its own up.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import Connection, and_, delete, func, null, or_, select

from voicebus.adapters.database.lines import COUNTED, Claim, RecordedEvent
from voicebus.adapters.database.schema import events, items, sessions, turns
from voicebus.adapters.database.transcripts import Progress
from voicebus.contracts.journal import EventType


class Standing(NamedTuple):
    """How far a session has come: the highest epoch, and the highest seq, of what is stored."""

    epoch: int
    last_seq: int


class DisplacedError(Exception):
    """Nothing was written: these stored events are to go for the sake of others, and are to be kept elsewhere first."""

    def __init__(self, displaced: Sequence[RecordedEvent]) -> None:
        super().__init__(f"{len(displaced)} events of former owners are to go")
        self.events = displaced


@dataclass(frozen=True, slots=True)
class Contest:
    """What of a batch does not count (`void`), and what is stored and does not any more (`displaced`)."""

    void: frozenset[Claim] = frozenset()
    displaced: tuple[RecordedEvent, ...] = ()

    @property
    def sessions(self) -> set[str]:
        """Those that lose something which is stored."""
        return {event.session for event in self.displaced}


_NONE: Final = Contest()
_START: Final = Standing(0, 0)


def contest(
    connection: Connection,
    ordered: Sequence[RecordedEvent],
    standings: Mapping[str, Standing],
    months: Mapping[str, int],
) -> Contest:
    """Compare a batch, sorted by session and seq and of those the later owner's first, with itself and with what is
    stored.
    """
    names = _in_question(ordered, standings)
    if not names:
        return _NONE
    stored = _spans(connection, names, months)
    # Of each session and epoch the first event.
    first: dict[str, dict[int, int]] = {name: {} for name in names}
    for name, epoch, seq, _ in stored:
        first[name][epoch] = seq
    for event in ordered:
        if event.epoch and event.session in names:
            known = first[event.session]
            known[event.epoch] = min(event.seq, known.get(event.epoch, event.seq))

    def ends(name: str, epoch: int) -> int | None:
        """From which seq on a later owner has written."""
        return min((seq for later, seq in first[name].items() if later > epoch), default=None)

    void = frozenset(
        event.claim
        for event in ordered
        if event.epoch
        and event.session in names
        and (end := ends(event.session, event.epoch)) is not None
        and event.seq >= end
    )
    lost = [
        and_(events.c.session == name, events.c.month == months[name], events.c.epoch == epoch, events.c.seq >= end)
        for name, epoch, _, last in stored
        if (end := ends(name, epoch)) is not None and last >= end
    ]
    displaced = _read(connection, or_(*lost)) if lost else ()
    return Contest(void, tuple(displaced))


def first_after(connection: Connection, of: Progress, epoch: int) -> int | None:
    """The first seq that an owner later than that of `epoch` has written; None where there is no such owner."""
    wanted = and_(events.c.session == of.session, events.c.month == of.month, events.c.epoch > epoch)
    return connection.execute(select(func.min(events.c.seq)).where(wanted)).scalar()


def remove(connection: Connection, displaced: Iterable[RecordedEvent], months: Mapping[str, int]) -> None:
    """Delete these events, and of their sessions what was derived from all: the lines, the turns, the counts, and the
    marks of gaps that were given up, which are looked into again.
    """
    seqs: dict[str, set[int]] = {}
    for event in displaced:
        seqs.setdefault(event.session, set()).add(event.seq)
    for name, gone in sorted(seqs.items()):
        of_session = and_(events.c.session == name, events.c.month == months[name])
        marks = select(events.c.seq, events.c.data).where(of_session, events.c.type == EventType.TRANSCRIPT_GAP)
        gone |= {row.seq for row in connection.execute(marks) if row.seq == row.data["first"]}
        connection.execute(delete(events).where(of_session, events.c.seq.in_(sorted(gone))))
        for table in (items, turns):
            connection.execute(delete(table).where(table.c.session == name, table.c.month == months[name]))
        unknown = ("agent", "agents", "model", "face", "ended_at", "end_reason", "cost")
        connection.execute(
            sessions.update()
            .where(sessions.c.session == name)
            .values(status="active", last_seq=0, **dict.fromkeys(COUNTED, 0), **dict.fromkeys(unknown, null()))
        )


def of_sessions(connection: Connection, names: Collection[str], months: Mapping[str, int]) -> list[RecordedEvent]:
    """All that is stored of these, by session and seq."""
    wanted = and_(events.c.session.in_(sorted(names)), events.c.month.in_({months[name] for name in names}))
    return list(_read(connection, wanted))


def _in_question(ordered: Sequence[RecordedEvent], standings: Mapping[str, Standing]) -> set[str]:
    """Sessions of which an event may be void or displace another. Nearly always there are none: events come behind
    those that are stored, and are of the same owner or the next.
    """
    found: set[str] = set()
    name, epoch, last_seq = "", 0, 0
    for event in ordered:
        if event.session != name:
            name = event.session
            epoch, last_seq = standings.get(name, _START)
        if event.epoch:
            if event.epoch < epoch or event.seq <= last_seq:
                found.add(name)
            epoch = max(epoch, event.epoch)
    return found


def _spans(
    connection: Connection, names: Collection[str], months: Mapping[str, int]
) -> list[tuple[str, int, int, int]]:
    """What is stored of these by each known owner: session, epoch, its first and its last seq."""
    query = (
        select(events.c.session, events.c.epoch, func.min(events.c.seq), func.max(events.c.seq))
        .where(events.c.session.in_(sorted(names)), events.c.month.in_({months[name] for name in names}))
        .where(events.c.epoch > 0)
        .group_by(events.c.session, events.c.epoch)
    )
    return [(name, epoch, first, last) for name, epoch, first, last in connection.execute(query)]


def _read(connection: Connection, wanted: object) -> Iterator[RecordedEvent]:
    query = select(events).where(wanted).order_by(events.c.session, events.c.seq)  # type: ignore[arg-type]
    for row in connection.execute(query):
        yield RecordedEvent.stored(row.session, row.seq, row.type, row.at, row.epoch, row.data)
