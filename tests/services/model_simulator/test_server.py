"""The simulator over real sockets."""

import asyncio
import base64
import json
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Opcode
from websockets.typing import Subprotocol

from services.model_simulator.client import connected
from support.simulator import running_simulator
from support.waiting import wait_until
from voicebus_services.model_simulator import tape

BRIEF = {"type": "server_vad", "silence_duration_ms": 300}


async def refusal(url: str, **options: Any) -> tuple[dict[str, Any], int, str]:
    """The one error event of a refused connection, and how it was closed."""
    async with connect(url, **options) as socket:
        event = json.loads(await socket.recv())
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert event["type"] == "error"
        assert event["event_id"]
        assert closed.value.rcvd is not None
        return event["error"], closed.value.rcvd.code, closed.value.rcvd.reason


async def test_a_voice_turn_goes_from_speech_to_speech() -> None:
    async with running_simulator() as simulator, connected(simulator.url) as client:
        assert (await client.receive())["type"] == "session.created"
        await client.send("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": BRIEF}}})
        await client.until("session.updated")
        await client.append(bytes(9600) + tape.record("how are you") + bytes(48_000))
        done = await client.until("response.done")
        assert done["response"]["output"][0]["content"][0]["transcript"] == "You said: how are you"
        deltas = [event["delta"] for event in client.events if event["type"] == "response.output_audio.delta"]
        assert tape.play_back(b"".join(map(base64.b64decode, deltas))) == "You said: how are you"
        (session,) = simulator.ledger()
        lines = [(line["speaker"], line["text"]) for line in session["lines"]]
        assert lines == [("user", "how are you"), ("agent", "You said: how are you")]


async def test_a_function_call_goes_out_and_its_output_is_spoken() -> None:
    async with running_simulator() as simulator, connected(simulator.url) as client:
        await client.say('[[say: One moment.]] [[call: look {"a": 1}]] [[call: ask {"b": ]]')
        output = (await client.until("response.done"))["response"]["output"]
        assert [item.get("arguments") for item in output] == [None, '{"a": 1}', '{"b":']
        for item in output[1:]:
            result = {"type": "function_call_output", "call_id": item["call_id"], "output": f"of {item['name']}"}
            await client.send("conversation.item.create", item=result)
        await client.send("response.create")
        (spoken,) = (await client.until("response.done"))["response"]["output"]
        assert spoken["content"][0]["transcript"] == "The result is: of look; of ask"


@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        ("?model=gpt-realtime", {}, (None, 3000, "invalid_request_error")),
        (
            "?model=gpt-realtime",
            {"Authorization": "Bearer wrong"},
            ("invalid_api_key", 3000, "invalid_request_error.invalid_api_key"),
        ),
        ("", {"Authorization": "Bearer right"}, ("missing_model", 4000, "invalid_request_error.missing_model")),
        (
            "?model=no-such-model",
            {"Authorization": "Bearer right"},
            ("invalid_model", 4000, "invalid_request_error.invalid_model"),
        ),
        (
            "?model=gpt-realtime",
            {"Authorization": "Bearer right", "OpenAI-Beta": "realtime=v1"},
            ("beta_api_shape_disabled", 4000, "invalid_request_error.beta_api_shape_disabled"),
        ),
    ],
)
async def test_who_may_not_enter_gets_an_error_and_a_close_after_the_upgrade(
    query: str, headers: dict[str, str], expected: tuple[str | None, int, str]
) -> None:
    async with running_simulator(simulator_api_key="right") as simulator:
        error, code, reason = await refusal(simulator.url + query, additional_headers=headers)
        assert (error["code"], code, reason) == expected
        assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("query", "key", "status"),
    [("?model=gpt-realtime", None, 401), ("?model=gpt-realtime", "wrong", 401), ("?model=nothing", "right", 404)],
)
async def test_a_strict_simulator_answers_with_an_http_status(query: str, key: str | None, status: int) -> None:
    async with running_simulator(simulator_api_key="right", strict_auth=True) as simulator:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with pytest.raises(InvalidStatus) as refused:
            await connect(simulator.url + query, additional_headers=headers)
        assert refused.value.response.status_code == status
        assert json.loads(refused.value.response.body)["error"]["type"] == "invalid_request_error"


