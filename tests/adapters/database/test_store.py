"""The transcript store on both databases."""

import asyncio
import random
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, create_engine, text

from support.recorded import STARTED_AT, conversation, ended, entry, recorded, said, started, tool_end, tool_start
from support.waiting import wait_until
from voicebus.adapters.database.connection import CONNECTIONS
from voicebus.adapters.database.finding import Filter, Position
from voicebus.adapters.database.ingest import Written
from voicebus.adapters.database.store import TranscriptStore
from voicebus.adapters.database.transcripts import Transcript
from voicebus.errors import ContractError, StoreError


async def read(store: TranscriptStore, session: str) -> Transcript:
    transcript = await store.transcript(session, tenant="local")
    assert transcript is not None
    return transcript


def speech(transcript: Transcript) -> list[tuple[str | None, str | None]]:
    return [(item.role or item.tool, item.text or item.output) for item in transcript.items]


async def test_a_conversation_reads_back_in_the_order_it_was_spoken(store: TranscriptStore) -> None:
    assert await store.write(recorded(*conversation("s1"))) == Written(8)
    transcript = await read(store, "s1")
    assert speech(transcript) == [
        ("user", "What is the weather in Paris?"),
        ("get_weather", "sunny"),
        ("assistant", "It is sunny in Paris."),
        ("user", "Thanks, bye."),
    ]
    assert transcript.model_dump(mode="json", exclude={"items"}) == {
        "session": "s1",
        "agent": "front_desk",
        "status": "ended",
        "started_at": "2023-11-14T22:13:20.100000Z",
        "ended_at": "2023-11-14T22:13:20.800000Z",
        "end_reason": "hangup",
        "last_seq": 8,
        "gaps": [],
    }


async def test_what_was_said_faster_than_it_is_spoken_stands_between_what_it_answers_and_its_answer(
    store: TranscriptStore,
) -> None:
    await store.write(
        recorded(
            started("s1"),
            said("s1", 2, "assistant", "Good day.", start=1000),
            said("s1", 3, "user", "Came at once.", start=400),
            said("s1", 4, "user", "And in Paris?", start=9000),
            tool_start("s1", 5, start=2000),
            said("s1", 6, "assistant", "One moment.", start=2500),
            said("s1", 7, "assistant", "Sunny.", start=3000),
            said("s1", 8, "user", "Thanks.", start=9500),
        )
    )
    assert [(item.text or item.tool, item.start_ms) for item in (await read(store, "s1")).items] == [
        ("Good day.", 1000),
        ("Came at once.", 400),
        ("And in Paris?", 9000),
        ("get_weather", 2000),
        ("One moment.", 2500),
        ("Sunny.", 3000),
        ("Thanks.", 9500),
    ]


async def test_a_call_stands_behind_the_words_that_asked_for_it_also_where_they_were_typed_into_an_answer(
    store: TranscriptStore,
) -> None:
    await store.write(
        recorded(
            started("s1"),
            said("s1", 2, "user", "Hello.", start=100),
            said("s1", 3, "assistant", "Good day to you.", start=150),
            tool_start("s1", 4, start=450),
            said("s1", 5, "user", "How are you?", start=200),
            said("s1", 6, "assistant", "Fine, and you?", start=8000),
            said("s1", 7, "user", "And in Paris?", start=400),
            said("s1", 8, "user", "Or in Rome?", start=9000),
            said("s1", 9, "assistant", "Sunny.", start=16_000),
        )
    )
    assert [item.text or item.tool for item in (await read(store, "s1")).items] == [
        "Hello.",
        "Good day to you.",
        "How are you?",
        "Fine, and you?",
        "And in Paris?",
        "get_weather",
        "Or in Rome?",
        "Sunny.",
    ]


async def test_a_line_has_every_field_of_the_contract(store: TranscriptStore) -> None:
    heard: dict[str, Any] = {"heard_text": "It is", "truncated": True}
    await store.write(recorded(*conversation("s1"), said("s1", 9, "assistant", "It is so.", start=9000, **heard)))
    lines = [item.model_dump(mode="json") for item in (await read(store, "s1")).items]
    assert lines[1] == {
        "seq": 2, "at": "2023-11-14T22:13:20.200000Z", "type": "tool_call", "role": None, "agent": "front_desk",
        "item_id": "fc_call_1", "text": None, "heard_text": None, "truncated": None, "start_ms": 300, "end_ms": 340,
        "tool": "get_weather", "call_id": "call_1", "arguments": '{"city": "Paris"}', "output": "sunny",
        "outcome": "ok",
    }  # fmt: skip
    assert lines[-1] == {
        "seq": 9, "at": "2023-11-14T22:13:20.900000Z", "type": "message", "role": "assistant", "agent": "front_desk",
        "item_id": "item_9", "text": "It is so.", "heard_text": "It is", "truncated": True, "start_ms": 9000,
        "end_ms": 9500, "tool": None, "call_id": None, "arguments": None, "output": None, "outcome": None,
    }  # fmt: skip


