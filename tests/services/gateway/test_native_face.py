"""`WS /v1/sessions/connect` against the simulator, through a real Redis."""

import asyncio
import base64
import contextlib
import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from services.gateway.clients import native, tool_outcomes
from services.gateway.conftest import Gateways
from support.simulator import SimulatorHandle
from support.waiting import wait_until
from voicebus.contracts.tools import ToolCall
from voicebus.errors import BusError
from voicebus_services.gateway.wiring import Gateway


async def test_a_text_turn_is_answered_with_audio_between_its_events(gateway: Gateway) -> None:
    async with native(gateway) as client:
        await client.send("send_message", text="[[say: Good morning to you]]", id="m1")
        await client.until("turn_ended")
        types = client.types
    assert types[:2] == ["session_started", "history_updated"]
    started = client.seen[0]
    assert started["seq"] == 1
    assert started["agent"] == "reception"
    assert started["audio"]["output"] == {"type": "audio/pcm", "rate": 24000}
    assert len(started["token"]) >= 32
    assert {"type": "ack", "id": "m1"}.items() <= client.events("ack")[0].items()
    assert types.index("audio") < types.index("<binary>")
    assert types.count("audio") == 1
    assert len(client.audio) > 0
    assert len(client.audio) % 2 == 0
    recorded = [frame["seq"] for frame in client.seen if not isinstance(frame, bytes)]
    assert recorded == sorted(recorded)


async def test_a_message_may_have_several_parts(gateway: Gateway) -> None:
    parts = [{"type": "input_text", "text": "Look: "}, {"type": "input_text", "text": "[[say: I see]]"}]
    async with native(gateway) as client:
        await client.send("send_message", content=parts, id="m")
        await client.until("ack", id="m")
        asked = await client.until("item_recorded", role="user")
        spoken = await client.until("item_recorded", role="assistant")
    assert "Look: " in asked["text"]
    assert spoken["text"] == "I see"


async def test_a_turn_tells_when_its_audio_begins_and_what_was_said_in_all(gateway: Gateway) -> None:
    async with native(gateway) as client:
        await client.send("send_message", text="[[say: Good morning]]")
        begun = await client.until("audio_start")
        await client.until("item_recorded", role="assistant")
    assert begun["content_index"] == 0
    assert begun["item_id"] == client.events("audio")[0]["item_id"]
    assert [end["output"] for end in client.events("agent_end")] == ["Good morning"]


async def test_what_is_interrupted_says_that_its_audio_stopped(gateway: Gateway) -> None:
    async with native(gateway) as client:
        await client.send("send_message", text=f"[[say: {'word ' * 200}]]")
        begun = await client.until("audio_start")
        await client.send("interrupt", id="i")
        stopped = await client.until("audio_interrupted")
        await client.until("ack", id="i")
    assert stopped["item_id"] == begun["item_id"]


async def test_a_tool_call_goes_out_over_redis_and_comes_back(gateway: Gateway, tool_worker: list[ToolCall]) -> None:
    counted = tool_outcomes("get_weather", "ok")
    async with native(gateway) as client:
        message = '[[call: get_weather {"city": "Paris"}]][[next]][[say: It says {outputs}]]'
        await client.send("send_message", text=message)
        start = await client.until("tool_start")
        end = await client.until("tool_end")
        await client.until("item_recorded", role="assistant")
    assert (start["tool"], json.loads(start["arguments"])) == ("get_weather", {"city": "Paris"})
    assert (end["call_id"], end["outcome"]) == (start["call_id"], "ok")
    assert end["output"] == 'get_weather got {"city": "Paris"}'
    assert "get_weather got" in client.seen[-1]["text"]
    assert [call.tool for call in tool_worker] == ["get_weather"]
    assert tool_outcomes("get_weather", "ok") == counted + 1


async def test_a_handoff_changes_the_agent_in_charge(gateway: Gateway) -> None:
    async with native(gateway, "?agent=porter") as client:
        await client.send("send_message", text="[[call: transfer_to_reception {}]][[next]][[say: Welcome]]")
        handoff = await client.until("handoff")
        spoken = await client.until("item_recorded", role="assistant")
    assert (handoff["from_agent"], handoff["to_agent"]) == ("porter", "reception")
    assert spoken["agent"] == "reception"


async def test_speech_goes_in_as_binary_frames_and_is_committed(gateway: Gateway, simulator: SimulatorHandle) -> None:
    async with native(gateway) as client:
        await client.until("history_updated")
        for _ in range(10):
            await client.socket.send(b"\x01\x00" * 1200)
        await client.send("commit", id="c")
        await client.until("turn_ended")
        if not client.events("ack"):  # a commit is acknowledged once it is safe: before its answer has ended, or after
            await client.until("ack", id="c")
        client_items = client.events("item_recorded")
    assert [item["role"] for item in client_items][:1] == ["user"]


