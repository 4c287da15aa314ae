"""`WS /v1/realtime` against the simulator, through a real Redis."""

import asyncio
import base64
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response
from websockets.typing import Subprotocol

from services.gateway.clients import TestClient, native, realtime
from services.gateway.conftest import Gateways
from services.gateway.models import scripted_model
from support.waiting import wait_until
from voicebus.contracts.tools import ToolCall
from voicebus_services.gateway.admission import Admission
from voicebus_services.gateway.wiring import Gateway

REALTIME = Subprotocol("realtime")


async def say(client: TestClient, text: str) -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    await client.send("conversation.item.create", item=item)
    await client.send("response.create")


async def test_a_turn_is_one_response_with_audio_and_our_event_ids(gateway: Gateway) -> None:
    async with realtime(gateway) as client:
        created = await client.until("session.created")
        await say(client, "[[say: Good morning]]")
        done = await client.until("response.done")
    assert created["session"]["model"] == "reception"
    assert created["session"]["instructions"] == ""
    assert created["session"]["tools"] == []
    assert done["response"]["status"] == "completed"
    deltas = client.events("response.output_audio.delta")
    assert len(b"".join(base64.b64decode(delta["delta"], validate=True) for delta in deltas)) > 0
    assert {delta["response_id"] for delta in deltas} == {done["response"]["id"]}
    assert set(deltas[0]) == {
        "type", "event_id", "response_id", "item_id", "output_index", "content_index", "delta",
    }  # fmt: skip
    ids = [event["event_id"] for event in client.seen]
    assert len(set(ids)) == len(ids)
    assert all(name.startswith("event_") for name in ids)


async def test_server_tools_run_behind_one_response_and_stay_hidden(
    gateway: Gateway, tool_worker: list[ToolCall]
) -> None:
    async with realtime(gateway) as client:
        await client.until("session.created")
        await say(client, '[[call: get_weather {"city": "Paris"}]][[next]][[say: It says {outputs}]]')
        await client.until("response.done")
    assert [call.tool for call in tool_worker] == ["get_weather"]
    assert client.types.count("response.created") == 1
    assert "function_call" not in json.dumps(client.seen)
    (transcript,) = client.events("response.output_audio_transcript.done")
    assert transcript["transcript"].startswith("It says get_weather got")


async def test_audio_goes_to_the_model_and_is_committed(gateway: Gateway) -> None:
    samples = base64.b64encode(b"\x01\x00" * 12_000).decode()
    async with realtime(gateway) as client:
        await client.until("session.created")
        await client.send("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": None}}})
        await client.until("session.updated")
        await client.send("input_audio_buffer.append", audio=samples)
        await client.send("input_audio_buffer.append", audio=samples, event_id="mine")
        await client.send("input_audio_buffer.commit")
        await client.until("input_audio_buffer.committed")
    assert client.events("error") == []


APPEND = "input_audio_buffer.append"
LONG = "e" * 513
TOO_LONG = "string_above_max_length"


@pytest.mark.parametrize(
    ("frame", "code", "param", "event_id"),
    [
        ("{", "invalid_json", None, None),
        ("[1]", "invalid_json", None, None),
        pytest.param('{"type": "x", "a": [' + "{}," * 300_000 + "{}]}", "invalid_json", None, None, id="many values"),
        ('{"type": "\ud800"}'.encode("utf-8", "surrogatepass"), "invalid_event", None, None),
        (b"\x00\x01", "invalid_event", None, None),
        ('{"no": "type", "event_id": "e"}', "invalid_event", "type", "e"),
        ('{"type": "dance", "event_id": "e"}', "invalid_value", "type", "e"),
        (f'{{"type": "{APPEND}", "audio": "%%%", "event_id": "e"}}', "invalid_value", "audio", "e"),
        (f'{{"type": "{APPEND}", "audio": "AAA"}}', "invalid_value", "audio", None),
        (f'{{"type": "{APPEND}", "audio": "AAAA"}}', "invalid_value", "audio", None),
        (f'{{"type": "{APPEND}"}}', "missing_required_parameter", "audio", None),
        (f'{{"type": "{APPEND}", "audio": 5}}', "invalid_type", "audio", None),
        (f'{{"type": "{APPEND}", "audio": "AAA=", "extra": 1}}', "unknown_parameter", "extra", None),
        (f'{{"type": "{APPEND}", "audio": "AAA=", "event_id": "vb_1"}}', "invalid_value", "event_id", "vb_1"),
        (f'{{"type": "{APPEND}", "audio": "AAAA", "event_id": "e"}}', "invalid_value", "audio", "e"),
        (f'{{"type": "{APPEND}", "event_id": "e"}}', "missing_required_parameter", "audio", "e"),
        (f'{{"type": "{APPEND}", "audio": 5, "event_id": "e"}}', "invalid_type", "audio", "e"),
        (f'{{"type": "{APPEND}", "audio": "AAA=", "more": 1, "event_id": "e"}}', "unknown_parameter", "more", "e"),
        (f'{{"type": "{APPEND}", "audio": "AAA=", "event_id": 5}}', "invalid_type", "event_id", None),
        (f'{{"type": "{APPEND}", "audio": "AAA=", "event_id": "{LONG}"}}', TOO_LONG, "event_id", LONG[:512]),
    ],
)
async def test_a_wrong_frame_is_answered_with_an_error_and_the_session_goes_on(
    gateway: Gateway, frame: str | bytes, code: str, param: str | None, event_id: str | None
) -> None:
    async with realtime(gateway) as client:
        await client.until("session.created")
        await client.socket.send(frame)
        error = (await client.until("error"))["error"]
        await say(client, "[[say: still here]]")
        done = await client.until("response.done")
    assert (error["code"], error["param"], error["event_id"]) == (code, param, event_id)
    assert error["type"] == "invalid_request_error"
    assert done["response"]["status"] == "completed"


