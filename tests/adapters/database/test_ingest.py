"""What is kept beside the transcript's text, on both databases: a session's path and use, turns, a call's worker."""

import itertools
import random
from typing import Any

import pytest
from sqlalchemy import Table, create_engine, select

from support.recorded import STARTED_AT, conversation, ended, entry, recorded, said, started, tool_end, tool_start
from voicebus.adapters.database.lines import tokens
from voicebus.adapters.database.schema import events, items, month_of, sessions, turns
from voicebus.adapters.database.store import TranscriptStore
from voicebus.contracts.envelope import Entry

USAGE = {
    "total_tokens": 150, "input_tokens": 100, "output_tokens": 50,
    "input_token_details": {"text_tokens": 60, "audio_tokens": 40, "cached_tokens": 30},
    "output_token_details": {"text_tokens": 10, "audio_tokens": 40},
}  # fmt: skip


def rows(url: str, table: Table) -> list[dict[str, Any]]:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()]
    finally:
        engine.dispose()


def turn(session: str, seq: int, **more: Any) -> Entry:
    data = {"response_id": f"resp_{seq}", "agent": "front_desk", "status": "completed"}
    return entry(session, seq, "turn_ended", {**data, **more})


def handoff(session: str, seq: int, source: str, target: str) -> Entry:
    return entry(session, seq, "handoff", {"from_agent": source, "to_agent": target, "at_ms": 100 * seq})


def long_call(session: str) -> list[Entry]:
    return [
        started(session),
        turn(session, 2, usage=USAGE, latencies={"total": 900.5, "first_audio": 310.2, "first_text": 120.0}),
        handoff(session, 3, "front_desk", "billing"),
        tool_start(session, 4),
        tool_end(session, 5),
        turn(session, 6, usage=USAGE),
        handoff(session, 7, "billing", "front_desk"),
        entry(session, 8, "session_resumed", {"agent": "front_desk", "from_seq": 7}),
        ended(session, 9),
    ]


async def test_a_session_tells_what_it_ran_on_went_through_and_used(store: TranscriptStore, database: str) -> None:
    await store.write(recorded(*long_call("s1")))
    (row,) = rows(database, sessions)
    assert row == {
        "session": "s1", "month": 202311, "tenant": "local", "agent": "front_desk",
        "agents": ["front_desk", "billing", "front_desk"], "model": "gpt-realtime-2.1", "face": "native",
        "status": "ended", "started_at": STARTED_AT + 100, "ended_at": STARTED_AT + 900, "end_reason": "hangup",
        "last_seq": 9, "epoch": 1, "stored": 9, "lost": 0, "turns": 2, "input_tokens": 200, "input_cached_tokens": 60,
        "input_audio_tokens": 80, "output_tokens": 100, "output_audio_tokens": 80, "cost": None,
    }  # fmt: skip


async def test_each_turn_has_its_latencies_and_tokens(store: TranscriptStore, database: str) -> None:
    await store.write(recorded(*long_call("s1")))
    first, second = rows(database, turns)
    assert first == {
        "session": "s1", "month": 202311, "seq": 2, "at": STARTED_AT + 200, "response_id": "resp_2",
        "agent": "front_desk", "status": "completed", "first_audio_ms": 310.2, "first_text_ms": 120.0,
        "total_ms": 900.5, "input_tokens": 100, "input_cached_tokens": 30, "input_audio_tokens": 40,
        "output_tokens": 50, "output_audio_tokens": 40, "cost": None,
    }  # fmt: skip
    assert (second["first_audio_ms"], second["first_text_ms"], second["total_ms"]) == (None, None, None)


async def test_lines_have_what_only_their_type_has(store: TranscriptStore, database: str) -> None:
    tripped = {"response_id": "r1", "item_id": "i", "agent": "a", "guardrails": ["prices"], "message": "5 euro"}
    await store.write(
        recorded(
            started("s1"),
            tool_end("s1", 2),
            handoff("s1", 3, "front_desk", "billing"),
            entry("s1", 4, "guardrail_tripped", {**tripped, "info": {"score": 0.9}, "at_ms": 20, "withheld": True}),
            entry("s1", 5, "error", {"code": "rate_limit", "message": "Slow down.", "source": "model", "at_ms": 30}),
            said("s1", 6, "assistant", "secret", start=40, withheld=True),
        )
    )
    lines = {row["seq"]: row for row in rows(database, items)}
    assert (lines[2]["worker"], lines[2]["duration_ms"], lines[2]["details"]) == ("w-1", 40, None)
    assert [lines[seq]["details"] for seq in (3, 4, 5, 6)] == [
        {"to_agent": "billing"},
        {"stage": "output", "response_id": "r1", "info": {"score": 0.9}, "withheld": True},
        {"source": "model"},
        {"withheld": True},
    ]


async def test_nothing_is_counted_twice_whatever_the_order_of_arrival(store: TranscriptStore, database: str) -> None:
    chance = random.Random(5)
    await store.write(recorded(*long_call("s0")))
    for number in range(1, 6):
        entries = recorded(*long_call(f"s{number}"))
        chance.shuffle(entries)
        for some in itertools.pairwise(entries):
            await store.write([*some, *entries[:2]])
        await store.write(entries)
    expected, *others = [{**row, "session": "", "month": 0} for row in rows(database, sessions)]
    assert others == [expected] * 5


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"input_tokens": "many"}, {"input_tokens": -1, "output_token_details": []}, {"input_tokens": 1e9}],
)
def test_a_report_of_tokens_that_says_nothing_counts_nothing(usage: Any) -> None:
    assert set(tokens(usage).values()) == {0}


async def test_all_rows_of_a_session_have_its_month_and_lie_in_its_partition(
    store: TranscriptStore, database: str
) -> None:
    new_year = 1_704_067_200_000  # 2024-01-01T00:00:00Z
    over = [started("over", at=new_year - 1), *conversation("over", at=new_year)[1:]]
    await store.write(recorded(over[0]))
    await store.write(recorded(*over[1:]))
    assert {row["month"] for table in (sessions, events, items, turns) for row in rows(database, table)} == {202312}
    assert (month_of(new_year - 1), month_of(new_year)) == (202312, 202401)
