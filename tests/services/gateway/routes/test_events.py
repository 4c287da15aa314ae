"""`GET /v1/sessions/{session}/events`: recorded events as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.gateway.clients import TestClient, native
from services.gateway.conftest import Gateways
from support.waiting import wait_until
from voicebus.adapters.redis.directory import SessionDirectory
from voicebus_services.gateway.routes import events as route
from voicebus_services.gateway.wiring import Gateway

Event = tuple[int, str, dict[str, Any]]


@asynccontextmanager
async def reading(gateway: Gateway, session: str, query: str = "", **headers: str) -> AsyncIterator[httpx2.Response]:
    async with (
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}", timeout=20) as client,
        client.stream("GET", f"/v1/sessions/{session}/events{query}", headers=headers) as response,
    ):
        yield response


async def sse(response: httpx2.Response) -> AsyncIterator[Event]:
    """The events of a stream, parsed as the standard says."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield int(fields["id"]), fields["event"], json.loads(fields["data"])
            fields = {}


async def talked(client: TestClient) -> str:
    await client.until("history_updated")
    await client.send("send_message", text="[[say: hello]]")
    await client.until("item_recorded", role="assistant")
    return str(client.seen[0]["session"])


async def test_events_come_from_the_first_on_until_the_session_has_ended(gateway: Gateway) -> None:
    async with native(gateway) as client:
        session = await talked(client)
        async with reading(gateway, session) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            found: list[Event] = []
            async for event in sse(response):
                found.append(event)
                if event[1] == "turn_ended":
                    await client.send("end")
            assert await client.closed() == 1000
    assert [number for number, _, _ in found] == list(range(1, len(found) + 1))
    assert found[-1][1] == "session_ended"
    told = {event["seq"]: event for event in client.seen if not isinstance(event, bytes)}
    for number, kind, data in found:
        assert (data["type"], data["seq"], data["session"]) == (kind, number, session)
        assert "token" not in data
    assert found[-1][2] == told[found[-1][0]]


async def test_a_reader_goes_on_behind_the_last_event_that_it_has(gateway: Gateway) -> None:
    async with native(gateway) as client:
        session = await talked(client)
        async with reading(gateway, session, "?seq=1") as by_query:
            assert (await anext(sse(by_query)))[0] == 2
        async with reading(gateway, session, "?seq=1", **{"Last-Event-ID": "2"}) as by_header:
            assert (await anext(sse(by_header)))[0] == 3


async def test_a_last_event_id_that_is_no_seq_is_refused(gateway: Gateway) -> None:
    async with native(gateway) as client:
        session = await talked(client)
        async with reading(gateway, session, **{"Last-Event-ID": "abc"}) as response:
            await response.aread()
            assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
            assert response.json()["detail"].startswith("Last-Event-ID is 'abc', but the seq of a recorded event")


async def test_a_session_that_ended_is_read_to_its_end(gateway: Gateway, gateways: Gateways) -> None:
    async with native(gateway) as client:
        session = await talked(client)
        await client.send("end")
        await client.closed()
    await wait_until(lambda: not list(gateway.sessions), description="the session's end")
    async with gateways() as other:
        for asked in (gateway, other):
            async with reading(asked, session) as response:
                found = [event async for event in sse(response)]
            assert [number for number, _, _ in found] == list(range(1, found[-1][0] + 1))
            assert found[-1][1] == "session_ended"


async def test_a_quiet_session_sends_comments(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "HEARTBEAT_S", 0.05)
    async with native(gateway) as client:
        session = str((await client.until("session_started"))["session"])
        async with reading(gateway, session) as response:
            lines = response.aiter_lines()
            assert [await anext(lines) for _ in range(2)] == ["retry: 2000", ""]
            while (await anext(lines)) != ": still here":
                pass


async def test_only_so_many_read_one_session(gateway: Gateway) -> None:
    async with native(gateway) as client, AsyncExitStack() as stack:
        session = str((await client.until("session_started"))["session"])
        readers: list[AsyncIterator[Event]] = []
        for _ in range(route.MAX_READERS):
            events = sse(await stack.enter_async_context(reading(gateway, session)))
            await anext(events)
            readers.append(events)  # one that is forgotten is closed
        one_more = await stack.enter_async_context(reading(gateway, session))
        await one_more.aread()
        assert (one_more.status_code, one_more.json()["code"]) == (429, "too_many_readers")


async def test_readers_that_come_at_once_are_no_more_than_one_session_may_have(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, found = 0, asyncio.Event()

    async def looked_up(*_: Any) -> None:
        nonlocal waiting
        waiting += 1
        await found.wait()

    monkeypatch.setattr(SessionDirectory, "show", looked_up)
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}/v1/sessions", timeout=20) as client:
        asking = [asyncio.create_task(client.get("/elsewhere/events")) for _ in range(route.MAX_READERS)]
        await wait_until(lambda: waiting == route.MAX_READERS, description="all to be looked up")
        one_more = await client.get("/elsewhere/events")
        assert (one_more.status_code, one_more.json()["code"]) == (429, "too_many_readers")
        found.set()
        assert {answer.status_code for answer in await asyncio.gather(*asking)} == {404}
        assert (await client.get("/elsewhere/events")).status_code == 404


async def test_foreign_and_unknown_sessions_are_unknown(gateways: Gateways, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("hotel:front-desk\nbank:teller\n")
    front, teller = {"Authorization": "Bearer front-desk"}, {"Authorization": "Bearer teller"}
    async with gateways(api_keys_file=keys) as gateway, native(gateway, additional_headers=front) as client:
        session = str((await client.until("session_started"))["session"])
        for asked, headers, status in (
            (session, front, 200),
            (session, teller, 404),
            ("01J0000000000000000000000", front, 404),
            (session, {}, 401),
        ):
            async with reading(gateway, asked, **headers) as response:
                assert response.status_code == status
