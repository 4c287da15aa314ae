"""The transcripts' HTTP API, over a real port."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from msgspec.structs import replace

from support.recorded import STARTED_AT, conversation, entry, recorded, said, started, tool_start
from support.servers import PostgresServer
from voicebus.adapters.database import migrate
from voicebus.adapters.database.store import TranscriptStore
from voicebus_services.access.authenticator import Authenticator
from voicebus_services.access.keystore import KeyStore
from voicebus_services.http import serving
from voicebus_services.transcript_archiver.app import create_app


@pytest.fixture
async def client(store: TranscriptStore) -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        serving(create_app(store, Authenticator()), host="127.0.0.1", port=0) as server,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client,
    ):
        yield client


async def problem(client: httpx2.AsyncClient, path: str) -> tuple[int, str]:
    answer = await client.get(path)
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body.keys() == {"type", "title", "status", "detail", "code"}
    assert body["status"] == answer.status_code
    return answer.status_code, body["code"]


async def test_one_transcript_is_as_the_contract_says(client: httpx2.AsyncClient, store: TranscriptStore) -> None:
    await store.write(recorded(*(event for event in conversation("s1") if event.seq != 6)))
    answer = await client.get("/v1/transcripts/s1")
    assert answer.status_code == 200
    body = answer.json()
    items = body.pop("items")
    assert body == {
        "session": "s1", "agent": "front_desk", "status": "ended", "started_at": "2023-11-14T22:13:20.100000Z",
        "ended_at": "2023-11-14T22:13:20.800000Z", "end_reason": "hangup", "last_seq": 8, "gaps": [[6, 6]],
    }  # fmt: skip
    assert list(items[0]) == [
        "seq", "at", "type", "role", "agent", "item_id", "text", "heard_text", "truncated", "start_ms", "end_ms",
        "tool", "call_id", "arguments", "output", "outcome",
    ]  # fmt: skip
    assert [item["seq"] for item in items] == [3, 2, 5, 7]
    assert items[1]["outcome"] == "ok"


async def test_json_lines_are_the_items_one_a_line(client: httpx2.AsyncClient, store: TranscriptStore) -> None:
    await store.write(recorded(*conversation("s1"), said("s1", 9, "user", "two\nlines", start=5000)))
    whole = (await client.get("/v1/transcripts/s1")).json()
    answer = await client.get("/v1/transcripts/s1.jsonl")
    assert answer.headers["content-type"].startswith("application/jsonl")
    assert [json.loads(line) for line in answer.text.splitlines()] == whole["items"]


async def test_the_text_form_reads_like_a_conversation(client: httpx2.AsyncClient, store: TranscriptStore) -> None:
    cut: dict[str, Any] = {"heard_text": "You are", "truncated": True}
    tripped = {"response_id": "r", "item_id": "i", "agent": "a", "guardrails": ["no_prices"], "message": "5 euro"}
    await store.write(
        recorded(
            *conversation("s1"),
            said("s1", 9, "assistant", "You are\nwelcome.", start=61_000, **cut),
            tool_start("s1", 10, "call_2", start=62_000),
            entry("s1", 11, "handoff", {"from_agent": "a", "to_agent": "b", "at_ms": 63_000}),
            entry("s1", 12, "guardrail_tripped", tripped | {"at_ms": 3_600_000}),
            entry("s1", 13, "error", {"code": "x", "message": "Slow\ndown.", "source": "model", "at_ms": 6_000_000}),
        )
    )
    answer = await client.get("/v1/transcripts/s1.txt")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.splitlines() == [
        "[00:00] user: What is the weather in Paris?",
        '[00:00] tool: get_weather({"city": "Paris"}) -> sunny',
        "[00:00] agent: It is sunny in Paris.",
        "[00:01] user: Thanks, bye.",
        "[01:01] agent: You are [interrupted]",
        '[01:02] tool: get_weather({"city": "Paris"})',
        "[01:03] handoff: a -> b",
        "[60:00] guardrail: no_prices stopped: 5 euro",
        "[100:00] error: Slow down.",
    ]


async def test_the_list_has_the_contracts_fields_and_a_cursor_that_walks(
    client: httpx2.AsyncClient, store: TranscriptStore
) -> None:
    assert (await client.get("/v1/transcripts")).json() == {"data": [], "next_cursor": None}
    await store.write(recorded(*conversation("s0")))
    await store.write(recorded(*(started(f"s{number}", at=STARTED_AT + number * 1000) for number in range(1, 5))))
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (
            await client.get("/v1/transcripts", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        ).json()
        seen += [row["session"] for row in page["data"]]
        cursor = page["next_cursor"]
    assert seen == ["s4", "s3", "s2", "s1", "s0"]
    assert page["data"] == [
        {
            "session": "s0", "agent": "front_desk", "status": "ended", "started_at": "2023-11-14T22:13:20.100000Z",
            "ended_at": "2023-11-14T22:13:20.800000Z", "items": 4,
        }
    ]  # fmt: skip


async def test_the_list_is_filtered(client: httpx2.AsyncClient, store: TranscriptStore) -> None:
    await store.write(recorded(*conversation("s1"), started("s2", agent="billing", at=STARTED_AT + 60_000)))

    async def found(**query: str) -> list[str]:
        answer = await client.get("/v1/transcripts", params=query)
        assert answer.status_code == 200, answer.text
        return [row["session"] for row in answer.json()["data"]]

    assert await found(agent="billing") == ["s2"]
    assert await found(q="sunny in PARIS") == ["s1"]
    assert await found(**{"from": "2023-11-14T22:14:00Z"}) == ["s2"]
    assert await found(to="2023-11-14T23:14:00+01:00") == ["s1"]
    assert await found(**{"from": "2023-11-14T22:13:00Z", "to": "2023-11-14T22:15:00Z"}) == ["s2", "s1"]


@pytest.mark.parametrize("suffix", ["", ".jsonl", ".txt", ".vtt"])
async def test_an_unknown_session_is_a_404_problem(client: httpx2.AsyncClient, suffix: str) -> None:
    assert await problem(client, f"/v1/transcripts/none{suffix}") == (404, "unknown_session")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=201", "limit=x", "cursor=x", "cursor=%F0%9F%98%80", "cursor=WzEsMl0", "cursor=bnVsbA==",
        "cursor=" + 500 * "A", "from=yesterday", "from=2023-11-14T22:14:00", "q=" + 201 * "a", "agent=",
    ],
)  # fmt: skip
async def test_a_list_asked_for_wrongly_is_a_422_problem(client: httpx2.AsyncClient, query: str) -> None:
    assert await problem(client, f"/v1/transcripts?{query}") == (422, "invalid_request")


async def test_a_session_id_beyond_bounds_is_a_problem(client: httpx2.AsyncClient) -> None:
    assert await problem(client, f"/v1/transcripts/{201 * 's'}") == (422, "invalid_request")


@asynccontextmanager
async def asked_with(store: TranscriptStore, file: Path, key: str | None) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an archiver with keys for the tenants `acme` and `other`."""
    file.write_text("acme:acme-key\nother:other-key\n", encoding="utf-8")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        serving(create_app(store, Authenticator(KeyStore(file))), host="127.0.0.1", port=0) as server,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", headers=headers) as client,
    ):
        yield client


