"""What two owners of one session have written after a fail-over that lost the taking over, on both databases."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import create_engine, select

from support.recorded import ended, entry, recorded, said, started, tool_end, tool_start
from voicebus.adapters.database.epochs import DisplacedError
from voicebus.adapters.database.finding import Filter
from voicebus.adapters.database.ingest import Written
from voicebus.adapters.database.lines import RecordedEvent
from voicebus.adapters.database.schema import events, items, sessions, turns
from voicebus.adapters.database.store import TranscriptStore
from voicebus.contracts.envelope import Entry

USAGE = {"input_tokens": 100, "output_tokens": 50}


def by(epoch: int, *entries: Entry) -> list[RecordedEvent]:
    """As the owner with this epoch has written them, each a few ms later than an owner before it would have."""
    return recorded(*(replace(each, epoch=epoch, at=each.at + 7 * epoch) for each in entries))


def resumed(session: str, seq: int) -> Entry:
    return entry(session, seq, "session_resumed", {"agent": "front_desk", "from_seq": seq - 1})


def turn(session: str, seq: int) -> Entry:
    data = {"response_id": f"resp_{seq}", "agent": "front_desk", "status": "completed", "usage": USAGE}
    return entry(session, seq, "turn_ended", data)


def first_owner(session: str, upto: int) -> list[Entry]:
    """Up to any seq; what is said from 7 on the next owner never knew."""
    told = [
        started(session),
        said(session, 2, "user", "What is the weather?", start=100),
        tool_start(session, 3),
        said(session, 4, "assistant", "One moment.", start=400, item="cut_off"),
        turn(session, 5),
        said(session, 6, "user", "And in Paris?", start=900),
        said(session, 7, "assistant", "One.", start=400, item="cut_off", heard_text="One", truncated=True),
        tool_end(session, 8, output="hail"),
        turn(session, 9),
        entry(session, 10, "handoff", {"from_agent": "front_desk", "to_agent": "billing", "at_ms": 1200}),
        ended(session, 11, "drained"),
    ]
    return told[:upto]


def next_owner(session: str, after: int) -> list[Entry]:
    return [
        resumed(session, after + 1),
        tool_end(session, after + 2),
        said(session, after + 3, "assistant", "Sunny.", start=1500),
        turn(session, after + 4),
        ended(session, after + 5),
    ]


async def write(store: TranscriptStore, batch: Sequence[RecordedEvent]) -> tuple[Written, list[RecordedEvent]]:
    """As the archiver does it: what is to go is kept first, and then the batch is written."""
    try:
        return await store.write(batch), []
    except DisplacedError as displaced:
        kept = list(displaced.events)
        return await store.write(batch, kept={event.claim for event in kept}), kept


def told(url: str, session: str) -> list[list[dict[str, Any]]]:
    """Everything that the tables have of a session, but for its name."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            found = []
            for table in (sessions, events, items, turns):
                query = select(table).where(table.c.session == session).order_by(*table.primary_key)
                found.append([{**row, "session": ""} for row in connection.execute(query).mappings()])
            return found
    finally:
        engine.dispose()


async def test_in_any_order_of_arrival_the_archive_has_what_the_last_owner_went_on_from(
    store: TranscriptStore, database: str
) -> None:
    chance = random.Random(11)
    for last, owners in enumerate([(11, 6), (11, 4), (8, 6, 9), (11, 8, 6), (11, 6, 3)]):
        reference = f"reference-{last}"

        def history(session: str, *, upto: Sequence[int]) -> list[list[RecordedEvent]]:
            first, *others = upto
            written = [by(1, *first_owner(session, first))]
            return written + [by(n, *next_owner(session, after)) for n, after in enumerate(others, start=2)]

        # What counts of each owner's: nothing from where a later one begins.
        for number, mine in enumerate(history(reference, upto=owners)):
            ends = min((after for after in owners[number + 1 :]), default=99)
            await store.write([event for event in mine if event.seq <= ends])
        expected = told(database, reference)
        for number in range(8):
            session = f"shuffled-{last}-{number}"
            everything = list(itertools.chain(*history(session, upto=owners)))
            chance.shuffle(everything)
            refused: set[tuple[str, int, int]] = set()
            left = everything
            while left:
                size = chance.randint(1, len(left))
                written, gone = await write(store, left[:size] + everything[: chance.randint(0, 2)])
                refused |= written.void | {event.claim for event in gone}
                left = left[size:]
            assert told(database, session) == expected, (owners, number)
            stored = {(session, row["seq"], row["epoch"]) for row in expected[1]}
            assert stored | refused >= {event.claim for event in everything}, "nothing goes without a word"
            assert stored.isdisjoint(refused)


