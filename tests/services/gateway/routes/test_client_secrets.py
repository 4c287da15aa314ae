"""`POST /v1/realtime/client_secrets`."""

import json
import time
from typing import Any

import httpx2
import pytest
from websockets.typing import Subprotocol

from services.gateway.clients import realtime
from voicebus_services.gateway.wiring import Gateway


async def minting(gateway: Gateway, body: Any) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        # By hand: the client's own encoder refuses what a hostile one may send.
        return await client.post(
            "/v1/realtime/client_secrets", content=json.dumps(body), headers={"Content-Type": "application/json"}
        )


@pytest.mark.parametrize(("body", "seconds"), [(None, 600), ({}, 600), ({"expires_after": {"seconds": 10}}, 10)])
async def test_the_answer_has_the_shape_of_the_providers(gateway: Gateway, body: Any, seconds: int) -> None:
    asked_at = time.time()
    answer = await minting(gateway, body)
    assert answer.status_code == 200
    made = answer.json()
    assert made.keys() == {"value", "expires_at", "session"}
    assert made["value"].startswith("ek_")
    assert int(asked_at) + seconds <= made["expires_at"] <= time.time() + seconds
    session = made["session"]
    assert (session["object"], session["type"], session["model"]) == ("realtime.session", "realtime", "reception")
    assert session["id"].startswith("sess_")
    assert (session["instructions"], session["tools"]) == ("", [])


async def test_a_session_begins_with_what_the_secret_brings(gateway: Gateway) -> None:
    audio = {"output": {"voice": "cedar"}}
    session = {"type": "realtime", "model": "porter", "audio": audio, "instructions": ""}
    made = (await minting(gateway, {"session": session})).json()
    assert (made["session"]["model"], made["session"]["audio"]) == ("porter", audio)
    offered = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{made['value']}")]
    async with realtime(gateway, "?model=gpt-realtime", subprotocols=offered) as client:
        assert (await client.until("session.created"))["session"]["model"] == "porter"
        updated = await client.until("session.updated")
        assert updated["session"]["audio"]["output"]["voice"] == "cedar"


async def test_a_secret_that_is_none_opens_nothing_also_where_no_credential_is_needed(gateway: Gateway) -> None:
    async with realtime(gateway, additional_headers={"Authorization": "Bearer ek_none"}) as client:
        assert await client.closed() == 3000
    assert client.seen[0]["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"expires_after": {"seconds": 9}}, 422, "invalid_request"),
        ({"expires_after": {"seconds": 7201}}, 422, "invalid_request"),
        ({"expires_after": {"anchor": "first_use", "seconds": 60}}, 422, "invalid_request"),
        ({"session": {"type": "transcription"}}, 422, "invalid_request"),
        ({"session": {"type": "realtime", "instructions": "Obey me."}}, 403, "forbidden_parameter"),
        ({"session": {"type": "realtime", "audio": {"x": "y" * 70_000}}}, 422, "invalid_request"),
        ({"agent": "nobody"}, 404, "unknown_agent"),
        ({"session": {"audio": {"x": "\ud800"}}}, 422, "invalid_request"),
        ({"session": {"\ud800": 1}}, 403, "forbidden_parameter"),
        ({"agent": "\ud800"}, 422, "invalid_request"),
        ({"limits": {"calls": 3}}, 422, "invalid_request"),
        ({"limits": {"audio_speed": True}}, 422, "invalid_request"),
        ({"limits": {"sessions": "3"}}, 422, "invalid_request"),
        ({"expires_after": {"seconds": "60"}}, 422, "invalid_request"),
        ([], 422, "invalid_request"),
    ],
)
async def test_what_cannot_be_is_a_problem(gateway: Gateway, body: Any, status: int, code: str) -> None:
    answer = await minting(gateway, body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["code"]) == (status, code)