async def test_handoffs_guardrails_and_errors_are_lines_too(store: TranscriptStore) -> None:
    handoff = {"from_agent": "front_desk", "to_agent": "billing", "call_id": "call_9", "at_ms": 10}
    tripped = {"response_id": "r", "item_id": "i", "agent": "billing", "guardrails": ["no_prices"], "message": "5 euro"}
    failed = {"code": "rate_limit", "message": "Slow down.", "source": "model", "at_ms": 30}
    await store.write(
        recorded(
            started("s1"),
            entry("s1", 2, "handoff", handoff),
            entry("s1", 3, "guardrail_tripped", tripped | {"at_ms": 20}),
            entry("s1", 4, "error", failed),
        )
    )
    lines = (await read(store, "s1")).items
    assert [(line.type, line.agent, line.text, line.outcome, line.start_ms) for line in lines] == [
        ("handoff", "front_desk", "front_desk -> billing", None, 10),
        ("guardrail", "billing", "5 euro", "no_prices", 20),
        ("error", None, "Slow down.", "rate_limit", 30),
    ]


async def test_events_written_again_change_nothing(store: TranscriptStore) -> None:
    await store.write(recorded(*conversation("s1")))
    before = await read(store, "s1")
    assert await store.write(recorded(*conversation("s1"))) == Written(0)
    assert await read(store, "s1") == before


@pytest.mark.parametrize("apart", [True, False], ids=["in another batch", "in the same batch"])
async def test_an_event_whose_seq_another_one_has_is_told_of_and_changes_nothing(
    store: TranscriptStore, apart: bool
) -> None:
    events = recorded(*conversation("s1"))
    (rival,) = recorded(replace(said("s1", 3, "user", "Of another owner", start=100), at=STARTED_AT + 999))
    if apart:
        await store.write(events)
        written = await store.write([rival, *events])
        assert (written.new, written.taken) == (0, frozenset({rival.identity}))
    else:
        assert (await store.write([rival, *events])).taken == {rival.identity}
    assert (await store.write(events)).taken == frozenset()
    said_by_user = [item.text for item in (await read(store, "s1")).items if item.role == "user"]
    assert said_by_user == ["What is the weather in Paris?", "Thanks, bye."]


async def test_any_order_of_arrival_in_any_batches_gives_the_same_transcript(store: TranscriptStore) -> None:
    in_order = conversation("s1")
    await store.write(recorded(*in_order))
    expected = (await read(store, "s1")).model_dump(exclude={"session"})
    chance = random.Random(7)
    for number in range(12):
        session = f"shuffled-{number}"
        events = recorded(*conversation(session))
        chance.shuffle(events)
        while events:
            size = chance.randint(1, len(events))
            await store.write(events[:size] + events[: chance.randint(0, size)])
            events = events[size:]
        found = (await read(store, session)).model_dump(exclude={"session"})
        assert found == expected, session


async def test_a_call_that_has_not_ended_is_a_line_without_an_outcome(store: TranscriptStore) -> None:
    await store.write(recorded(started("s1"), tool_start("s1", 2)))
    line = (await read(store, "s1")).items[0]
    assert (line.tool, line.output, line.outcome, line.end_ms) == ("get_weather", None, None, None)


async def test_a_call_that_waits_for_a_person_stands_where_it_was_made(store: TranscriptStore) -> None:
    wanted = {"call_id": "call_1", "tool": "get_weather", "arguments": "{}", "agent": "front_desk", "at_ms": 900}
    decided = {"call_id": "call_1", "approved": True}
    waiting = [
        started("s1"), said("s1", 2, "user", "And the weather?", start=500),
        entry("s1", 3, "tool_approval_required", wanted),
    ]  # fmt: skip
    await store.write(recorded(*waiting))
    line = (await read(store, "s1")).items[-1]
    assert (line.type, line.tool, line.arguments, line.outcome, line.start_ms) == (
        "tool_call", "get_weather", "{}", None, 900,
    )  # fmt: skip
    more = [
        entry("s1", 4, "tool_approval_decided", decided), tool_start("s1", 5, start=4000),
        tool_end("s1", 6, start=4000),
    ]  # fmt: skip
    await store.write(recorded(*more))
    transcript = await read(store, "s1")
    assert (speech(transcript), transcript.gaps) == ([("user", "And the weather?"), ("get_weather", "sunny")], [])
    assert (transcript.items[-1].start_ms, transcript.items[-1].outcome) == (4000, "ok")