async def test_a_browser_gets_its_subprotocol_and_its_key_is_read_from_the_other() -> None:
    async with running_simulator(simulator_api_key="ek_right") as simulator:
        offered = [Subprotocol("realtime"), Subprotocol("openai-insecure-api-key.ek_right")]
        async with connected(simulator.url, key=None, subprotocols=offered) as client:
            assert client.socket.subprotocol == "realtime"
            assert (await client.receive())["type"] == "session.created"
        wrong = [Subprotocol("realtime"), Subprotocol("openai-insecure-api-key.ek_wrong")]
        _, code, _ = await refusal(f"{simulator.url}?model=gpt-realtime", subprotocols=wrong)
        assert code == 3000


async def test_the_azure_path_takes_an_api_key_header_and_any_deployment_name() -> None:
    async with running_simulator(simulator_api_key="right") as simulator:
        url = simulator.url.replace("/v1/", "/openai/v1/") + "?model=my-deployment"
        async with connected(url, key=None, headers=[("api-key", "right")]) as client:
            assert (await client.receive())["session"]["model"] == "my-deployment"


async def test_other_paths_are_not_found() -> None:
    async with running_simulator() as simulator:
        with pytest.raises(InvalidStatus) as refused:
            await connect(simulator.url + "/else")
        assert refused.value.response.status_code == 404


async def test_frames_that_are_no_events_are_errors_and_the_session_goes_on() -> None:
    async with running_simulator() as simulator, connected(simulator.url) as client:
        await client.receive()
        for frame, code in (
            ("no json", "invalid_json"),
            ("[]", "invalid_event"),
            ("{}", "invalid_event"),
            (b"\x00\x01", "invalid_event"),
            ('{"type": "no.such.event"}', "invalid_value"),
            ('{"type": "output_audio_buffer.clear"}', "invalid_value"),
        ):
            await client.socket.send(frame)
            event = await client.receive()
            assert (event["type"], event["error"]["code"]) == ("error", code)
        assert event["error"]["param"] == "type"
        await client.say("still here?")
        assert (await client.until("response.done"))["response"]["status"] == "completed"


async def test_a_whole_15_mib_append_fits_in_a_frame() -> None:
    async with running_simulator() as simulator, connected(simulator.url) as client:
        await client.send("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": None}}})
        await client.send("input_audio_buffer.append", audio=base64.b64encode(bytes(15 * 1024 * 1024)).decode())
        await client.send("input_audio_buffer.commit")
        await client.until("conversation.item.done")
        assert "error" not in client.types()


async def test_sessions_do_not_hear_each_other() -> None:
    async with running_simulator() as simulator, connected(simulator.url) as one, connected(simulator.url) as two:
        await one.socket.send("{")
        await asyncio.gather(one.say("I am one"), two.say("I am two"))
        done = await asyncio.gather(one.until("response.done"), two.until("response.done"))
        said = [event["response"]["output"][0]["content"][0]["transcript"] for event in done]
        assert said == ["You said: I am one", "You said: I am two"]
        assert "error" in one.types()
        assert "error" not in two.types()
        assert not {event["event_id"] for event in one.events} & {event["event_id"] for event in two.events}


async def test_a_sideband_sees_the_same_events_and_its_updates_apply_to_both() -> None:
    async with running_simulator() as simulator, connected(simulator.url) as primary:
        session_id = (await primary.receive())["session"]["id"]
        async with connected(f"{simulator.url}?call_id={session_id}") as sideband:
            assert (await sideband.receive())["session"]["id"] == session_id
            await sideband.send("session.update", session={"type": "realtime", "instructions": "Whisper."})
            updated = await asyncio.gather(primary.receive(), sideband.receive())
            assert updated[0] == updated[1]
            assert updated[0]["session"]["instructions"] == "Whisper."
            await primary.say("hello")
            await asyncio.gather(primary.until("response.done"), sideband.until("response.done"))
            assert primary.events[1:] == sideband.events[1:]
        await primary.say("and again")
        await primary.until("response.done")


async def test_a_sideband_ends_with_its_session_and_an_unknown_call_is_not_found() -> None:
    async with running_simulator() as simulator:
        async with connected(simulator.url) as primary:
            session_id = (await primary.receive())["session"]["id"]
            async with connected(f"{simulator.url}?call_id={session_id}") as sideband:
                await sideband.receive()
                await primary.socket.close()
                with pytest.raises(ConnectionClosed):
                    await sideband.receive()
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{simulator.url}?call_id=rtc_x", additional_headers={"Authorization": "Bearer k"})
        assert refused.value.response.status_code == 404
        assert json.loads(refused.value.response.body)["error"]["code"] == "call_id_not_found"