PATHS = ["/s1", "/s1.txt", "/s1.jsonl", "/s1.vtt"]


@pytest.mark.parametrize("path", ["", *PATHS])
@pytest.mark.parametrize("key", [None, "wrong"])
async def test_every_route_wants_a_key_where_keys_are_configured(
    store: TranscriptStore, tmp_path: Path, path: str, key: str | None
) -> None:
    async with asked_with(store, tmp_path / "keys", key) as client:
        assert await problem(client, f"/v1/transcripts{path}") == (401, "unauthorized")


async def test_a_tenant_sees_its_own_transcripts_and_no_trace_of_anothers(
    store: TranscriptStore, tmp_path: Path
) -> None:
    first, *others = conversation("s1")
    acme = replace(first, data={**first.data, "tenant": "acme"})
    await store.write(recorded(acme, *others, *conversation("s2")))
    async with asked_with(store, tmp_path / "keys", "acme-key") as client:
        assert [shown["session"] for shown in (await client.get("/v1/transcripts?q=Paris")).json()["data"]] == ["s1"]
        for path in PATHS:
            assert (await client.get(f"/v1/transcripts{path}")).status_code == 200
    async with asked_with(store, tmp_path / "keys", "other-key") as client:
        assert (await client.get("/v1/transcripts?q=Paris")).json() == {"data": [], "next_cursor": None}
        for path in PATHS:
            assert await problem(client, f"/v1/transcripts{path}") == (404, "unknown_session")