async def test_a_refused_call_is_a_line_that_says_what_the_model_was_told(store: TranscriptStore) -> None:
    told = {"output": "Not today.", "outcome": "error", "started_ms": 800, "ended_ms": 800, "worker": None}
    call = {"call_id": "c", "item_id": "i", "tool": "pay", "arguments": "{}", "agent": "front_desk"}
    await store.write(recorded(started("s1"), entry("s1", 2, "tool_end", {**call, **told})))
    line = (await read(store, "s1")).items[0]
    assert (line.tool, line.output, line.outcome, line.start_ms) == ("pay", "Not today.", "error", 800)


async def test_what_was_withheld_is_in_the_transcript_as_said_and_not_heard(store: TranscriptStore) -> None:
    hidden = said("s1", 2, "assistant", "The secret.", start=100, heard_text="", truncated=True, withheld=True)
    input_trip = {
        "response_id": "", "item_id": "i", "agent": "front_desk", "guardrails": ["no_threats"], "message": "Hands up.",
        "at_ms": 900, "stage": "input", "withheld": False,
    }  # fmt: skip
    await store.write(recorded(started("s1"), hidden, entry("s1", 3, "guardrail_tripped", input_trip)))
    said_line, trip = (await read(store, "s1")).items
    assert (said_line.text, said_line.heard_text, said_line.truncated) == ("The secret.", "", True)
    assert (trip.type, trip.text, trip.outcome, trip.item_id) == ("guardrail", "Hands up.", "no_threats", "i")


async def test_an_open_session_is_active_and_a_crashed_one_interrupted(store: TranscriptStore) -> None:
    await store.write(recorded(started("open"), started("crashed"), ended("crashed", 2, "interrupted")))
    assert (await read(store, "open")).status == "active"
    assert (await read(store, "open")).ended_at is None
    assert (await read(store, "crashed")).status == "interrupted"


async def test_missing_seqs_show_as_gaps_and_close_when_they_arrive(store: TranscriptStore) -> None:
    events = recorded(*conversation("s1"))
    written = await store.write([event for event in events if event.seq in (3, 4, 8)])
    assert written == Written(3, frozenset({"s1"}))
    transcript = await read(store, "s1")
    assert transcript.gaps == [(1, 2), (5, 7)]
    assert (transcript.last_seq, transcript.agent) == (8, None)
    await store.write([event for event in events if event.seq in (1, 6)])
    assert (await read(store, "s1")).gaps == [(2, 2), (5, 5), (7, 7)]
    await store.write(events)
    assert (await read(store, "s1")).gaps == []


async def test_an_unknown_type_of_this_version_is_kept_and_makes_no_line(store: TranscriptStore) -> None:
    await store.write(recorded(started("s1"), entry("s1", 2, "something_new", {"x": 1})))
    transcript = await read(store, "s1")
    assert (transcript.last_seq, transcript.gaps, transcript.items) == (2, [], [])


async def test_text_that_a_database_cannot_hold_does_not_hold_up_the_rest(store: TranscriptStore) -> None:
    await store.write(recorded(started("s1"), said("s1", 2, "user", "a\x00b 😀 'quoted' %s \\", start=1)))
    assert (await read(store, "s1")).items[0].text == "a\ufffdb 😀 'quoted' %s \\"


async def test_a_value_that_the_database_refuses_is_told_apart_from_an_outage(store: TranscriptStore) -> None:
    bad = said("s1", 2, "user", "far away", start=10**30)
    with pytest.raises(ContractError) as refused:
        await store.write(recorded(started("s1"), bad))
    assert refused.value.reason == "rejected_by_database"
    assert await store.transcript("s1", tenant="local") is None, "a batch is written whole or not at all"


async def test_an_empty_batch_is_no_work(store: TranscriptStore) -> None:
    assert await store.write([]) == Written(0)


async def test_an_unknown_session_has_no_transcript(store: TranscriptStore) -> None:
    assert await store.transcript("none", tenant="local") is None


async def test_a_large_batch_is_written_whole(store: TranscriptStore) -> None:
    events = [event for number in range(400) for event in recorded(*conversation(f"s{number}"))]
    assert (await store.write(events)).new == 3200
    found, _ = await store.find(Filter("local"), limit=500)
    assert {summary.items for summary in found} == {4}
    assert len(found) == 400