async def test_a_normal_close_is_echoed_and_ends_the_session() -> None:
    async with running_simulator() as simulator:
        async with connected(simulator.url) as client:
            await client.receive()
            await client.socket.close(1000)
            assert client.socket.close_code == 1000
        await wait_until(lambda: not simulator.hub.sessions, description="the session to end")


async def test_the_server_pings_and_drops_who_does_not_answer() -> None:
    async with running_simulator(ping_interval=0.2) as simulator, connected(simulator.url) as client:
        pings: list[bytes] = []
        protocol = client.socket.protocol
        receive = protocol.recv_frame

        def deaf(frame: Any) -> None:
            if frame.opcode is Opcode.PING:
                pings.append(bytes(frame.data))
            else:
                receive(frame)

        protocol.recv_frame = deaf  # type: ignore[method-assign]
        with pytest.raises(ConnectionClosed):
            await client.until("an event that never comes")
        assert len(pings) == 1
        assert len(pings[0]) == 4


async def test_who_answers_pings_stays() -> None:
    async with running_simulator(ping_interval=0.05) as simulator, connected(simulator.url) as client:
        await client.receive()
        pings = 0
        receive = client.socket.protocol.recv_frame

        def counting(frame: Any) -> None:
            nonlocal pings
            pings += frame.opcode is Opcode.PING
            receive(frame)

        client.socket.protocol.recv_frame = counting  # type: ignore[method-assign]
        await wait_until(lambda: pings >= 4, description="four pings")
        await client.say("hello")
        await client.until("response.done")


async def test_a_session_expires_at_its_time() -> None:
    async with running_simulator(session_lifetime=0.3) as simulator, connected(simulator.url) as client:
        created = await client.receive()
        event = await client.receive()
        assert created["session"]["expires_at"]
        assert event["error"]["code"] == "session_expired"
        with pytest.raises(ConnectionClosed):
            await client.receive()


async def test_the_socket_can_drop_in_the_middle_of_a_response() -> None:
    async with running_simulator() as simulator, connected(simulator.url) as client:
        await client.say("[[fault: drop]]")
        with pytest.raises(ConnectionClosed) as closed:
            await client.until("response.done")
        assert closed.value.rcvd is None
        assert "response.output_audio.delta" in client.types()


async def test_silence_answers_nothing_and_leaves_the_conversation_free() -> None:
    async with running_simulator() as simulator, connected(simulator.url) as client:
        await client.say("[[fault: silence]]")
        await client.until("conversation.item.done")
        await wait_until(
            lambda: all(live.session.responder.active is None for live in simulator.hub.sessions.values()),
            description="the silent response to be forgotten",
        )
        seen = len(client.events)
        await client.say("hello")
        await client.until("response.done")
        assert client.types()[seen:].count("response.created") == 1


async def test_a_stalled_response_can_be_cancelled() -> None:
    async with running_simulator() as simulator, connected(simulator.url) as client:
        await client.say("[[fault: stall]]")
        await client.until("response.created")
        await client.send("response.cancel")
        assert (await client.until("response.done"))["response"]["status"] == "cancelled"


@pytest.mark.parametrize("code", ["rate_limit_exceeded", "insufficient_quota", "server_error"])
async def test_a_response_can_fail(code: str) -> None:
    async with running_simulator() as simulator, connected(simulator.url) as client:
        await client.say(f"[[fault: failed {code}]]")
        response = (await client.until("response.done"))["response"]
        assert response["status"] == "failed"
        assert response["status_details"]["error"]["code"] == code
        await client.say("hello")
        assert (await client.until("response.done"))["response"]["status"] == "completed"


async def test_a_malformed_frame_can_come_before_an_answer() -> None:
    async with running_simulator() as simulator, connected(simulator.url) as client:
        await client.say("[[fault: malformed]]")
        with pytest.raises(json.JSONDecodeError):
            await client.until("response.done")
        assert (await client.until("response.done"))["response"]["status"] == "completed"


async def test_a_transcription_can_fail_and_the_model_answers_all_the_same() -> None:
    async with running_simulator() as simulator, connected(simulator.url) as client:
        hearing = {"transcription": {"model": "gpt-4o-transcribe"}, "turn_detection": BRIEF}
        await client.send("session.update", session={"type": "realtime", "audio": {"input": hearing}})
        await client.append(tape.record("[[fault: transcription_failed]] [[say: yes]]") + bytes(48_000))
        done = await client.until("response.done")
        assert done["response"]["output"][0]["content"][0]["transcript"] == "yes"
        names = [name for name in client.types() if "transcription" in name]
        assert names == ["conversation.item.input_audio_transcription.failed"]