async def test_audio_may_be_asked_for_as_json(gateway: Gateway) -> None:
    async with native(gateway, "?audio=json") as client:
        await client.send("send_message", text="[[say: hello]]")
        await client.until("turn_ended")
    assert client.audio == b""
    samples = b"".join(base64.b64decode(event["data"]) for event in client.events("audio"))
    assert len(samples) > 0
    assert {"item_id", "response_id", "content_index"} <= client.events("audio")[0].keys()


async def test_raw_events_come_only_where_asked(gateway: Gateway) -> None:
    async with native(gateway, "?raw=1") as raw, native(gateway) as plain:
        for client in (raw, plain):
            await client.send("send_message", text="[[say: hello]]")
            await client.until("turn_ended")
    begun = [event["event"] for event in raw.events("raw_model_event") if event["event"]["type"] == "response.created"]
    assert [event["response"]["metadata"] for event in begun] == [None]  # our mark is our own
    assert not plain.events("raw_model_event")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("{", "invalid_json"),
        ("[]", "invalid_json"),
        pytest.param('{"type": "x", "content": [' + "{}," * 300_000 + "{}]}", "invalid_json", id="many values"),
        ('{"type": "send_message", "id": "x", "text": "\\ud800"}', "invalid_json"),
        ('{"type": "reject", "id": "x", "call_id": "c", "message": "\\ud800"}', "invalid_json"),
        ("{}", "invalid_event"),
        ('{"type": 1}', "invalid_event"),
        ('{"type": "dance", "id": "x"}', "unknown_command"),
        ('{"type": "send_message", "id": "x"}', "invalid_value"),
        (
            '{"type": "send_message", "id": "x", "content": [{"type": "input_image", "image_url": "ftp://a/b.png"}]}',
            "invalid_value",
        ),
        ('{"type": "send_message", "id": "x", "text": 5}', "invalid_value"),
        ('{"type": "send_message", "id": "x", "content": [{"type": "input_audio"}]}', "invalid_value"),
        ('{"type": "playback", "id": "x"}', "invalid_value"),
        ('{"type": "audio", "id": "x"}', "invalid_value"),
        ('{"type": "audio", "id": "x", "data": "%%%"}', "invalid_value"),
        ('{"type": "audio", "id": "x", "data": "AAAA"}', "invalid_value"),
        ('{"type": "update_agent", "id": "x", "agent": "nobody"}', "unknown_agent"),
        ('{"type": "approve", "id": "x", "call_id": "c"}', "unknown_call"),
        ('{"type": "reject", "id": "x", "call_id": "c", "message": "no"}', "unknown_call"),
        (b"\x00\x01\x02", "invalid_value"),
    ],
)
async def test_a_wrong_frame_is_answered_with_an_error_and_the_session_goes_on(
    gateway: Gateway, frame: str | bytes, code: str
) -> None:
    async with native(gateway) as client:
        await client.socket.send(frame)
        error = await client.until("error")
        await client.send("interrupt", id="still here")
        await client.until("ack", id="still here")
    assert error["code"] == code
    assert error["message"]
    assert error["id"] == ("x" if isinstance(frame, str) and '"x"' in frame and code != "invalid_json" else None)


async def test_a_20_mb_frame_is_answered_and_one_above_32_mib_closes_with_1009(gateway: Gateway) -> None:
    async with native(gateway) as client:
        await client.socket.send("x" * 20_000_000)
        assert (await client.until("error"))["code"] == "invalid_json"
        with contextlib.suppress(ConnectionClosed):  # the answer comes while it is being sent
            await client.socket.send("x" * (32 * 1024 * 1024 + 1))
        assert await client.closed() == 1009


async def test_another_agent_takes_over_on_the_clients_word(gateway: Gateway) -> None:
    async with native(gateway) as client:
        await client.send("update_agent", agent="porter", id="u")
        await client.until("ack", id="u")
        await client.send("send_message", text="[[say: hello]]")
        spoken = await client.until("item_recorded", role="assistant")
    assert spoken["agent"] == "porter"