async def test_a_session_that_is_taken_over_in_order_loses_nothing(store: TranscriptStore, database: str) -> None:
    assert (await store.write(by(1, *first_owner("s1", 6)))).new == 6
    written = await store.write(by(2, *next_owner("s1", 6)))
    assert written == Written(5)
    assert await store.write(by(1, *first_owner("s1", 6))) == Written(0)
    (row,), stored, *_ = told(database, "s1")
    assert (row["epoch"], row["last_seq"], row["stored"], row["turns"]) == (2, 11, 11, 2)
    assert [event["epoch"] for event in stored] == [1] * 6 + [2] * 5


async def test_nothing_is_deleted_before_it_is_kept_elsewhere(store: TranscriptStore, database: str) -> None:
    await store.write(by(1, *first_owner("s1", 11)))
    before = told(database, "s1")
    coming = by(2, *next_owner("s1", 6))
    with pytest.raises(DisplacedError) as displaced:
        await store.write(coming)
    assert told(database, "s1") == before
    assert [event.claim for event in displaced.value.events] == [("s1", seq, 1) for seq in range(7, 12)]
    assert displaced.value.events[0].data["heard_text"] == "One"
    with pytest.raises(DisplacedError):
        await store.write(coming, kept={event.claim for event in displaced.value.events[1:]})
    assert (await store.write(coming, kept={event.claim for event in displaced.value.events})).new == 5


@pytest.mark.parametrize("unknown", ["stored before", "arrives later"])
async def test_an_event_whose_owner_is_unknown_keeps_its_place_and_takes_none(
    store: TranscriptStore, database: str, unknown: str
) -> None:
    nobodys, known = by(0, *first_owner("s1", 8)), by(2, *next_owner("s1", 6))
    first, second = (nobodys, known) if unknown == "stored before" else (known, nobodys)
    assert await store.write(first) == Written(len(first), frozenset() if first is nobodys else frozenset({"s1"}))
    written = await store.write(second)
    assert (written.void, len(written.taken)) == (frozenset(), 2)
    stored = {row["seq"]: row["epoch"] for row in told(database, "s1")[1]}
    assert [stored[seq] for seq in (7, 8)] == ([0, 0] if first is nobodys else [2, 2])
    assert [stored[seq] for seq in (6, 9, 11)] == [0, 2, 2]


async def test_a_gap_that_was_given_up_in_a_former_owners_part_is_open_again_and_counted_rightly(
    store: TranscriptStore, database: str
) -> None:
    firsts = by(1, *first_owner("s1", 11))
    await store.write([event for event in firsts if event.seq not in (2, 3, 8, 9)])
    marks = [entry("s1", first, "transcript_gap", {"first": first, "last": first + 1}) for first in (2, 8)]
    await store.write(by(0, *marks))
    (row,) = told(database, "s1")[0]
    assert (row["stored"] + row["lost"], row["last_seq"]) == (11, 11)
    written, gone = await write(store, by(2, *next_owner("s1", 6)))
    assert written.gaps == {"s1"}
    assert [event.seq for event in gone] == [7, 10, 11]
    (row,) = told(database, "s1")[0]
    assert (row["stored"], row["lost"], row["last_seq"]) == (9, 0, 11)
    assert await store.missing("s1") == [(2, 3)]
    await store.write([event for event in firsts if event.seq in (2, 3)])
    (row,) = told(database, "s1")[0]
    assert (row["stored"], row["lost"], row["last_seq"]) == (11, 0, 11)


async def test_words_of_what_does_not_count_any_more_are_not_found(store: TranscriptStore) -> None:
    await store.write(by(1, *first_owner("s1", 11)))
    assert await found(store, "hail") == ["s1"]
    await write(store, by(2, *next_owner("s1", 6)))
    assert await found(store, "hail") == []
    assert await found(store, "sunny") == ["s1"]


async def found(store: TranscriptStore, words: str) -> list[str]:
    return [one.session for one in (await store.find(Filter("local", text=words), limit=5))[0]]