async def test_a_thinking_model_has_created_its_response_before_it_answers() -> None:
    async with running_simulator() as simulator, connected(simulator.url) as client:
        await client.say("[[delay: 30s]] [[say: at last]]")
        await client.until("response.created")
        await client.send("response.cancel")
        done = await client.until("response.done")
        assert (done["response"]["status"], done["response"]["output"]) == ("cancelled", [])


async def test_required_tools_are_called_over_the_socket() -> None:
    async with running_simulator() as simulator, connected(simulator.url) as client:
        tools = [{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}]
        await client.send("session.update", session={"type": "realtime", "tools": tools, "tool_choice": "required"})
        await client.say("hello")
        assert (await client.until("response.done"))["response"]["output"][0]["name"] == "look"
        await client.send("response.create", response={"tool_choice": "none"})
        assert (await client.until("response.done"))["response"]["output"][0]["type"] == "message"


async def test_steps_go_out_when_the_test_says_so() -> None:
    async with running_simulator(pace="step") as simulator, connected(simulator.url) as client:
        await client.say("a long sentence with many words in it")
        await client.until("response.created")
        simulator.step()
        await client.until("response.output_audio.delta")
        await client.send("response.cancel")
        await client.until("response.done")
        assert client.types().count("response.output_audio.delta") == 1


async def test_paced_audio_takes_its_time() -> None:
    async with running_simulator(pace=2) as simulator, connected(simulator.url) as client:
        started = asyncio.get_running_loop().time()
        await client.say("[[say: hello]]")
        await client.until("response.done")
        audio_s = client.types().count("response.output_audio.delta") * 0.1
        assert asyncio.get_running_loop().time() - started > (audio_s - 0.2) / 2


async def test_speech_interrupts_a_paced_answer() -> None:
    async with running_simulator(pace=1) as simulator, connected(simulator.url) as client:
        await client.say("tell me a long story")
        await client.until("response.output_audio.delta")
        await client.append(tape.record("stop"))
        await client.until("input_audio_buffer.speech_started")
        done = await client.until("response.done")
        assert done["response"]["status_details"] == {"type": "cancelled", "reason": "turn_detected"}


async def test_the_ledger_is_served_only_where_it_is_switched_on() -> None:
    async with running_simulator() as simulator, httpx2.AsyncClient() as http:
        async with connected(simulator.url) as client:
            await client.say("hello")
            await client.until("response.done")
        body = (await http.get(f"{simulator.http_url}/ledger")).json()
        assert [line["text"] for line in body["data"][0]["lines"]] == ["hello", "You said: hello"]
    async with running_simulator(ledger=False) as simulator, httpx2.AsyncClient() as http:
        assert (await http.get(f"{simulator.http_url}/ledger")).status_code == 404


async def test_the_same_seed_gives_the_same_session_again() -> None:
    async def traffic() -> list[dict[str, Any]]:
        async with running_simulator(seed=5) as simulator, connected(simulator.url) as client:
            await client.until("session.created")
            await client.say("hello")
            await client.until("response.done")
            return client.events[1:]

    assert await traffic() == await traffic()


async def test_a_transcription_session_hears_without_answering() -> None:
    async with running_simulator() as simulator, connected(f"{simulator.url}?intent=transcription") as client:
        assert (await client.receive())["session"]["type"] == "transcription"
        hearing = {"transcription": {"model": "gpt-4o-transcribe"}}
        await client.send("session.update", session={"type": "transcription", "audio": {"input": hearing}})
        await client.append(tape.record("note this") + bytes(48_000))
        completed = await client.until("conversation.item.input_audio_transcription.completed")
        assert completed["transcript"] == "note this"
        assert not [name for name in client.types() if name.startswith("response.")]


async def test_a_client_that_leaves_in_the_middle_of_an_answer_leaves_no_error_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running_simulator() as simulator:
        for _ in range(5):
            async with connected(simulator.url) as client:
                await client.say("word " * 500)
                await client.until("response.output_audio.delta")
                client.socket.transport.abort()
        await wait_until(lambda: not simulator.hub.sessions, description="the sessions to end")
        async with connected(simulator.url) as client:
            await client.say("hello")
            await client.until("response.output_audio.delta")
        await wait_until(lambda: not simulator.hub.sessions, description="the last session to end")
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
