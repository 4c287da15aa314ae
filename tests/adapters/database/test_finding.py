"""Words in transcripts, on both databases: whole words, phrases, beginnings."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from support.recorded import STARTED_AT, recorded, said, started, tool_end, tool_start
from support.servers import PostgresServer
from voicebus.adapters.database import finding, migrate, newest
from voicebus.adapters.database.finding import Filter, Position, Term, terms
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


# --- what is more than one word ---------------------------------------------------------------------

DAY_MS = 86_400_000


@pytest.fixture
async def half_a_year(store: TranscriptStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sessions of 180 days, one each day; returns those in which somebody says `blue room`, the newest first."""
    monkeypatch.setattr(newest, "WALKED", 10)
    spoken = []
    events = []
    for day in range(180):
        session, text = f"s{day:03}", "The room is blue." if day % 3 else "A blue room, please."
        whose = {"tenant": "acme"} if day % 2 else {}
        first = started(session, agent=f"agent{day % 5}")
        first = replace(first, data={**first.data, **whose})
        events += [
            replace(each, at=each.at + day * DAY_MS) for each in (first, said(session, 2, "user", text, start=0))
        ]
        if not day % 3 and not whose:
            spoken.append(session)
    # A call that began before the turn of the month, of which the next month was told first.
    late = replace(said("late", 2, "user", "Is the blue room free?", start=0), at=STARTED_AT + 17 * DAY_MS)
    await store.write(recorded(late))
    await store.write(recorded(*events, replace(started("late"), at=STARTED_AT + 16 * DAY_MS + 1)))
    return sorted([*spoken, "late"], key=lambda name: 16.1 if name == "late" else int(name[1:]), reverse=True)


@pytest.mark.parametrize("limit", [1, 4, 50])
async def test_a_phrase_is_found_in_every_month_the_newest_first(
    store: TranscriptStore, half_a_year: list[str], limit: int
) -> None:
    seen: list[str] = []
    after: Position | None = None
    while True:
        page, after = await store.find(Filter("local", text='"blue room"'), limit=limit, after=after)
        assert len(page) <= limit
        seen += [one.session for one in page]
        if after is None:
            break
    assert seen == half_a_year
    assert all(one.items == 1 for one in page)


async def test_a_phrase_is_found_within_all_other_filters(store: TranscriptStore, half_a_year: list[str]) -> None:
    async def found(**more: Any) -> list[str]:
        page, _ = await store.find(Filter(**{"tenant": "local", "text": '"blue room"'} | more), limit=200)
        return [one.session for one in page]

    days = [name for name in half_a_year if name != "late"]
    start, end = (datetime.fromtimestamp(STARTED_AT / 1000 + day * 86_400, UTC) for day in (40, 100))
    assert await found(start=start, end=end) == [name for name in days if 40 <= int(name[1:]) < 100]
    assert await found(agent="agent2") == [name for name in days if int(name[1:]) % 5 == 2]
    assert await found(text='"blue room" please') == days
    assert await found(text='"room blue"') == []
    assert await found(role="assistant") == []
    assert await found(tenant="acme") == [f"s{day:03}" for day in range(179, -1, -1) if not day % 3 and day % 2]
    assert await found(tenant="nobody") == []
    assert len(await found(tenant=None)) == 61


async def test_words_that_are_in_one_line_are_found_in_every_month_the_newest_first(
    store: TranscriptStore, half_a_year: list[str]
) -> None:
    days = [name for name in half_a_year if name != "late"]
    page, after = await store.find(Filter("local", text="please blue"), limit=200)
    assert ([one.session for one in page], after) == (days, None)
    page, _ = await store.find(Filter("local", text="please is"), limit=200)
    assert page == [], "though both are common"
    page, _ = await store.find(Filter(None, role="user"), limit=200)
    assert len(page) == 181
    page, _ = await store.find(Filter(None, type="error"), limit=200)
    assert page == []


@pytest.mark.parametrize(
    ("wanted", "is_left"),
    [
        ({"text": "blue"}, True),
        ({"text": "blue", "agent": "desk"}, True),
        ({"text": "blue room"}, False),
        ({"text": '"blue room"'}, False),
        ({"text": "check-in"}, False),
        ({"text": "blue", "role": "user"}, False),
        ({"type": "error"}, False),
    ],
)
async def test_only_one_word_is_left_to_the_planner_of_postgresql(
    store: TranscriptStore, database: str, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, Any], is_left: bool
) -> None:
    """It takes things for as frequent together as each by itself."""
    asked: list[Any] = []

    def spied(*arguments: Any) -> list[Any]:
        asked.append(arguments)
        return newest.newest_with(*arguments)

    monkeypatch.setattr(finding, "newest_with", spied)
    await store.find(Filter("local", **wanted), limit=5)
    assert bool(asked) == (database.startswith("postgresql") and not is_left)


@pytest.mark.parametrize(("locale", "finds"), [("C", []), ("C.UTF-8", ["s1"])])
async def test_what_is_said_of_a_databases_locale_is_what_its_searches_find(locale: str, finds: list[str]) -> None:
    with PostgresServer() as server:
        with psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True) as connection:
            made = f"TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE '{locale}'"
            connection.execute(f"CREATE DATABASE calls {made}".encode())
        url = server.database_url("calls")
        migrate.upgrade(url)
        async with TranscriptStore(url) as store:
            await store.write(recorded(started("s1"), said("s1", 2, "user", "CAFÉ ПРИВЕТ Plain", start=1)))
            assert [await find(store, word) for word in ("café", "привет")] == [finds, finds]
            assert [await find(store, word) for word in ("CAFÉ", "plain")] == [["s1"], ["s1"]]
            said_of_it = await store.missed()
        assert (said_of_it is None) == bool(finds)
        assert finds or "locale (LC_CTYPE) is C; make one with CREATE DATABASE" in (said_of_it or "")


async def test_sqlite_misses_no_letters(tmp_path: Path) -> None:
    migrate.upgrade(url := f"sqlite:///{tmp_path / 'v.db'}")
    async with TranscriptStore(url) as store:
        await store.write(recorded(started("s1"), said("s1", 2, "user", "CAFÉ ПРИВЕТ", start=1)))
        assert [await find(store, word) for word in ("café", "привет")] == [["s1"], ["s1"]]
        assert await store.missed() is None