async def test_an_append_that_the_model_refuses_is_an_error_with_the_clients_event_id(gateways: Gateways) -> None:
    async with (
        scripted_model(refuses=True) as model,
        gateways(model_url=model.url) as gateway,
        realtime(gateway) as client,
    ):
        await client.until("session.created")
        await client.send(APPEND, audio="AAA=", event_id="mine-1")
        await client.send(APPEND, audio="AAA=")
        errors = [(await client.until("error"))["error"] for _ in range(2)]
    appends = [event for event in model.heard if event["type"] == APPEND]
    assert [event.get("event_id") for event in appends] == ["mine-1", None]
    assert [error["event_id"] for error in errors] == ["mine-1", None]
    assert {error["code"] for error in errors} == {"invalid_value"}


async def test_settings_smuggled_into_an_append_do_not_reach_the_model(gateway: Gateway) -> None:
    frame = '{"type":"session.update","session":{"type":"realtime","instructions":"mine"},'
    frame += '"type":"input_audio_buffer.append","audio":"AAA="}'
    async with realtime(gateway) as client:
        await client.until("session.created")
        await client.socket.send(frame)
        error = (await client.until("error"))["error"]
        assert error["code"] == "unknown_parameter"
        assert error["param"] == "session"


async def test_a_20_mb_append_is_taken_and_a_frame_above_32_mib_closes_with_1009(gateway: Gateway) -> None:
    async with realtime(gateway) as client:
        await client.until("session.created")
        await client.send(APPEND, audio=base64.b64encode(bytes(15_000_000)).decode())
        await client.send("input_audio_buffer.clear")
        await client.until("input_audio_buffer.cleared")
        await client.send(APPEND, audio=base64.b64encode(bytes(16_000_000)).decode())
        assert (await client.until("error"))["error"]["code"] == "string_above_max_length"
        with contextlib.suppress(ConnectionClosed):  # the answer comes while it is being sent
            await client.socket.send("x" * (32 * 1024 * 1024 + 1))
        assert await client.closed() == 1009


@pytest.mark.parametrize("query", ["?agent=porter", "?model=porter", "?agent=porter&model=x"])
async def test_the_agent_is_chosen_by_the_address(gateway: Gateway, query: str) -> None:
    async with realtime(gateway, query) as client:
        created = await client.until("session.created")
    assert created["session"]["model"] == "porter"


async def test_a_model_that_names_no_agent_is_the_default_agent(gateway: Gateway) -> None:
    async with realtime(gateway, "?model=gpt-realtime") as client:
        assert (await client.until("session.created"))["session"]["model"] == "reception"


BETA = {"additional_headers": {"OpenAI-Beta": "realtime=v1"}}


@pytest.mark.parametrize(
    ("query", "options", "code", "param"),
    [
        ("?agent=nobody", {}, "invalid_model", "agent"),
        ("?model=x", BETA, "beta_api_shape_disabled", None),
        ("?intent=transcription", {}, "invalid_value", "intent"),
        ("?intent=dance", {"subprotocols": [REALTIME]}, "invalid_value", "intent"),
    ],
)
async def test_what_is_not_served_gets_101_then_an_error_then_close_4000(
    gateway: Gateway, query: str, options: dict[str, Any], code: str, param: str | None
) -> None:
    async with realtime(gateway, query, **options) as client:
        assert await client.closed() == 4000
        assert client.socket.subprotocol == (REALTIME if "subprotocols" in options else None)
    (event,) = client.seen
    assert (event["type"], event["error"]["code"], event["error"]["param"]) == ("error", code, param)
    assert client.socket.close_reason == f"invalid_request_error.{code}"


