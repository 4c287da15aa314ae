"""Events that are missing in the archive: which sessions have a gap that is looked into, and where it is."""

from typing import Final

from sqlalchemy import Connection, func, select

from voicebus.adapters.database.schema import events, gaps
from voicebus.contracts.journal import EventType

Range = tuple[int, int]
"""First and last `seq`, both missing."""

MAX_SESSIONS: Final = 1_000
MAX_RANGES: Final = 1_000


def with_gaps(connection: Connection) -> list[str]:
    """Sessions with a gap that is looked into, at most `MAX_SESSIONS`."""
    return list(connection.execute(select(gaps.c.session).order_by(gaps.c.session).limit(MAX_SESSIONS)).scalars())


def missing(connection: Connection, session: str) -> list[Range]:
    """What of a session below its newest event is neither stored nor given up, at most `MAX_RANGES`."""
    previous = func.lag(events.c.seq, 1, 0).over(order_by=events.c.seq).label("previous")
    seqs = select(events.c.seq, previous).where(events.c.session == session).subquery()
    holes = select(seqs.c.previous + 1, seqs.c.seq - 1).where(seqs.c.seq > seqs.c.previous + 1).order_by(seqs.c.seq)
    marks = select(events.c.data).where(events.c.session == session, events.c.type == EventType.TRANSCRIPT_GAP)
    ranges: list[Range] = [(first, last) for first, last in connection.execute(holes.limit(MAX_RANGES))]
    for data in connection.execute(marks).scalars():
        ranges = [part for each in ranges for part in without(each, (data["first"], data["last"]))]
    return ranges


def settle(connection: Connection, session: str) -> None:
    """Nothing more is to be looked into."""
    connection.execute(gaps.delete().where(gaps.c.session == session))


def without(whole: Range, part: Range) -> list[Range]:
    """What of a range lies outside of another."""
    before, after = (whole[0], min(whole[1], part[0] - 1)), (max(whole[0], part[1] + 1), whole[1])
    return [each for each in (before, after) if each[0] <= each[1]]