async def test_an_agent_that_cannot_take_over_is_said_without_internal_addresses(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(context: Any, agent: Any) -> str:
        raise BusError("Redis at 10.0.0.8:6379 cannot be reached")

    async with native(gateway) as client:
        await client.until("history_updated")
        monkeypatch.setattr(gateway.sessions._targets.agents["porter"], "instructions", away)
        await client.send("update_agent", agent="porter", id="u")
        error = await client.until("error", id="u")
        assert (error["code"], error["message"]) == ("agent_failed", "agent 'porter' cannot take over (BusError)")
        # A client that has lost this answer asks again: nothing was done that could be acknowledged.
        await client.send("update_agent", agent="porter", id="u", again=True)
        assert (await client.until("error", id="u"))["code"] == "agent_failed"
        await client.send("end")
        assert await client.closed() == 1000


async def test_muted_audio_does_not_reach_the_model(gateway: Gateway) -> None:
    async with native(gateway, "?raw=1") as client:
        await client.send("mute", muted=True, id="m")
        await client.until("ack", id="m")
        await client.socket.send(b"\x00\x00" * 24_000)
        await client.send("commit")
        error = await _model_error(client)
    assert error["code"] == "input_audio_buffer_commit_empty"


async def _model_error(client: Any) -> dict[str, Any]:
    while True:
        raw = await client.until("raw_model_event")
        event: dict[str, Any] = raw["event"]
        if event["type"] == "error":
            found: dict[str, Any] = event["error"]
            return found


async def test_end_is_acknowledged_recorded_and_closes_with_1000(gateway: Gateway) -> None:
    async with native(gateway) as client:
        await client.send("end", id="e")
        code = await client.closed()
    assert code == 1000
    assert client.types[-2:] == ["ack", "session_ended"]
    assert client.seen[-1]["reason"] == "ended"


async def test_every_command_with_an_id_is_answered_though_the_session_ends_meanwhile(gateway: Gateway) -> None:
    async with native(gateway) as client:
        await client.until("history_updated")
        await client.send("update_agent", id="a", agent="porter")
        await client.send("commit", id="c")
        await client.send("end", id="e")
        assert await client.closed() == 1000
    answers = [(event["id"], event["type"], event.get("code")) for event in client.seen if event.get("id")]
    assert sorted(given for given, *_ in answers) == ["a", "c", "e"]
    assert answers[-1] == ("e", "ack", None)
    assert {answer[1:] for answer in answers[:-1]} <= {("ack", None), ("error", "session_ended")}


async def test_an_unknown_session_cannot_be_resumed_here(gateway: Gateway) -> None:
    async with native(gateway, "?session=01J&token=t") as client:
        assert await client.closed() == 4404
    assert client.types == ["error"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("seq=abc", "seq is 'abc', but the seq of a recorded event, a whole number from 0 on, is allowed"),
        ("seq=-1", "seq is '-1', but the seq of a recorded event, a whole number from 0 on, is allowed"),
        ("audio=mp3", "audio is 'mp3', but binary, json or none is allowed"),
        ("raw=yes", "raw is 'yes', but 1 or 0 is allowed"),
        ("session=x&observe=maybe", "observe is 'maybe', but 1 or 0 is allowed"),
    ],
)
async def test_a_query_that_cannot_be_understood_is_refused_in_a_sentence(
    gateway: Gateway, query: str, message: str
) -> None:
    async with native(gateway, f"?{query}") as client:
        assert await client.closed() == 1008
    (error,) = client.seen
    assert (error["type"], error["code"], error["message"]) == ("error", "invalid_parameter", message)
    assert not list(gateway.sessions)


async def test_a_client_may_ask_for_no_audio(gateway: Gateway) -> None:
    async with native(gateway, "?audio=none&raw=0") as client:
        await client.send("send_message", text="[[say: Not heard.]]")
        await client.until("turn_ended")
    assert not any(isinstance(event, bytes) or event["type"] == "audio" for event in client.seen)


async def test_an_unknown_agent_is_refused(gateway: Gateway) -> None:
    async with native(gateway, "?agent=nobody") as client:
        assert await client.closed() == 1008
    assert client.seen[0]["code"] == "unknown_agent"


async def test_exactly_as_many_sessions_are_admitted_as_there_are_slots(gateways: Gateways) -> None:
    async with gateways(max_sessions=2) as gateway, native(gateway) as one, native(gateway) as two:
        await one.until("session_started")
        await two.until("session_started")
        async with native(gateway) as three:
            assert await three.closed() == 4429
        await one.send("end")
        await one.closed()
        await wait_until(lambda: gateway.sessions.free == 1, description="the slot to be free again")
        async with native(gateway) as four:
            await four.until("session_started")


async def test_a_client_that_hangs_up_ends_its_session(gateway: Gateway) -> None:
    async with native(gateway) as client:
        await client.until("history_updated")
        assert len(list(gateway.sessions)) == 1
    await wait_until(lambda: not list(gateway.sessions), description="the session's end")


async def test_a_gateway_that_stops_ends_what_is_left_with_1012(gateways: Gateways) -> None:
    async with gateways(drain_timeout=0.1) as gateway:
        connection = native(gateway)
        client = await connection.__aenter__()
        await client.until("history_updated")
        closing = asyncio.create_task(client.closed())
    assert await closing == 1012
    assert client.seen[-1]["reason"] == "drained"
    await connection.__aexit__(None, None, None)


async def test_a_model_that_cannot_be_reached_is_tried_a_few_times_said_recorded_and_closed(gateways: Gateways) -> None:
    async with gateways(model_url="ws://127.0.0.1:1/v1/realtime") as gateway, native(gateway) as client:
        assert await client.closed() == 1011
    tried = ["model_reconnecting"] * 3
    assert client.types == ["session_started", "history_updated", *tried, "error", "session_ended"]
    assert client.events("error")[0]["message"] == "The model cannot be reached."
    assert "127.0.0.1" not in json.dumps(client.seen)
    assert client.seen[-1]["reason"] == "model_lost"
