"""The scripted server over a real socket: steps, acknowledgements, whole turns, drops, and many connections."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from voicebus.testing import (
    Drop,
    RealtimeScriptError,
    ScriptedRealtimeServer,
    ServerStep,
    UnconsumedRealtimeSteps,
    UnexpectedRealtimeSend,
    audio_turn,
    barge_in,
    end_turn,
    failed_turn,
    function_call,
    function_calls,
    open_turn,
    server_error,
    text_turn,
    user_turn,
)

CREATE = {"type": "response.create"}
HELLO = {
    "type": "conversation.item.create",
    "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]},
}


class Client:
    """Sends JSON and reads until something came."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.seen: list[dict[str, Any]] = []

    async def send(self, *events: dict[str, Any]) -> None:
        for event in events:
            await self.socket.send(json.dumps(event))

    async def until(self, kind: str) -> dict[str, Any]:
        async for frame in self.socket:
            self.seen.append(json.loads(frame))
            if self.seen[-1]["type"] == kind:
                return self.seen[-1]
        raise AssertionError(f"closed before {kind}; saw {self.types}")

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.seen]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.seen if event["type"] == kind]


@asynccontextmanager
async def dialled(server: ScriptedRealtimeServer, query: str = "", **options: Any) -> AsyncIterator[Client]:
    async with connect(server.url + query, **options) as socket:
        yield Client(socket)