async def test_headers_of_other_betas_and_a_conversation_by_name_are_served(gateway: Gateway) -> None:
    options = {"additional_headers": {"OpenAI-Beta": "assistants=v2"}}
    async with realtime(gateway, "?intent=conversation&x=y", **options) as client:
        await client.until("session.created")


async def test_a_call_to_join_that_is_unknown_is_404(gateway: Gateway) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with realtime(gateway, "?call_id=rtc_unknown"):
            pass
    assert refused.value.response.status_code == 404
    assert json.loads(refused.value.response.body or b"")["code"] == "call_id_not_found"


async def test_a_full_gateway_answers_503_with_retry_after(gateways: Gateways) -> None:
    async with gateways(max_sessions=1) as gateway, realtime(gateway) as client:
        await client.until("session.created")
        with pytest.raises(InvalidStatus) as refused:
            async with realtime(gateway):
                pass
    response = refused.value.response
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert json.loads(response.body or b"")["code"] == "full"


async def test_a_gateway_that_shuts_down_says_so_instead_of_full(gateways: Gateways) -> None:
    async with gateways() as gateway:
        await gateway.sessions.drain(0)
        with pytest.raises(InvalidStatus) as refused:
            async with realtime(gateway):
                pass
    assert json.loads(refused.value.response.body or b"")["code"] == "draining"


async def test_who_is_being_let_in_as_the_gateway_stops_is_told_so(
    gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting, goes_on = asyncio.Event(), asyncio.Event()
    at_once = Admission._count

    async def later(admission: Admission, *counted: Any) -> None:
        counting.set()
        await goes_on.wait()
        await at_once(admission, *counted)

    async def comes(gateway: Gateway) -> Response:
        with pytest.raises(InvalidStatus) as refused:
            async with realtime(gateway):
                pass
        return refused.value.response

    async def once_it_stops(gateway: Gateway) -> None:
        await wait_until(lambda: gateway.health.draining, description="the drain, of no session")
        goes_on.set()

    monkeypatch.setattr(Admission, "_count", later)
    async with gateways() as gateway:
        coming = asyncio.create_task(comes(gateway))
        await counting.wait()
        stopping = asyncio.create_task(once_it_stops(gateway))
    await stopping
    response = await coming
    assert (response.status_code, json.loads(response.body or b"")["code"]) == (503, "draining")
    assert int(response.headers["Retry-After"]) > 0


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("acme:secret-key\n")
    return path


def authorised(key: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {key}"}}


def in_browser(key: str) -> dict[str, Any]:
    return {"subprotocols": [REALTIME, Subprotocol(f"openai-insecure-api-key.{key}")]}


@pytest.mark.parametrize("options", [authorised("secret-key"), in_browser("secret-key")])
async def test_a_valid_key_is_taken_from_the_header_or_a_subprotocol(
    gateways: Gateways, keys_file: Path, options: dict[str, Any]
) -> None:
    async with gateways(api_keys_file=keys_file) as gateway, realtime(gateway, **options) as client:
        await client.until("session.created")
        assert client.socket.subprotocol == (REALTIME if "subprotocols" in options else None)


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (authorised("wrong"), "invalid_api_key", "invalid_request_error.invalid_api_key"),
        (in_browser("wrong"), "invalid_api_key", "invalid_request_error.invalid_api_key"),
        ({}, None, "invalid_request_error"),
    ],
)
async def test_a_wrong_key_gets_101_then_an_error_then_close_3000(
    gateways: Gateways, keys_file: Path, options: dict[str, Any], code: str | None, reason: str
) -> None:
    async with gateways(api_keys_file=keys_file) as gateway, realtime(gateway, **options) as client:
        assert await client.closed() == 3000
    assert client.seen[0]["error"]["code"] == code
    assert client.socket.close_reason == reason


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Host": "rebound.example"},
        {"X-Forwarded-For": "203.0.113.9"},  # a proxy on this machine asks for somebody else
    ],
)
async def test_without_keys_whoever_is_elsewhere_gets_nothing(gateway: Gateway, headers: dict[str, str]) -> None:
    async with realtime(gateway, additional_headers=headers) as client:
        assert await client.closed() == 3000
    async with native(gateway, additional_headers=headers) as client:
        assert await client.closed() == 1008
    assert client.seen[0]["code"] == "credentials"


async def test_a_model_that_cannot_be_reached_is_said_and_closed(gateways: Gateways) -> None:
    async with gateways(model_url="ws://127.0.0.1:1/v1/realtime") as gateway, realtime(gateway) as client:
        assert await client.closed() == 1011
    (event,) = client.seen
    assert event["type"] == "error"
    assert event["error"]["message"] == "The model cannot be reached."
    assert "127.0.0.1" not in json.dumps(event)