async def test_what_names_no_tenant_is_for_this_machine_alone(
    client: httpx2.AsyncClient, store: TranscriptStore, tmp_path: Path
) -> None:
    # The record that names the tenant is lost, as after a double fault.
    await store.write(recorded(*conversation("s1")[1:]))
    assert (await client.get("/v1/transcripts/s1")).status_code == 200
    async with asked_with(store, tmp_path / "keys", "acme-key") as stranger:
        assert await problem(stranger, "/v1/transcripts/s1") == (404, "unknown_session")


async def test_a_database_that_is_away_is_a_503_problem_which_says_nothing_of_where_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        TranscriptStore("postgresql+psycopg://user:s3cret@127.0.0.1:1/calls") as store,
        serving(create_app(store, Authenticator()), host="127.0.0.1", port=0) as server,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client,
    ):
        assert await problem(client, "/v1/transcripts") == (503, "store_unavailable")
        answer = await client.get("/v1/transcripts/s1")
        assert answer.json()["detail"] == "transcripts and recordings cannot be read now; try again shortly"
    assert "127.0.0.1:1/calls" in caplog.text
    assert "s3cret" not in caplog.text


async def test_a_database_that_stands_still_is_a_503_problem_also_on_a_connection_that_is_open() -> None:
    with PostgresServer() as postgres:
        migrate.upgrade(postgres.url)
        async with (
            TranscriptStore(postgres.url) as store,
            serving(create_app(store, Authenticator()), host="127.0.0.1", port=0) as server,
            # Longer than any bound, so that it is the archiver that gives up, not this client.
            httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=120) as client,
        ):
            await store.write(recorded(*conversation("s1")))
            assert (await client.get("/v1/transcripts")).status_code == 200
            postgres.pause()
            assert await problem(client, "/v1/transcripts") == (503, "store_unavailable")
            answer = await client.get("/v1/transcripts/s1")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            postgres.resume()
            assert (await client.get("/v1/transcripts/s1")).json()["last_seq"] == 8


async def test_the_api_describes_itself(client: httpx2.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert set(paths) == {
        "/v1/transcripts",
        "/v1/transcripts/{session}",
        "/v1/transcripts/{session}.jsonl",
        "/v1/transcripts/{session}.txt",
        "/v1/transcripts/{session}.vtt",
        "/v1/transcripts/{session}/events",
        "/v1/transcripts/{session}/recording",
    }


async def test_a_search_that_takes_too_long_is_one_sentence(
    client: httpx2.AsyncClient, store: TranscriptStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicebus.adapters.database.store.SEARCH_TIMEOUT_S", -1.0)  # over before it begins
    for batch in range(10):
        await store.write(recorded(*(event for n in range(20) for event in conversation(f"s{batch}-{n}"))))
    answer = await client.get("/v1/transcripts", params={"q": "nothing of this kind"})
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert "narrow it down" in answer.json()["detail"]
    monkeypatch.undo()
    answer = await client.get("/v1/transcripts", params={"q": "weather in Paris"})
    assert len(answer.json()["data"]) == 50
