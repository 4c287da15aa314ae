"""Words in transcripts, on both databases: whole words, phrases, beginnings."""

import pytest

from support.recorded import recorded, said, started, tool_end, tool_start
from voicebus.adapters.database.finding import Filter, Term, terms
from voicebus.adapters.database.store import TranscriptStore


async def find(store: TranscriptStore, text: str, tenant: str = "local") -> list[str]:
    found, _ = await store.find(Filter(tenant, text=text), limit=10)
    return sorted(one.session for one in found)


@pytest.mark.parametrize(
    ("query", "looks_for"),
    [
        ("blue room", [Term("blue"), Term("room")]),
        ('"blue room" tonight', [Term("blue room"), Term("tonight")]),
        ("close*", [Term("close", prefix=True)]),
        ('"never closed', [Term("never closed")]),
        ('... "" * -', []),
        ("don't stop", [Term("don't"), Term("stop")]),
    ],
)
def test_a_query_is_words_phrases_and_beginnings(query: str, looks_for: list[Term]) -> None:
    assert terms(query) == looks_for


async def test_words_are_found_in_one_line_in_any_order_and_case(store: TranscriptStore) -> None:
    await store.write(
        recorded(
            started("one"),
            said("one", 2, "user", "A Blue room, please.", start=2000),
            said("one", 3, "assistant", "It is closed.", start=3000),
            started("two"),
            said("two", 2, "user", "The room is blue.", start=2000),
            started("three"),
            said("three", 2, "user", "A blueish room.", start=2000),
        )
    )
    assert await find(store, "room BLUE") == ["one", "two"]
    assert await find(store, '"blue room"') == ["one"]
    assert await find(store, "blue*") == ["one", "three", "two"]
    assert await find(store, "room closed") == []
    assert await find(store, "close*") == ["one"]
    assert await find(store, "nothing") == []
    assert await find(store, "!?") == []


async def test_what_tools_were_asked_and_answered_is_found_too(store: TranscriptStore) -> None:
    await store.write(
        recorded(started("s"), tool_start("s", 2, "call_1"), tool_end("s", 3, "call_1", output="sunny and windy"))
    )
    assert await find(store, '"sunny and windy"') == ["s"]


@pytest.mark.parametrize("query", ["it's", "a:b & c | !d", "\\", "'x'; DROP TABLE items", 'NEAR("a" b)', "ünï* 東京"])
async def test_no_query_is_taken_for_the_databases_own_language(store: TranscriptStore, query: str) -> None:
    await store.write(recorded(started("s"), said("s", 2, "user", query, start=2000)))
    assert await find(store, query) in ([], ["s"])
    assert await find(store, "elsewhere") == []
    assert await find(store, query, tenant="another") == []