async def test_several_writers_at_once_store_each_event_once(database: str) -> None:
    events = [event for number in range(20) for event in recorded(*conversation(f"s{number}"))]

    async def write(store: TranscriptStore, seed: int) -> int:
        mine = events.copy()
        random.Random(seed).shuffle(mine)
        return sum([(await store.write(mine[at : at + 16])).new for at in range(0, len(mine), 16)])

    async with TranscriptStore(database) as one, TranscriptStore(database) as other:
        counts = await asyncio.gather(*(write(store, seed) for seed, store in enumerate([one, other, one, other])))
        assert sum(counts) == len(events)
        for number in range(20):
            assert len((await read(one, f"s{number}")).items) == 4


async def walk(store: TranscriptStore, wanted: Filter, limit: int) -> list[str]:
    found: list[str] = []
    after: Position | None = None
    while True:
        page, after = await store.find(wanted, limit=limit, after=after)
        assert len(page) <= limit
        found += [summary.session for summary in page]
        if after is None:
            return found


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
async def test_a_cursor_walks_the_whole_list_newest_first(store: TranscriptStore, limit: int) -> None:
    # Three begin in each ms, so that the cursor cannot lean on the time alone.
    events = [started(f"s{number:02}", at=STARTED_AT + number // 3) for number in range(14)]
    await store.write(recorded(*events))
    assert await walk(store, Filter("local"), limit) == [f"s{number:02}" for number in reversed(range(14))]


async def test_a_list_is_filtered_by_agent_time_and_words(store: TranscriptStore) -> None:
    events = [started(f"s{number}", agent="ab"[number % 2]) for number in range(6)]
    events += [said("s4", 2, "user", "100% of_it", start=0), said("s5", 2, "user", "100 kg off it", start=0)]
    events += [tool_end("s2", 2, output="Cloudy")]
    events = [replace(event, at=STARTED_AT + 1000 * int(event.session[1:])) for event in events]
    await store.write(recorded(*events))
    origin = datetime.fromtimestamp(STARTED_AT / 1000, UTC)
    second = timedelta(seconds=1)
    assert await walk(store, Filter("local", agent="a"), 10) == ["s4", "s2", "s0"]
    assert await walk(store, Filter("local", start=origin + 2 * second, end=origin + 4 * second), 10) == ["s3", "s2"]
    assert await walk(store, Filter("local", text="100% OF_"), 10) == ["s4"]
    assert await walk(store, Filter("local", text="cloudy"), 10) == ["s2"]
    assert await walk(store, Filter("local", agent="b", text="100"), 10) == ["s5"]
    assert await walk(store, Filter("local", agent="nobody"), 10) == []


async def test_deleting_a_session_deletes_what_it_said(store: TranscriptStore, database: str) -> None:
    await store.write(recorded(*conversation("s1"), *conversation("s2")))
    engine = create_engine(database)
    with engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        connection.exec_driver_sql("DELETE FROM sessions WHERE session = 's1'")
        left = connection.exec_driver_sql("SELECT DISTINCT session FROM events UNION SELECT session FROM items").all()
    engine.dispose()
    assert left == [("s2",)]


async def test_every_call_on_a_database_that_is_away_raises_the_stores_error() -> None:
    async with TranscriptStore("postgresql+psycopg://user:s3cret@127.0.0.1:1/calls") as store:
        for call in (
            store.check(),
            store.write(recorded(started("s1"))),
            store.transcript("s1", tenant="local"),
            walk(store, Filter("local"), 1),
        ):
            with pytest.raises(StoreError, match=r"^the database 127\.0\.0\.1:1/calls failed: ") as failed:
                await call
            assert "s3cret" not in str(failed.value)


async def test_the_probe_does_not_wait_for_readers(store: TranscriptStore) -> None:
    let_go = threading.Event()
    reads = [asyncio.create_task(store._run(lambda _: let_go.wait(30))) for _ in range(CONNECTIONS)]
    try:
        await wait_until(store._reading.locked, description="every reader's slot to be taken")
        async with asyncio.timeout(20):
            await store.check()
        assert not any(read.done() for read in reads)
    finally:
        let_go.set()
        await asyncio.gather(*reads)


async def test_the_end_of_a_store_waits_for_work_whose_caller_was_cancelled(tmp_path: Path) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work(connection: Connection) -> None:
        connection.execute(text("SELECT 1"))
        begun.set()
        go_on.wait(10)
        connection.execute(text("SELECT 1"))
        ended.set()

    async with TranscriptStore(f"sqlite:///{tmp_path / 'any.db'}") as store:
        task = asyncio.create_task(store._run(work))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        asyncio.get_running_loop().call_later(0.05, go_on.set)
    assert ended.is_set(), "its connection was closed by itself"
