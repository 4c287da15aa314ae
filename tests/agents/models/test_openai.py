"""A model used by itself over a real socket: how it connects, what it sends, what its listeners hear, how it ends."""

import asyncio
import base64
import random
from collections.abc import Mapping
from typing import Any, cast

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request

from support.model_ear import Ear
from support.model_server import ModelServer, model_server
from support.servers import free_port
from support.waiting import wait_until
from voicebus.agents.items import RealtimeToolCallItem
from voicebus.agents.models.events import (
    RealtimeModelAudioEvent,
    RealtimeModelAudioInterruptedEvent,
    RealtimeModelConnectionStatusEvent,
    RealtimeModelEndOfStreamEvent,
    RealtimeModelErrorEvent,
    RealtimeModelEvent,
    RealtimeModelExceptionEvent,
    RealtimeModelItemUpdatedEvent,
    RealtimeModelToolCallEvent,
)
from voicebus.agents.models.model import RealtimeModelConfig, RealtimeModelListener
from voicebus.agents.models.openai import OpenAIRealtimeWebSocketModel, get_api_key
from voicebus.agents.models.playback import RealtimePlaybackTracker
from voicebus.agents.models.sends import (
    RealtimeModelSendAudio,
    RealtimeModelSendInterrupt,
    RealtimeModelSendRawMessage,
    RealtimeModelSendSessionUpdate,
    RealtimeModelSendToolOutput,
    RealtimeModelSendUserInput,
)
from voicebus.agents.models.standalone import _NoAuthor, _Nowhere
from voicebus.agents.models.translate import _HANDLERS
from voicebus.agents.tools.decorator import function_tool
from voicebus.errors import ModelLinkError, UserError

pytestmark = pytest.mark.usefixtures("delivery")

SECOND = 48_000


async def connected(server: ModelServer, **options: Any) -> tuple[OpenAIRealtimeWebSocketModel, Ear]:
    model, ear = OpenAIRealtimeWebSocketModel(), Ear()
    model.add_listener(ear)
    await model.connect(cast("RealtimeModelConfig", {"api_key": "k", "url": server.url, **options}))
    return model, ear