async def test_a_text_turn_has_the_order_of_the_protocol() -> None:
    async with (
        ScriptedRealtimeServer([ServerStep("response.create", text_turn("It is sunny."))]) as server,
        dialled(server) as client,
    ):
        await client.send(HELLO, CREATE)
        done = await client.until("response.done")
    assert client.types == [
        "session.created",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 3,
        "response.output_text.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ]
    assert "".join(event["delta"] for event in client.of("response.output_text.delta")) == "It is sunny."
    assert done["response"]["status"] == "completed"
    assert done["response"]["output"][0]["content"] == [{"type": "output_text", "text": "It is sunny."}]
    assert len({event["event_id"] for event in client.seen}) == len(client.seen)
    server.assert_complete()


async def test_an_audio_turn_carries_the_given_samples_in_pieces() -> None:
    samples = bytes(range(256)) * 40
    script = [ServerStep("response.create", audio_turn("Hello there", samples))]
    async with ScriptedRealtimeServer(script) as server, dialled(server) as client:
        await client.send(CREATE)
        await client.until("response.done")
    pieces = [base64.b64decode(event["delta"]) for event in client.of("response.output_audio.delta")]
    assert b"".join(pieces) == samples
    assert [len(piece) for piece in pieces] == [4800, 4800, 640]
    assert client.of("response.output_audio_transcript.done")[0]["transcript"] == "Hello there"


async def test_made_up_sound_has_the_format_of_the_session() -> None:
    update = {"type": "session.update", "session": {"type": "realtime", "audio": {"output": {"voice": "ash"}}}}
    update["session"]["audio"]["output"]["format"] = {"type": "audio/pcmu"}  # type: ignore[index]
    async with (
        ScriptedRealtimeServer([ServerStep("response.create", audio_turn("Hi"))]) as server,
        dialled(server) as client,
    ):
        await client.send(update, CREATE)
        await client.until("response.done")
    (piece,) = client.of("response.output_audio.delta")
    assert base64.b64decode(piece["delta"]) == b"\xff" * (8 * 20 * 2)
    updated = client.of("session.updated")[0]["session"]
    assert updated["audio"]["output"] == {"format": {"type": "audio/pcmu"}, "voice": "ash"}
    assert updated["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24000}, "what was not sent stays"


async def test_a_response_carries_the_metadata_of_the_create_that_asked_for_it() -> None:
    steps = [ServerStep("response.create", text_turn("one")), ServerStep(None, text_turn("two"))]
    async with ScriptedRealtimeServer(steps) as server, dialled(server) as client:
        await client.send({**CREATE, "response": {"metadata": {"req": "7"}}})
        await client.until("response.done")
        await client.until("response.done")
    assert [event["response"]["metadata"] for event in client.of("response.done")] == [{"req": "7"}, None]


async def test_function_calls_are_items_with_ids_of_their_own() -> None:
    calls = function_calls(("get_weather", {"city": "Paris"}, "call_x"), ("book", "not json", None), preamble="Let me")
    async with ScriptedRealtimeServer([ServerStep("response.create", calls)]) as server, dialled(server) as client:
        await client.send(CREATE)
        done = await client.until("response.done")
    spoken, first, second = done["response"]["output"]
    assert spoken["type"] == "message"
    assert (first["name"], json.loads(first["arguments"]), first["call_id"]) == (
        "get_weather",
        {"city": "Paris"},
        "call_x",
    )
    assert (second["name"], second["arguments"]) == ("book", "not json")
    assert second["call_id"] not in ("", "call_x")
    assert [event["output_index"] for event in client.of("response.output_item.done")] == [0, 1, 2]
    assert len({item["id"] for item in done["response"]["output"]}) == 3


async def test_a_barge_in_cuts_off_what_is_said_and_becomes_a_turn_of_the_user() -> None:
    steps = [ServerStep("response.create", open_turn("Well, the")), ServerStep({"type": "x"}, barge_in("stop"))]
    async with ScriptedRealtimeServer(steps) as server, dialled(server) as client:
        await client.send(CREATE, {"type": "x"})
        await client.until("conversation.item.input_audio_transcription.completed")
    order = [kind for kind in client.types if kind.startswith(("input_audio_buffer", "response.done"))]
    assert order == [
        "input_audio_buffer.speech_started",
        "response.done",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
    ]
    ended = client.of("response.done")[0]["response"]
    assert ended["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert ended["output"][0]["status"] == "incomplete"
    assert ended["output"][0]["content"] == [{"type": "output_audio", "transcript": "Well, the"}]
    user = client.of("input_audio_buffer.speech_started")[0]["item_id"]
    assert client.of("conversation.item.input_audio_transcription.completed")[0]["item_id"] == user


async def test_a_client_cancels_an_open_turn_and_nothing_else() -> None:
    steps = [ServerStep("response.create", open_turn("One", kind="text"))]
    async with ScriptedRealtimeServer(steps) as server, dialled(server) as client:
        await client.send({"type": "response.cancel", "event_id": "c1"})
        refused = await client.until("error")
        await client.send(CREATE, {"type": "response.cancel"})
        done = await client.until("response.done")
    assert (refused["error"]["code"], refused["error"]["event_id"]) == ("response_cancel_not_active", "c1")
    assert done["response"]["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}


async def test_an_open_turn_goes_on_and_ends_when_the_test_says_so() -> None:
    async with (
        ScriptedRealtimeServer([ServerStep("response.create", open_turn("One"))]) as server,
        dialled(server) as client,
    ):
        await client.send(CREATE)
        await client.until("response.output_audio.delta")
        connection = await server.wait_for_connection()
        await connection.emit(end_turn(" and two"))
        done = await client.until("response.done")
    assert done["response"]["output"][0]["content"][0]["transcript"] == "One and two"


async def test_a_failed_turn_and_an_error_say_why() -> None:
    steps = [ServerStep("response.create", [server_error("busy", "Later."), failed_turn("rate_limit_exceeded")])]
    async with ScriptedRealtimeServer(steps) as server, dialled(server) as client:
        await client.send(CREATE)
        done = await client.until("response.done")
    assert client.of("error")[0]["error"]["code"] == "busy"
    assert done["response"]["status"] == "failed"
    assert done["response"]["status_details"]["error"]["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize(("code", "kind"), [("server_error", "server_error"), ("odd", "invalid_request_error")])
async def test_a_failed_turn_is_the_servers_failure_only_where_its_code_says_so(code: str, kind: str) -> None:
    async with (
        ScriptedRealtimeServer([ServerStep("response.create", failed_turn(code))]) as server,
        dialled(server) as client,
    ):
        await client.send(CREATE)
        done = await client.until("response.done")
    error = done["response"]["status_details"]["error"]
    assert (error["code"], error["type"]) == (code, kind)


async def test_a_step_may_wait_for_a_part_of_an_event_or_for_what_a_function_accepts() -> None:
    steps = [
        ServerStep(
            {"type": "conversation.item.create", "item": {"type": "function_call_output"}}, server_error("1", "")
        ),
        ServerStep(lambda event: event.get("session", {}).get("instructions") == "new", server_error("2", "")),
    ]
    async with ScriptedRealtimeServer(steps) as server, dialled(server) as client:
        output = {"type": "function_call_output", "call_id": "c", "output": "{}"}
        await client.send(HELLO, {**HELLO, "item": output})
        assert (await client.until("error"))["error"]["code"] == "1"
        for instructions in ("old", "new"):
            await client.send({"type": "session.update", "session": {"instructions": instructions}})
        assert (await client.until("error"))["error"]["code"] == "2"
    assert client.types.count("session.updated") == 2
    server.assert_complete()


async def test_a_create_that_the_script_does_not_expect_is_refused_and_fails_the_script() -> None:
    async with ScriptedRealtimeServer([ServerStep("session.update")]) as server, dialled(server) as client:
        await client.send({**CREATE, "event_id": "c9"})
        refused = await client.until("error")
    assert (refused["error"]["code"], refused["error"]["event_id"]) == ("unexpected_event", "c9")
    with pytest.raises(UnexpectedRealtimeSend, match=r"the script expected 'session\.update'"):
        server.assert_complete()


async def test_without_routine_events_every_event_must_be_expected() -> None:
    async with ScriptedRealtimeServer([], ignored=()) as server, dialled(server) as client:
        await client.send(HELLO)
        await client.until("error")
    with pytest.raises(UnexpectedRealtimeSend, match="nothing more"):
        server.assert_complete()


async def test_a_server_that_is_not_strict_lets_everything_pass() -> None:
    async with ScriptedRealtimeServer(strict=False) as server, dialled(server) as client:
        await client.send(CREATE, {"type": "input_audio_buffer.clear"})
        await client.until("input_audio_buffer.cleared")
    assert "error" not in client.types
    server.assert_complete()


async def test_frames_that_are_no_events_are_answered_with_an_error() -> None:
    async with ScriptedRealtimeServer() as server, dialled(server) as client:
        for frame in (b"\0", "no json", "[1]", '{"a": 1}'):
            await client.socket.send(frame)
            assert (await client.until("error"))["error"]["code"] == "invalid_event"
    assert server.received() == []


async def test_steps_that_no_client_reached_are_named() -> None:
    async with ScriptedRealtimeServer([ServerStep("response.create", text_turn("x"))]) as server:
        with pytest.raises(UnconsumedRealtimeSteps, match=r"response\.create"):
            server.assert_complete()
        async with dialled(server) as client:
            await client.until("session.created")
        with pytest.raises(UnconsumedRealtimeSteps, match=r"response\.create"):
            server.assert_complete()


async def test_a_script_that_contradicts_itself_ends_the_connection_and_says_so() -> None:
    steps = [ServerStep("response.create", [open_turn("a"), text_turn("b")])]
    async with ScriptedRealtimeServer(steps) as server, dialled(server) as client:
        await client.send(CREATE)
        with pytest.raises(ConnectionClosed):
            await client.until("response.done")
        assert client.socket.close_code == 1011
    with pytest.raises(RealtimeScriptError, match="begins a response while resp_1 is open"):
        server.assert_complete()


async def test_a_dropped_client_that_comes_back_gets_the_next_script() -> None:
    scripts = (
        [ServerStep("response.create", [open_turn("Half a"), Drop()])],
        [ServerStep("response.create", text_turn("whole"))],
    )
    async with ScriptedRealtimeServer(*scripts) as server:
        async with dialled(server) as client:
            await client.send(CREATE)
            with pytest.raises((ConnectionClosed, AssertionError)):
                await client.until("response.done")
            assert client.socket.close_code == 1006
        for _ in range(2):
            async with dialled(server) as client:
                await client.send(CREATE)
                done = await client.until("response.done")
                assert done["response"]["output"][0]["content"][0]["text"] == "whole"
        assert [len(connection.received("response.create")) for connection in server.connections] == [1, 1, 1]
        server.assert_complete()


async def test_a_drop_with_a_code_is_an_orderly_close() -> None:
    async with ScriptedRealtimeServer([ServerStep(None, Drop(4000, "expired"))]) as server, dialled(server) as client:
        await client.until("session.created")
        await client.socket.wait_closed()
        assert (client.socket.close_code, client.socket.close_reason) == (4000, "expired")


async def test_many_clients_at_once_play_the_script_each_for_itself() -> None:
    async with ScriptedRealtimeServer([ServerStep("response.create", text_turn("hi"))]) as server:

        async def one() -> str:
            async with dialled(server) as client:
                await client.send(CREATE)
                done = await client.until("response.done")
                return str(done["response"]["id"])

        ids = await asyncio.gather(*(one() for _ in range(20)))
        assert len(set(ids)) == 20
        assert len(server.received("response.create")) == 20
        server.assert_complete()


async def test_a_test_waits_for_what_a_client_sends() -> None:
    async with ScriptedRealtimeServer() as server:
        waiting = asyncio.create_task(server.wait_for("input_audio_buffer.append", 2), name="waiting")
        async with dialled(server, "?model=m&x=1", additional_headers={"Authorization": "Bearer s3cret"}) as client:
            for samples in (b"\1\2", b"\3\4"):
                audio = base64.b64encode(samples).decode()
                await client.send({"type": "input_audio_buffer.append", "audio": audio})
            assert (await waiting)["audio"] == "AwQ="
        connection = await server.wait_for_connection()
        assert connection.audio == b"\1\2\3\4"
        assert connection.path == "/v1/realtime?model=m&x=1"
        assert "authorization" in {name.lower() for name in connection.headers}
        assert "s3cret" not in repr(vars(connection))
        with pytest.raises(RealtimeScriptError, match=r"no response.create number 1 came within 0.01 s; .*append"):
            await server.wait_for("response.create", within=0.01)
        with pytest.raises(RealtimeScriptError, match=r"2 connection\(s\) were awaited"):
            await server.wait_for_connection(2, within=0.01)
    with pytest.raises(RealtimeScriptError, match="does not run"):
        _ = server.url


async def test_items_keep_their_order_wherever_they_are_put() -> None:
    def item(name: str, after: str | None = None) -> dict[str, Any]:
        placed = {"previous_item_id": after} if after else {}
        return {"type": "conversation.item.create", **placed, "item": {"id": name, "type": "message", "role": "user"}}

    async with ScriptedRealtimeServer() as server, dialled(server) as client:
        await client.send(item("b"), item("a", "root"), item("c", "b"), item("d"))
        await client.send({"type": "conversation.item.delete", "item_id": "d"})
        await client.until("conversation.item.deleted")
        await client.send({"type": "conversation.item.truncate", "item_id": "c", "content_index": 0, "audio_end_ms": 5})
        cut = await client.until("conversation.item.truncated")
    places = {event["item"]["id"]: event["previous_item_id"] for event in client.of("conversation.item.done")}
    assert places == {"b": None, "a": None, "c": "b", "d": "c"}
    assert (cut["item_id"], cut["audio_end_ms"]) == ("c", 5)


async def test_every_event_is_valid_for_the_types_of_the_openai_package() -> None:
    realtime = pytest.importorskip("openai.types.realtime")
    from pydantic import TypeAdapter

    steps = [
        ServerStep("response.create", [user_turn("hello"), text_turn("one two")]),
        ServerStep(None, audio_turn("three", bytes(4800))),
        ServerStep(None, function_call("look", {"a": 1}, preamble="wait")),
        ServerStep(None, [failed_turn(), open_turn("so"), barge_in("stop"), server_error("code", "message")]),
    ]
    async with ScriptedRealtimeServer(steps) as server, dialled(server) as client:
        await client.send({"type": "session.update", "session": {"type": "realtime"}}, HELLO)
        await client.send({"type": "input_audio_buffer.commit"}, {"type": "input_audio_buffer.clear"}, CREATE)
        await client.until("error")
    adapter: TypeAdapter[Any] = TypeAdapter(realtime.RealtimeServerEvent)
    for event in client.seen:
        adapter.validate_python(event)
    assert len(set(client.types)) > 20
