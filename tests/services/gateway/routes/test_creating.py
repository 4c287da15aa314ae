"""`POST /v1/sessions`, and entering what it made."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import websockets

from services.gateway import contextual
from services.gateway.clients import TestClient, native
from services.gateway.conftest import Gateways
from support.waiting import wait_until
from voicebus_services.gateway.wiring import Gateway


async def create(gateway: Gateway, body: Any = None, **options: Any) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        return await client.post("/v1/sessions", json={} if body is None else body, **options)


async def test_a_session_is_created_entered_and_left_by_its_token(gateway: Gateway) -> None:
    answer = await create(gateway, {"agent": "porter"})
    made = answer.json()
    assert answer.status_code == 201
    assert made.keys() == {"id", "token", "agent", "url", "expires_at"}
    assert made["agent"] == "porter"
    left = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=30) < left <= timedelta(seconds=60)
    assert [held.id for held in gateway.sessions] == [made["id"]]
    async with websockets.connect(made["url"]) as socket:
        client = TestClient(socket)
        started = await client.until("session_started")
        await client.until("history_updated")
        await client.send("send_message", text="[[say: hello]]")
        await client.until("item_recorded", role="assistant")
        assert (started["session"], started["token"], started["seq"]) == (made["id"], made["token"], 1)
        assert client.types[:2] == ["session_started", "history_updated"]
        assert not client.events("session_resumed")
    await wait_until(lambda: not list(gateway.sessions), description="the session's end")


@pytest.mark.parametrize(
    ("told", "scheme"), [("https", "wss"), ("https, http", "wss"), ("http", "ws"), ("http, https", "ws"), ("x", "ws")]
)
async def test_its_address_is_that_of_tls_where_a_proxy_in_between_has_it(
    gateway: Gateway, told: str, scheme: str
) -> None:
    answer = await create(gateway, headers={"X-Forwarded-Proto": told, "Host": "localhost:8443"})
    assert answer.json()["url"].startswith(f"{scheme}://localhost:8443/v1/sessions/connect?session=")


async def test_it_is_idle_until_its_client_comes_and_again_when_it_was_lost(gateway: Gateway) -> None:
    made = (await create(gateway)).json()

    async def status() -> str:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}") as client:
            return str((await client.get(f"/v1/sessions/{made['id']}")).json()["status"])

    async def is_(wanted: str) -> bool:
        return await status() == wanted

    await wait_until(lambda: is_("idle"), description="the session to be idle")
    async with native(gateway, f"?session={made['id']}&token={made['token']}") as client:
        await client.until("history_updated")
        await wait_until(lambda: is_("active"), description="the session to be active")
        await client.socket.close(1001)
    await wait_until(lambda: is_("idle"), description="the session to be idle again")


async def test_it_begins_with_the_history_that_was_given(gateway: Gateway) -> None:
    said = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "My name is Ada."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hello Ada."}]},
        {"type": "function_call", "name": "get_weather", "call_id": "c1", "arguments": "{}", "output": "sunny"},
    ]
    made = (await create(gateway, {"history": said})).json()
    async with native(gateway, f"?session={made['id']}&token={made['token']}") as client:
        history = (await client.until("history_updated"))["history"]
    assert [item.get("role", item["type"]) for item in history] == ["user", "assistant", "function_call"]
    assert history[0]["content"][0]["text"] == "My name is Ada."
    assert history[2]["output"] == "sunny"


async def test_the_context_that_was_given_is_what_the_program_finds(gateways: Gateways) -> None:
    contextual.FOUND.clear()
    async with gateways("services.gateway.contextual") as gateway:
        await create(gateway, {"context": {"guest": "Ada"}})
    assert contextual.FOUND == [{"guest": "Ada"}]


async def test_a_session_to_which_nobody_has_come_yet_takes_a_slot(gateways: Gateways) -> None:
    async with gateways(max_sessions=1) as gateway:
        await create(gateway)
        full = await create(gateway)
        assert (full.status_code, full.json()["code"]) == (503, "full")
        assert full.headers["retry-after"]


async def test_nobody_comes_and_the_session_ends(gateways: Gateways) -> None:
    async with gateways(resume_grace=0.2) as gateway:
        made = (await create(gateway)).json()
        await wait_until(lambda: not list(gateway.sessions), description="the session's end")
        async with native(gateway, f"?session={made['id']}&token={made['token']}&seq=1") as late:
            assert await late.closed() in (1000, 4404)


async def test_where_nobody_is_waited_for_again_the_first_is_waited_for_all_the_same(gateways: Gateways) -> None:
    async with gateways(resume_grace=0) as gateway:
        made = (await create(gateway)).json()
        async with native(gateway, f"?session={made['id']}&token={made['token']}") as client:
            await client.until("history_updated")
            await client.socket.close(1001)
        await wait_until(lambda: not list(gateway.sessions), description="the session's end")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"agent": "nobody"}, "nobody"),
        ({"agents": "porter"}, "agents"),
        ({"history": [{"type": "message", "role": "user"}]}, "item 0"),
        ({"history": [{"role": "user", "content": 5}]}, "user.content: Input should be a valid list"),
        ({"history": [{"type": "function_call", "name": "look"}]}, "function_call.call_id: Field required"),
        ({"history": [{"type": "poem"}]}, "item 0 is no item of a history: an item is a message with the role user"),
        ({"history": 5}, "history"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(gateway: Gateway, body: Any, named: str) -> None:
    answer = await create(gateway, body)
    assert answer.status_code == (404 if named == "nobody" else 422)
    assert named in answer.json()["detail"]
    assert not list(gateway.sessions)


async def test_a_session_that_cannot_begin_is_said(gateways: Gateways, monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateways() as gateway:

        async def away(*_: Any, **__: Any) -> int:
            from voicebus.errors import BusError

            raise BusError("Redis at 10.0.0.8 cannot be reached")

        monkeypatch.setattr(gateway.sessions._journal, "open", away)
        answer = await create(gateway)
        assert (answer.status_code, answer.json()["code"]) == (503, "session_unavailable")
        assert "10.0.0.8" not in answer.text
        await wait_until(lambda: not list(gateway.sessions), description="the slot to be free")


async def test_keys_are_asked_for_and_agents_kept_to(gateways: Gateways, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("hotel:front-desk\n")
    async with gateways(api_keys_file=keys) as gateway:
        assert (await create(gateway)).status_code == 401
        answer = await create(gateway, headers={"Authorization": "Bearer front-desk"})
        assert answer.status_code == 201
        async with websockets.connect(answer.json()["url"]) as socket:
            await TestClient(socket).until("session_started")


async def test_half_a_surrogate_pair_becomes_a_mark_and_the_session_begins(gateway: Gateway) -> None:
    body = (
        b'{"context": {"name": "men\\udce9"}, "history": '
        b'[{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "men\\udce9"}]}]}'
    )
    answer = await posted(gateway, body)
    assert answer.status_code == 201
    made = answer.json()
    async with native(gateway, f"?session={made['id']}&token={made['token']}") as client:
        history = (await client.until("history_updated"))["history"]
        assert history[0]["content"][0]["text"] == "men?"
        await client.send("send_message", text="[[say: good]]")
        await client.until("agent_end")


async def test_a_context_that_is_nested_too_deeply_is_refused(gateway: Gateway) -> None:
    answer = await posted(gateway, b'{"context": ' + b"[" * 900 + b"]" * 900 + b"}")
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_request"


async def posted(gateway: Gateway, body: bytes) -> httpx2.Response:
    async with httpx2.AsyncClient() as client:
        return await client.post(
            f"http://127.0.0.1:{gateway.port}/v1/sessions", content=body, headers={"Content-Type": "application/json"}
        )