def response(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {"id": f"resp_{number}", "object": "realtime.response", "status": "in_progress", "output": [], **fields}


def created(number: int = 1) -> dict[str, Any]:
    return {"type": "response.created", "response": response(number)}


def done(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {"type": "response.done", "response": response(number, **{"status": "completed", **fields})}


def audio(samples: bytes, number: int = 1, item_id: str = "item_1") -> dict[str, Any]:
    return {
        "type": "response.output_audio.delta",
        "event_id": "e",
        "response_id": f"resp_{number}",
        "item_id": item_id,
        "output_index": 0,
        "content_index": 0,
        "delta": base64.b64encode(samples).decode(),
    }


def speech_started() -> dict[str, Any]:
    return {"type": "input_audio_buffer.speech_started", "item_id": "item_u", "audio_start_ms": 10}


# --- connecting ---------------------------------------------------------------------------------------


async def test_the_first_frame_is_the_whole_configuration_and_tracing_follows_the_greeting() -> None:
    async with model_server() as server:
        model, _ = await connected(server, initial_model_settings={"instructions": "hi"})
        await server.hears("session.update", 2)
        first, second = (
            {name: value for name, value in event.items() if name != "event_id"} for event in server.heard[:2]
        )
        assert first == {
            "type": "session.update",
            "session": {
                "type": "realtime",
                "model": "gpt-realtime-2.1",
                "output_modalities": ["audio"],
                "instructions": "hi",
                "tools": [],
                "audio": {
                    "input": {
                        "format": {"type": "audio/pcm", "rate": 24000},
                        "transcription": {"model": "gpt-4o-mini-transcribe"},
                        "turn_detection": {"type": "semantic_vad", "interrupt_response": True},
                    },
                    "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "ash"},
                },
            },
        }
        assert second == {
            "type": "session.update",
            "session": {"type": "realtime", "model": "gpt-realtime-2.1", "tracing": "auto"},
        }
        await model.close()


async def test_the_configuration_does_not_wait_for_a_greeting() -> None:
    async with model_server(greets=False) as server:
        model, _ = await connected(server)
        await server.hears("session.update")
        await model.close()


async def test_a_model_is_named_and_a_key_is_sent_once() -> None:
    async with model_server() as server:
        model, _ = await connected(server, initial_model_settings={"model_name": "gpt-realtime-mini"})
        await model.close()
    (request,) = server.requests
    assert request.path == "/v1/realtime?model=gpt-realtime-mini"
    assert request.headers["Authorization"] == "Bearer k"
    assert "OpenAI-Beta" not in request.headers


async def test_an_address_that_names_its_model_is_dialled_as_it_stands_and_headers_take_the_place_of_a_key() -> None:
    async with model_server() as server:
        model, _ = await connected(server, url=f"{server.url}?model=deployed", headers={"api-key": "azure"})
        assert (await server.hears("session.update"))["session"]["model"] == "deployed"
        await model.close()
    (request,) = server.requests
    assert request.path == "/v1/realtime?model=deployed"
    assert request.headers["api-key"] == "azure"
    assert "Authorization" not in request.headers


async def test_a_call_is_joined_by_its_id_and_keeps_its_formats() -> None:
    async with model_server() as server:
        model, _ = await connected(server, call_id="rtc_1")
        update = await server.hears("session.update")
        await model.close()
    assert server.requests[0].path == "/v1/realtime?call_id=rtc_1"
    assert "format" not in update["session"]["audio"]["output"]


async def test_an_address_that_names_the_call_already_is_left_as_it_is() -> None:
    async with model_server() as server:
        model, _ = await connected(server, url=f"{server.url}?call_id=rtc_2", call_id="rtc_1")
        await model.close()
    assert server.requests[0].path == "/v1/realtime?call_id=rtc_2"


async def test_a_call_has_its_model_already() -> None:
    with pytest.raises(UserError, match="leave out model_name"):
        await OpenAIRealtimeWebSocketModel().connect(
            {"api_key": "k", "call_id": "rtc_1", "initial_model_settings": {"model_name": "m"}}
        )


async def test_a_key_comes_from_a_string_a_function_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async def later() -> str:
        return "awaited"

    monkeypatch.setenv("OPENAI_API_KEY", "env")
    assert await get_api_key("given") == "given"
    assert await get_api_key(lambda: "called") == "called"
    assert await get_api_key(later) == "awaited"
    assert await get_api_key(None) == "env"
    monkeypatch.setenv("VOICEBUS_MODEL_API_KEY", "the gateway's")
    assert await get_api_key(None) == "the gateway's"
    monkeypatch.delenv("VOICEBUS_MODEL_API_KEY")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert await get_api_key(None) is None


async def test_without_options_a_model_is_the_one_that_a_gateway_would_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    async with model_server() as elsewhere, model_server() as server:
        monkeypatch.setenv("VOICEBUS_MODEL_URL", server.url)
        monkeypatch.setenv("VOICEBUS_MODEL_API_KEY", "of-the-cluster")
        model = OpenAIRealtimeWebSocketModel()
        await model.connect({})
        await model.close()
        await model.connect({"url": elsewhere.url, "api_key": "given"})
        await model.close()
    assert server.requests[0].headers["Authorization"] == "Bearer of-the-cluster"
    assert elsewhere.requests[0].headers["Authorization"] == "Bearer given"


@pytest.mark.parametrize("options", [{}, {"api_key": lambda: ""}])
async def test_no_key_and_no_headers_is_refused_before_anything_is_dialled(
    options: RealtimeModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("VOICEBUS_MODEL_API_KEY", raising=False)
    model = OpenAIRealtimeWebSocketModel()
    with pytest.raises(UserError, match=r"^API key is required but was not provided\. Set OPENAI_API_KEY, or"):
        await model.connect(options)
    async with model_server() as server:  # and it can be connected after that
        await model.connect({"api_key": "k", "url": server.url})
        await model.close()


async def test_settings_that_cannot_be_are_refused_before_anything_is_dialled() -> None:
    async with model_server() as server:
        with pytest.raises(UserError, match="max_output_tokens"):
            await connected(server, initial_model_settings={"max_output_tokens": 0})
    assert server.requests == []


async def test_a_refused_connection_leaves_the_model_as_it_was() -> None:
    model, ear = OpenAIRealtimeWebSocketModel(), Ear()
    model.add_listener(ear)
    async with model_server(status=401) as server:
        with pytest.raises(ModelLinkError, match="HTTP 401"):
            await model.connect({"api_key": "k", "url": server.url})
    with pytest.raises(ModelLinkError, match="cannot be reached"):
        await model.connect({"api_key": "k", "url": f"ws://127.0.0.1:{free_port()}/"})
    with pytest.raises(AssertionError, match="Not connected"):
        await model.send_event(RealtimeModelSendUserInput("hi"))
    assert ear.heard == []
    async with model_server() as server:
        await model.connect({"api_key": "k", "url": server.url})
        await server.hears("session.update")
        await model.close()


async def test_a_connection_that_is_cancelled_leaves_the_model_as_it_was() -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await release.wait()
        writer.close()

    model = OpenAIRealtimeWebSocketModel()
    listening = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with listening:
        url = f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
        connecting = asyncio.create_task(model.connect({"api_key": "k", "url": url}))
        await asked.wait()
        with pytest.raises(AssertionError, match="Already connected"):
            await model.connect({"api_key": "k", "url": url})
        with pytest.raises(AssertionError, match="Not connected"):
            await model.send_event(RealtimeModelSendUserInput("hi"))
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        release.set()
    async with model_server() as server:
        await model.connect({"api_key": "k", "url": server.url})
        await model.close()


async def test_a_model_that_is_closed_while_it_connects_is_not_connected() -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def slow(_: ServerConnection, request: Request) -> None:
        asked.set()
        await release.wait()

    async def talk(connection: ServerConnection) -> None:
        await connection.wait_closed()

    model = OpenAIRealtimeWebSocketModel()
    async with serve(talk, "127.0.0.1", 0, process_request=slow) as running:
        url = f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}/"
        connecting = asyncio.create_task(model.connect({"api_key": "k", "url": url}))
        await asked.wait()
        await model.close()
        release.set()
        with pytest.raises(ModelLinkError, match="closed while it was being connected"):
            await connecting
        with pytest.raises(AssertionError, match="Not connected"):
            await model.send_event(RealtimeModelSendUserInput("hi"))


async def test_options_that_no_model_has_are_refused() -> None:
    with pytest.raises(UserError, match="model config has unknown keys: apikey"):
        await OpenAIRealtimeWebSocketModel().connect(cast("Any", {"apikey": "k"}))


async def test_a_model_is_connected_once() -> None:
    async with model_server() as server:
        model, _ = await connected(server)
        with pytest.raises(AssertionError, match="Already connected"):
            await model.connect({"api_key": "k", "url": server.url})
        await model.close()
    assert len(server.requests) == 1


async def test_a_model_that_was_never_connected_sends_nothing_and_may_be_closed() -> None:
    model = OpenAIRealtimeWebSocketModel()
    with pytest.raises(AssertionError, match="Not connected"):
        await model.send_event(RealtimeModelSendAudio(b"a"))
    with pytest.raises(AssertionError, match="Not connected"):
        await model.send_event_if(RealtimeModelSendAudio(b"a"), lambda: True)
    await model.close()


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"ping": 5}, "unknown keys: ping"),
        ({"ping_interval": 0}, "ping_interval must be a number above 0"),
        ({"ping_timeout": "1"}, "ping_timeout must be a number above 0"),
        ({"handshake_timeout": None}, "handshake_timeout must be a number above 0"),
        ({"max_size": 1.5}, "max_size must be a whole number"),
        ({"max_size": True}, "max_size must be a number"),
    ],
)
def test_a_transport_config_that_cannot_be_is_refused(config: Any, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        OpenAIRealtimeWebSocketModel(transport_config=config)


async def test_the_transport_config_is_honoured() -> None:
    async with model_server() as server:
        model = OpenAIRealtimeWebSocketModel(
            transport_config={"ping_interval": None, "ping_timeout": None, "max_size": 2000}
        )
        ear = Ear()
        model.add_listener(ear)
        await model.connect({"api_key": "k", "url": server.url})
        await server.say({"type": "x.y", "text": "x" * 3000})
        await ear.hears("exception")
    assert "x.y" not in ear.raw()


async def test_a_server_that_does_not_answer_is_given_up_after_the_handshake_timeout() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with listening:
        url = f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
        model = OpenAIRealtimeWebSocketModel(transport_config={"handshake_timeout": 0.05})
        with pytest.raises(ModelLinkError, match=r"did not answer within 0\.05 s"):
            await model.connect({"api_key": "k", "url": url})


# --- what is sent -------------------------------------------------------------------------------------


async def test_a_message_is_created_and_answered_once_nothing_runs() -> None:
    async with model_server() as server:
        model, _ = await connected(server)
        await model.send_event(RealtimeModelSendUserInput("hello"))
        await server.hears("response.create")
        await server.say(created(1))
        await model.send_event(RealtimeModelSendUserInput("and"))
        await model.send_event(RealtimeModelSendUserInput("more"))
        await server.hears("conversation.item.create", 3)
        assert len(server.of_type("response.create")) == 1
        await server.say(done(1))
        await server.hears("response.create", 2)
        await server.say(created(2), done(2))
        await model.send_event(RealtimeModelSendAudio(b"", commit=True))
        await server.hears("input_audio_buffer.commit")
        assert len(server.of_type("response.create")) == 2
        texts = [event["item"]["content"][0]["text"] for event in server.of_type("conversation.item.create")]
        assert texts == ["hello", "and", "more"]
        await model.close()


async def test_audio_is_appended_and_committed_in_order() -> None:
    async with model_server() as server:
        model, _ = await connected(server)
        await model.send_event(RealtimeModelSendAudio(b"\x01\x02", commit=True))
        await server.hears("input_audio_buffer.commit")
        sent = [event for event in server.heard if event["type"].startswith("input_audio_buffer")]
        assert [event["type"] for event in sent] == ["input_audio_buffer.append", "input_audio_buffer.commit"]
        assert sent[0]["audio"] == base64.b64encode(b"\x01\x02").decode()
        assert "response.create" not in server.types()
        await model.close()


async def test_a_raw_message_is_sent_as_it_stands_and_a_raw_response_takes_its_turn() -> None:
    async with model_server() as server:
        model, _ = await connected(server)
        await model.send_event(RealtimeModelSendRawMessage({"type": "input_audio_buffer.clear"}))
        await server.hears("input_audio_buffer.clear")
        manual = RealtimeModelSendRawMessage(
            {"type": "response.create", "other_data": {"response": {"instructions": "greet"}}}
        )
        await server.say(created(1))
        await model.send_event(RealtimeModelSendUserInput("hello"))
        await server.hears("conversation.item.create")
        await model.send_event(manual)
        await server.say(done(1))
        await server.hears("response.create")
        await server.say(created(2), done(2))
        create = await server.hears("response.create", 2)
        assert create["response"]["instructions"] == "greet"
        await model.close()


async def test_a_raw_message_that_is_no_client_event_is_an_error_event_and_not_sent() -> None:
    async with model_server() as server:
        model, ear = await connected(server)
        await model.send_event(RealtimeModelSendRawMessage({"type": "session.destroy"}))
        error = await ear.hears("error")
        assert error.error["code"] == "invalid_client_event"
        await model.send_event(RealtimeModelSendRawMessage({"type": "input_audio_buffer.clear"}))
        await server.hears("input_audio_buffer.clear")
        assert "session.destroy" not in server.types()
        await model.close()


async def test_changed_settings_go_out_alone() -> None:
    async with model_server() as server:
        model, _ = await connected(server, initial_model_settings={"tracing": None})
        await model.send_event(RealtimeModelSendSessionUpdate({"voice": "echo", "turn_detection": None}))
        update = await server.hears("session.update", 2)
        assert update["session"] == {
            "type": "realtime",
            "audio": {"output": {"voice": "echo"}, "input": {"turn_detection": None}},
        }
        with pytest.raises(UserError, match="unknown keys"):
            await model.send_event(RealtimeModelSendSessionUpdate(cast("Any", {"vioce": "x"})))
        await model.close()


async def test_a_condition_decides_at_the_moment_of_sending() -> None:
    async with model_server() as server:
        model, _ = await connected(server)
        assert not await model.send_event_if(RealtimeModelSendUserInput("no"), lambda: False)
        assert await model.send_event_if(RealtimeModelSendUserInput("yes"), lambda: True)
        create = await server.hears("conversation.item.create")
        assert create["item"]["content"][0]["text"] == "yes"
        await model.close()


# --- what listeners hear ------------------------------------------------------------------------------


async def test_listeners_hear_the_raw_event_first_and_then_what_it_means() -> None:
    async with model_server() as server:
        model, ear = await connected(server, initial_model_settings={"tracing": None})
        await ear.hears_raw("session.updated")
        item = {"id": "item_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        usage = {"total_tokens": 3, "input_tokens": 2, "output_tokens": 1}
        await server.say(
            created(1),
            {"type": "response.output_item.added", "response_id": "resp_1", "output_index": 0, "item": item},
            audio(b"\x00\x00"),
            {"type": "rate_limits.updated", "rate_limits": []},
            {"type": "new.kind", "of": "event"},
            done(1, usage=usage),
        )
        await ear.hears("turn_ended")
        start = ear.raw().index("response.created")
        assert ear.raw()[start:] == [
            "response.created",
            "response.output_item.added",
            "response.output_audio.delta",
            "rate_limits.updated",
            "new.kind",
            "response.done",
        ]
        assert ear.types()[ear.types().index("turn_started") - 1 :] == [
            "raw_server_event", "turn_started", "raw_server_event", "item_updated", "raw_server_event", "audio",
            "raw_server_event", "raw_server_event", "raw_server_event", "usage", "turn_ended",
        ]  # fmt: skip
        assert RealtimeModelAudioEvent(b"\x00\x00", "resp_1", "item_1", 0) in ear.heard
        await model.close()


async def test_listeners_come_and_go() -> None:
    async with model_server() as server:
        model, ear = await connected(server)
        other = Ear()
        model.add_listener(other)
        model.remove_listener(ear)
        await server.say({"type": "one"})
        await other.hears_raw("one")
        assert "one" not in ear.raw()
        await model.close()


async def test_a_call_is_the_listeners_to_answer() -> None:
    @function_tool
    def weather(city: str) -> str:
        """The weather."""
        raise AssertionError("a model alone runs nothing")

    async with model_server() as server:
        model, ear = await connected(server, initial_model_settings={"tools": [weather]})
        update = await server.hears("session.update")
        assert [tool["name"] for tool in update["session"]["tools"]] == ["weather"]
        item = {"id": "item_c", "type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
        await server.say(
            created(1),
            {"type": "response.output_item.done", "response_id": "resp_1", "item": {**item, "status": "completed"}},
        )
        call = await ear.hears("function_call")
        assert call == RealtimeModelToolCallEvent("weather", "call_1", "{}", id="item_c")
        await model.send_event(RealtimeModelSendToolOutput(call, "sunny", start_response=True))
        create = await server.hears("conversation.item.create")
        assert create["item"]["call_id"] == "call_1"
        assert create["item"]["output"] == "sunny"
        told = await ear.hears("item_updated", 2)
        assert told == RealtimeModelItemUpdatedEvent(
            RealtimeToolCallItem(
                item_id="item_c", call_id="call_1", status="completed", arguments="{}", name="weather", output="sunny"
            )
        )
        assert "response.create" not in server.types()
        await server.say(done(1))
        await server.hears("response.create")
        await model.close()


async def test_a_call_of_a_tool_that_nobody_listed_is_the_listeners_too() -> None:
    async with model_server() as server:
        model, ear = await connected(server)
        item = {"id": "i", "type": "function_call", "call_id": "call_1", "name": "unheard", "arguments": "{}"}
        await server.say(
            created(1),
            {"type": "response.output_item.done", "response_id": "resp_1", "item": {**item, "status": "completed"}},
            done(1),
        )
        call = await ear.hears("function_call")
        await model.send_event(RealtimeModelSendToolOutput(call, "mine", start_response=False))
        create = await server.hears("conversation.item.create")
        assert create["item"]["output"] == "mine"
        await model.send_event(RealtimeModelSendRawMessage({"type": "input_audio_buffer.clear"}))
        await server.hears("input_audio_buffer.clear")
        assert len(server.of_type("conversation.item.create")) == 1
        assert "response.create" not in server.types()
        await model.close()


async def test_a_call_of_a_second_answer_is_answered_and_is_nobodys() -> None:
    def called(number: int) -> dict[str, Any]:
        item = {"id": f"item_{number}", "type": "function_call", "name": "pay", "arguments": "{}"}
        item |= {"call_id": f"call_{number}", "status": "completed"}
        return {"type": "response.output_item.done", "response_id": f"resp_{number}", "item": item}

    async with model_server() as server:
        model, ear = await connected(server)
        await model.send_event(RealtimeModelSendUserInput("Pay"))
        create = await server.hears("response.create")
        # An error of nobody's seems to refuse the create, which is sent again; the model answers both.
        busy = {"type": "invalid_request_error", "code": "conversation_already_has_active_response", "message": "Busy."}
        await server.say({"type": "error", "error": busy})
        await server.hears("response.create", 2)
        for number in (1, 2):
            begun = response(number, metadata=create["response"]["metadata"])
            await server.say({"type": "response.created", "response": begun}, called(number), audio(b"\0\0", number))
            await server.say(done(number))
        await ear.hears("turn_ended", 2)
        assert [event.call_id for event in ear.heard if isinstance(event, RealtimeModelToolCallEvent)] == ["call_1"]
        assert [event.response_id for event in ear.heard if isinstance(event, RealtimeModelAudioEvent)] == ["resp_1"]
        assert ear.raw().count("response.output_item.done") == 2, "what the server said is shown as it is"
        answer = await server.hears("conversation.item.create", 2)
        told = "The call was not run, as the response that made it was cancelled."
        assert (answer["item"]["call_id"], answer["item"]["output"]) == ("call_2", told)
        # Whoever answers it all the same says nothing twice.
        unheard = RealtimeModelToolCallEvent("pay", "call_2", "{}")
        await model.send_event(RealtimeModelSendToolOutput(unheard, "paid too", start_response=True))
        (call,) = [event for event in ear.heard if isinstance(event, RealtimeModelToolCallEvent)]
        await model.send_event(RealtimeModelSendToolOutput(call, "paid", start_response=True))
        answer = await server.hears("conversation.item.create", 3)
        assert (answer["item"]["call_id"], answer["item"]["output"]) == ("call_1", "paid")
        await model.close()


async def test_errors_of_the_server_and_frames_that_are_none_are_error_events_once() -> None:
    async with model_server() as server:
        model, ear = await connected(server)
        await server.say({"type": "error", "error": {"type": "server_error", "code": "x", "message": "m"}})
        await server.say_text("this is no JSON")
        await server.say_text('["neither"]')
        await server.say_text('{"no":"type"}')
        await server.say({"type": "later"})
        await ear.hears_raw("later")
        errors = [event.error for event in ear.heard if isinstance(event, RealtimeModelErrorEvent)]
        assert errors[0] == {"type": "server_error", "code": "x", "message": "m"}
        assert [error["code"] for error in errors[1:]] == ["model_malformed"] * 3
        await model.close()


async def test_odd_events_harm_nobody() -> None:
    async with model_server() as server:
        model, ear = await connected(server)
        await server.say(
            {"type": "conversation.item.added", "item": {"id": "i", "type": "message", "role": "oracle"}},
            {"type": "conversation.item.added", "item": None},
            {"type": "response.done"},
            {"type": "response.output_item.done", "item": {"type": "function_call"}},
            {"type": "input_audio_buffer.timeout_triggered", "audio_start_ms": "soon"},
            {"type": "later"},
        )
        await ear.hears_raw("later")
        assert "exception" not in ear.types()
        await model.send_event(RealtimeModelSendUserInput("still there"))
        await server.hears("conversation.item.create")
        await model.close()


@pytest.mark.parametrize("seed", range(5))
async def test_a_server_that_says_anything_at_all_ends_nothing(seed: int) -> None:
    chance = random.Random(seed)
    kinds = [*_HANDLERS, "response.output_audio.delta", "input_audio_buffer.speech_started", "session.updated", "odd"]

    def anything(depth: int = 0) -> Any:
        scalars = [None, True, 7, -1.5, "", "resp_1", "item_1", "message", "function_call", "assistant", "x" * 50]
        made = chance.randrange(len(scalars) + (2 if depth < 3 else 0))
        if made < len(scalars):
            return scalars[made]
        if made == len(scalars):
            return [anything(depth + 1) for _ in range(chance.randrange(3))]
        return fields(depth + 1)

    def fields(depth: int) -> dict[str, Any]:
        names = ["id", "type", "role", "status", "item", "item_id", "response", "response_id", "content", "delta"]
        more = ["call_id", "name", "arguments", "usage", "error", "content_index", "output_index", "session", "audio"]
        return {name: anything(depth) for name in chance.sample([*names, *more], chance.randrange(8))}

    async with model_server() as server:
        model, ear = await connected(server)
        await server.say(*({**fields(0), "type": chance.choice(kinds)} for _ in range(400)), {"type": "the.last"})
        await ear.hears_raw("the.last")
        assert "exception" not in ear.types()
        await model.send_event(RealtimeModelSendUserInput("still there"))
        await wait_until(
            lambda: "still there" in str(server.of_type("conversation.item.create")), description="our message"
        )
        await model.close()


async def test_a_listener_that_raises_is_an_error_event_for_the_others() -> None:
    class Broken(RealtimeModelListener):
        async def on_event(self, event: RealtimeModelEvent) -> None:
            raise RuntimeError("mine")

    async with model_server() as server:
        model, ear = await connected(server)
        await ear.hears_raw("session.updated")
        model.add_listener(Broken())
        await server.say({"type": "one"})
        error = await ear.hears("error")
        assert error.error["code"] == "listener_failed"
        assert "RuntimeError: mine" in error.error["message"]
        await server.say({"type": "two"})
        await ear.hears_raw("two")
        await model.close()


# --- interruption and playback ------------------------------------------------------------------------


async def test_speech_stops_what_is_said_and_truncates_what_was_not_heard() -> None:
    async with model_server() as server:
        model, ear = await connected(server)
        await server.say(created(1), audio(bytes(10 * SECOND)))
        await ear.hears("audio")
        await server.say(speech_started())
        interrupted = await ear.hears("audio_interrupted")
        assert interrupted == RealtimeModelAudioInterruptedEvent("item_1", 0)
        assert ear.raw()[-1] == "input_audio_buffer.speech_started"
        truncate = await server.hears("conversation.item.truncate")
        assert truncate["item_id"] == "item_1"
        assert 0 <= truncate["audio_end_ms"] < 10_000
        assert "response.cancel" not in server.types()
        await server.say(audio(bytes(SECOND)), {"type": "later"})
        await ear.hears_raw("later")
        assert ear.types().count("audio") == 1
        await model.close()


async def test_an_interruption_cancels_and_truncates() -> None:
    async with model_server() as server:
        model, ear = await connected(server)
        await server.say(created(1), audio(bytes(10 * SECOND)))
        await ear.hears("audio")
        await model.send_event(RealtimeModelSendInterrupt())
        await server.hears("conversation.item.truncate")
        cancel = await server.hears("response.cancel")
        assert cancel["response_id"] == "resp_1"
        await ear.hears("audio_interrupted")
        await model.close()


async def test_an_interruption_of_a_response_only_leaves_playback_alone() -> None:
    async with model_server() as server:
        model, ear = await connected(server)
        await server.say(created(1), audio(bytes(10 * SECOND)))
        await ear.hears("audio")
        await model.send_event(RealtimeModelSendInterrupt(response_id="resp_1", cancel_response_only=True))
        await server.hears("response.cancel")
        await model.send_event(RealtimeModelSendRawMessage({"type": "input_audio_buffer.clear"}))
        await server.hears("input_audio_buffer.clear")
        assert "conversation.item.truncate" not in server.types()
        assert "audio_interrupted" not in ear.types()
        await model.close()


async def test_a_tracker_tells_exactly_what_was_heard() -> None:
    tracker = RealtimePlaybackTracker()
    async with model_server() as server:
        model, ear = await connected(server, playback_tracker=tracker)
        await server.say(created(1), audio(bytes(10 * SECOND)))
        await ear.hears("audio")
        tracker.on_play_bytes("item_1", 0, bytes(SECOND))
        tracker.on_play_ms("item_1", 0, 234.4)
        await server.say(speech_started())
        truncate = await server.hears("conversation.item.truncate")
        assert truncate["audio_end_ms"] == 1234
        await ear.hears("audio_interrupted")
        assert tracker.get_state()["current_item_id"] is None
        await model.close()
    tracker.on_play_ms("item_1", 0, 5)  # nobody listens any more


class OfAPlayer(RealtimePlaybackTracker):
    """Hears of its session; `raising`: and fails at that."""

    def __init__(self, *, raising: bool = False) -> None:
        super().__init__()
        self.formats: list[object] = []
        self._raising = raising

    def set_audio_format(self, format: str | Mapping[str, Any]) -> None:  # noqa: A002 - its public name
        self.formats.append(format)
        super().set_audio_format(format)

    def on_interrupted(self) -> None:
        super().on_interrupted()
        if self._raising:
            raise ValueError("no player")


@pytest.mark.parametrize("raising", [False, True])
async def test_a_tracker_starts_over_with_the_end_of_its_model(raising: bool) -> None:
    tracker = OfAPlayer(raising=raising)
    async with model_server() as server:
        model, ear = await connected(server, playback_tracker=tracker)
        await server.say(created(1), audio(bytes(SECOND)))
        await ear.hears("audio")
        tracker.on_play_ms("item_1", 0, 5)
        await model.close()
    assert tracker.get_state()["current_item_id"] is None


async def test_a_tracker_counts_in_the_format_of_the_session() -> None:
    tracker = OfAPlayer()
    async with model_server() as server:
        model, ear = await connected(
            server, playback_tracker=tracker, initial_model_settings={"output_audio_format": "g711_ulaw"}
        )
        await server.say(created(1), audio(bytes(80_000)))
        await ear.hears("audio")
        tracker.on_play_bytes("item_1", 0, bytes(4000))
        await server.say(speech_started())
        truncate = await server.hears("conversation.item.truncate")
        assert truncate["audio_end_ms"] == 500
        await model.send_event(RealtimeModelSendSessionUpdate({"output_audio_format": "pcm16"}))
        await server.hears("session.update", 3)
        tracker.on_play_bytes("item_2", 0, bytes(4800))
        assert tracker.get_state()["elapsed_ms"] == 100
        assert tracker.formats == ["g711_ulaw", "pcm16"]
        await model.close()


async def test_with_a_tracker_that_knows_of_nothing_an_interruption_truncates_nothing() -> None:
    async with model_server() as server:
        model, ear = await connected(server, playback_tracker=RealtimePlaybackTracker())
        await server.say(created(1), audio(bytes(10 * SECOND)))
        await ear.hears("audio")
        await server.say(speech_started())
        await ear.hears("audio_interrupted")
        await model.send_event(RealtimeModelSendRawMessage({"type": "input_audio_buffer.clear"}))
        await server.hears("input_audio_buffer.clear")
        assert "conversation.item.truncate" not in server.types()
        await model.close()


# --- the end ------------------------------------------------------------------------------------------


async def test_our_own_close_tells_listeners_nothing_and_closes_the_socket() -> None:
    async with model_server() as server:
        model, ear = await connected(server)
        await ear.hears_raw("session.updated")
        await model.close()
        await model.close()
        await wait_until(lambda: server.ended, description="the end of the connection")
        assert server.ended == [1000]
        assert ear.meanings() == []
        with pytest.raises(AssertionError, match="Not connected"):
            await model.send_event(RealtimeModelSendUserInput("hi"))
        await model.connect({"api_key": "k", "url": server.url})
        await server.hears("session.update", 3)
        await model.close()


@pytest.mark.parametrize("code", [1000, 1001, 1005])
async def test_a_clean_close_of_the_server_is_the_end_of_the_stream(code: int) -> None:
    async with model_server() as server:
        model, ear = await connected(server)
        await wait_until(lambda: ear.raw().count("session.updated") == 2, description="settings and tracing, confirmed")
        await server.say({"type": "last"})
        await wait_until(lambda: "last" in ear.raw(), description="the last word")
        await server.hang_up(code)
        await ear.hears("end_of_stream")
        assert ear.raw()[-1] == "last"
        assert ear.heard[-2:] == [RealtimeModelConnectionStatusEvent("disconnected"), RealtimeModelEndOfStreamEvent()]
        with pytest.raises(AssertionError, match="Not connected"):
            await model.send_event(RealtimeModelSendUserInput("hi"))
        await model.connect({"api_key": "k", "url": server.url})
        await model.close()


async def test_a_lost_connection_is_an_exception() -> None:
    async with model_server() as server:
        _, ear = await connected(server)
        await ear.hears_raw("session.updated")
        server.cut()
        lost = await ear.hears("exception")
        assert isinstance(lost, RealtimeModelExceptionEvent)
        assert isinstance(lost.exception, ModelLinkError)
        assert lost.exception.close_code == 1006
        assert ear.meanings() == ["connection_status", "exception"]


async def test_a_refused_key_is_an_error_event_and_then_an_exception_with_its_code() -> None:
    async with model_server(greets=False, confirms=False) as server:
        _, ear = await connected(server)
        await server.hears("session.update")
        await server.say({"type": "error", "error": {"code": "invalid_api_key", "message": "no"}})
        await server.hang_up(3000)
        lost = await ear.hears("exception")
        assert ear.meanings()[0] == "error"
        assert isinstance(lost.exception, ModelLinkError)


async def test_a_first_configuration_that_is_refused_ends_the_conversation() -> None:
    async with model_server(confirms=False) as server:
        model, ear = await connected(server)
        update = await server.hears("session.update")
        await server.say(
            {
                "type": "error",
                "error": {"code": "invalid_value", "message": "no such voice", "event_id": update["event_id"]},
            }
        )
        failed = await ear.hears("exception")
        assert "no such voice" in str(failed.exception)
        assert ear.meanings() == ["error", "connection_status", "exception"]
        with pytest.raises(AssertionError, match="Not connected"):
            await model.send_event(RealtimeModelSendUserInput("hi"))


async def test_the_end_of_a_sessions_time_is_the_end_of_the_stream() -> None:
    async with model_server() as server:
        _, ear = await connected(server)
        await ear.hears_raw("session.updated")
        await server.say({"type": "error", "error": {"code": "session_expired", "message": "60 minutes"}})
        await ear.hears("end_of_stream")
        assert ear.meanings() == ["error", "connection_status", "end_of_stream"]


async def test_a_listener_may_close_the_model() -> None:
    class Closing(RealtimeModelListener):
        def __init__(self, model: OpenAIRealtimeWebSocketModel) -> None:
            self.model = model
            self.heard = self.closed = False

        async def on_event(self, event: RealtimeModelEvent) -> None:
            if not self.heard:
                self.heard = True
                await self.model.close()
                self.closed = True

    async with model_server() as server:
        model, _ = await connected(server)
        closing = Closing(model)
        model.add_listener(closing)
        await server.say({"type": "one"})
        await wait_until(lambda: server.ended, description="the end of the connection")
        # The server may see the end before `close` has returned, until when there is a connection.
        await wait_until(lambda: closing.closed, description="the model to be closed")
        await model.connect({"api_key": "k", "url": server.url})
        await model.close()


async def test_a_model_alone_hands_out_no_work() -> None:
    for asked in (_Nowhere().dispatch, _Nowhere().check):
        with pytest.raises(NotImplementedError, match="a model alone"):
            asked()
    for ask in (_NoAuthor().resolve, _NoAuthor().vet, _NoAuthor().word_error):
        with pytest.raises(NotImplementedError, match="a model alone"):
            await ask(None)
