"""Commands over HTTP: from any gateway to the session's owner, with an answer that says what came of them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from prometheus_client import REGISTRY

from services.gateway.clients import native
from services.gateway.conftest import Gateways
from support.waiting import wait_until
from voicebus_services.bodies import MAX_BODY
from voicebus_services.gateway.wiring import Gateway


@pytest.fixture
async def other(gateways: Gateways, gateway: Gateway) -> AsyncIterator[httpx2.AsyncClient]:
    """Another gateway's HTTP side: it holds none of the sessions."""
    async with (
        gateways() as second,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{second.port}/v1/sessions") as client,
    ):
        yield client


def problem(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize(
    "body",
    [
        {"text": "[[say: hello {input}]]"},
        {"content": [{"type": "input_text", "text": "[[say: hello]]"}]},
        {
            "content": [
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
                {"type": "input_text", "text": "[[say: hello]]"},
            ]
        },
    ],
)
async def test_a_message_is_answered_as_if_the_client_had_sent_it(
    gateway: Gateway, other: httpx2.AsyncClient, body: dict[str, Any]
) -> None:
    async with native(gateway) as client:
        session = (await client.until("session_started"))["session"]
        await client.until("history_updated")
        answer = await other.post(f"/{session}/messages", json=body)
        assert (answer.status_code, list(answer.json())) == (202, ["command_id"])
        spoken = await client.until("item_recorded", role="assistant")
    assert spoken["text"].startswith("hello")


async def test_an_interruption_stops_what_is_said(gateway: Gateway, other: httpx2.AsyncClient) -> None:
    async with native(gateway) as client:
        session = (await client.until("session_started"))["session"]
        await client.send("send_message", text="[[say: a long story]]")
        await client.until("audio")
        assert (await other.post(f"/{session}/interrupt")).status_code == 202
        await client.until("audio_interrupted")


async def test_another_agent_takes_over_and_is_shown(gateway: Gateway, other: httpx2.AsyncClient) -> None:
    async with native(gateway) as client:
        session = (await client.until("session_started"))["session"]
        await client.until("history_updated")
        assert problem(await other.post(f"/{session}/agent", json={"agent": "nobody"})) == (404, "unknown_agent")
        assert (await other.post(f"/{session}/agent", json={"agent": "porter"})).status_code == 202

        async def shown() -> bool:
            return str((await other.get(f"/{session}")).json()["agent"]) == "porter"

        await wait_until(shown, description="the new agent to be shown")


async def test_agreeing_to_a_recording_that_nobody_makes_is_a_conflict(
    gateway: Gateway, other: httpx2.AsyncClient
) -> None:
    async with native(gateway) as client:
        session = (await client.until("session_started"))["session"]
        await client.until("history_updated")
        answer = await other.post(f"/{session}/recording", json={"consent": True})
        assert problem(answer) == (409, "not_recorded")
        assert (await other.post(f"/{session}/recording", json={"consent": False})).status_code == 202


async def test_a_session_is_ended_and_takes_no_more_commands(gateway: Gateway, other: httpx2.AsyncClient) -> None:
    async with native(gateway) as client:
        session = (await client.until("session_started"))["session"]
        await client.until("history_updated")
        assert (await other.post(f"/{session}/end", json={"reason": "closing_time"})).status_code == 202
        assert (await client.until("session_ended"))["reason"] == "closing_time"
        assert await client.closed() == 1000
        # Recorded as it was said, and counted without it: of such words there is no end.
        assert REGISTRY.get_sample_value("voicebus_sessions_ended_total", {"reason": "closing_time"}) is None

        async def ended() -> bool:
            return str((await other.get(f"/{session}")).json()["status"]) == "ended"

        await wait_until(ended, description="the end to be written")
        for command, body in (("end", None), ("interrupt", None), ("messages", {"text": "late"})):
            assert problem(await other.post(f"/{session}/{command}", json=body)) == (409, "session_ended")


@pytest.mark.parametrize("command", ["messages", "interrupt", "agent", "end"])
async def test_a_session_that_nobody_knows_is_404(other: httpx2.AsyncClient, command: str) -> None:
    body = {"messages": {"text": "hello"}, "agent": {"agent": "porter"}}.get(command)
    assert problem(await other.post(f"/none/{command}", json=body)) == (404, "unknown_session")


@pytest.mark.parametrize(
    ("command", "body", "named"),
    [
        ("messages", None, "body"),
        ("messages", {}, "body"),
        ("messages", {"text": "a", "content": [{"type": "input_text", "text": "b"}]}, "body"),
        ("messages", {"text": 5}, "body.text"),
        ("messages", {"content": []}, "body.content"),
        ("messages", {"content": [{"type": "input_sound"}]}, "body.content.0"),
        ("messages", {"content": [{"type": "input_image"}]}, "body.content.0.input_image.image_url"),
        (
            "messages",
            {"content": [{"type": "input_image", "image_url": "ftp://x"}]},
            "body.content.0.input_image.image_url",
        ),
        ("messages", {"text": "a", "note": "b"}, "body.note"),
        ("agent", {}, "body.agent"),
        ("agent", {"agent": ""}, "body.agent"),
        ("end", {"reason": "with spaces"}, "body.reason"),
    ],
)
async def test_a_wrong_body_is_refused_and_the_field_named(
    other: httpx2.AsyncClient, command: str, body: Any, named: str
) -> None:
    answer = await other.post(f"/any/{command}", json=body)
    assert problem(answer) == (422, "invalid_request")
    assert answer.json()["detail"].startswith(f"{named}: ")


@pytest.mark.parametrize("raw", [b"{", b"\xff\xfe", b"[" * 100_000, b'{"text": "\\ud800"}'])
async def test_a_body_that_is_no_json_is_refused(other: httpx2.AsyncClient, raw: bytes) -> None:
    answer = await other.post("/any/messages", content=raw, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    problem(answer)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_that_is_too_long_is_refused_and_harms_nobody(other: httpx2.AsyncClient, announced: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY // 65536 + 2):
            yield b"a" * 65536
            await asyncio.sleep(0)

    content = b"a" * (MAX_BODY + 1) if announced else parts()
    answer = await other.post("/any/messages", content=content, headers={"Content-Type": "application/json"})
    assert problem(answer) == (413, "too_large")
    assert problem(await other.get("/none")) == (404, "unknown_session")


async def test_a_body_of_more_values_than_any_request_has_is_refused_unread(other: httpx2.AsyncClient) -> None:
    content = b'{"text": "hello", "more": [' + b"{}," * 300_000 + b"{}]}"
    answer = await other.post("/any/messages", content=content, headers={"Content-Type": "application/json"})
    assert problem(answer) == (413, "too_large")
    assert "250,000 values" in answer.json()["detail"]
