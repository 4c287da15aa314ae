"""What goes over the wire, frame by frame (parity M 129 to 137)."""

import base64
from typing import Any

import pytest

import voicebus
from support.scripts import answering, outputs, session_update
from support.stages import CLUSTER, Stage
from support.waiting import wait_until
from voicebus import (
    ModelBehaviorError,
    RealtimeAgent,
    RealtimeRunConfig,
    RealtimeRunner,
    ToolInputGuardrailTripwireTriggered,
    ToolTimeoutError,
    UserError,
    function_tool,
)
from voicebus.testing import ScriptedRealtimeServer, audio_turn, barge_in, function_call, open_turn, text_turn

ADA: RealtimeAgent[Any] = RealtimeAgent("Ada", instructions="hi")


@function_tool
async def weather(city: str) -> str:
    """Tell the weather."""
    return f"clear in {city}"


def marked(event: dict[str, Any]) -> dict[str, Any]:
    """A create without our mark, by which its response is known again."""
    return {name: value for name, value in event.items() if name not in ("event_id", "response")}


async def test_the_first_frame_configures_the_whole_session(stage: Stage) -> None:
    async with ScriptedRealtimeServer() as server, stage.conversation(ADA, server) as talk:
        await talk.until("history_updated")
        await server.wait_for("session.update")
        first = server.received()[0]
    pcm = {"type": "audio/pcm", "rate": 24000}
    assert first["type"] == "session.update"
    session = first["session"]
    detection = session["audio"]["input"]["turn_detection"]
    assert (session["type"], session["model"], session["instructions"]) == ("realtime", "gpt-realtime-2.1", "hi")
    assert (session["output_modalities"], session["tools"]) == (["audio"], [])
    assert session["audio"]["input"]["format"] == session["audio"]["output"]["format"] == pcm
    assert session["audio"]["input"]["transcription"] == {"model": "gpt-4o-mini-transcribe"}
    assert session["audio"]["output"]["voice"] == "ash"
    assert detection == {"type": "semantic_vad", "interrupt_response": True}
    assert "tracing" not in session


async def test_tracing_follows_in_a_second_frame_when_the_server_greets(stage: Stage) -> None:
    async with ScriptedRealtimeServer() as server, stage.conversation(ADA, server) as talk:
        await talk.until("history_updated")
        second = await server.wait_for("session.update", 2)
    assert second["session"] == {"type": "realtime", "model": "gpt-realtime-2.1", "tracing": "auto"}


async def test_without_tracing_there_is_no_second_frame(stage: Stage) -> None:
    config: RealtimeRunConfig = {"tracing_disabled": True}
    async with answering(text_turn(".")) as server, stage.conversation(ADA, server, config) as talk:
        await talk.say("hello")
        await talk.until("agent_end")
    assert len(server.received("session.update")) == 1


async def test_tools_and_handoffs_are_functions(stage: Stage) -> None:
    agent = RealtimeAgent("Ada", tools=[weather], handoffs=[RealtimeAgent("Bob", handoff_description="Knows more.")])
    async with ScriptedRealtimeServer() as server, stage.conversation(agent, server) as talk:
        await talk.until("history_updated")
        await server.wait_for("session.update")
        tools = session_update(server)["tools"]
    by_name = {tool["name"]: tool for tool in tools}
    assert by_name["weather"]["type"] == "function"
    assert by_name["weather"]["description"] == "Tell the weather."
    assert by_name["weather"]["parameters"]["required"] == ["city"]
    handoff = by_name["transfer_to_bob"]
    assert handoff["description"] == "Handoff to the Bob agent to handle the request. Knows more."
    assert (handoff["type"], handoff["parameters"]["properties"]) == ("function", {})
    assert handoff["parameters"]["additionalProperties"] is False
    assert all(set(tool) == {"type", "name", "description", "parameters"} for tool in tools)


async def test_a_tools_output_is_an_item_and_then_a_create(stage: Stage) -> None:
    agent = RealtimeAgent("Ada", tools=[weather])
    turns = function_call("weather", {"city": "Oslo"}, call_id="c1"), text_turn("Clear.")
    async with answering(*turns) as server, stage.conversation(agent, server) as talk:
        await talk.say("weather?")
        await talk.until("agent_end", output="Clear.")
    frames = [event for event in server.received() if event["type"] in ("conversation.item.create", "response.create")]
    item, create = frames[-2:]
    assert {name: item["item"][name] for name in ("type", "call_id", "output")} == {
        "type": "function_call_output", "call_id": "c1", "output": "clear in Oslo",
    }  # fmt: skip
    assert marked(create) == {"type": "response.create"}
    assert outputs(server) == [("c1", "clear in Oslo")]


async def test_text_and_images_are_an_item_and_a_create_and_history_waits_for_the_servers_word(stage: Stage) -> None:
    content: list[Any] = [
        {"type": "input_text", "text": "look"},
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
    ]
    async with answering(text_turn("A cat.")) as server, stage.conversation(ADA, server) as talk:
        await talk.say(content)
        await talk.until("agent_end")
    (created,) = server.received("conversation.item.create")
    item = created["item"]
    assert (item["type"], item["role"], item["content"]) == ("message", "user", content)
    assert talk.kinds().index("history_added") < talk.kinds().index("agent_start")
    added = talk.of("history_added")[0]["item"]
    assert added["role"] == "user"


async def test_audio_is_appended(stage: Stage) -> None:
    samples = b"\1\0" * 480
    async with ScriptedRealtimeServer() as server, stage.conversation(ADA, server) as talk:
        await talk.until("history_updated")
        await server.wait_for("session.update")
        await talk.send_audio(samples)
        appended = await server.wait_for("input_audio_buffer.append")
    assert base64.b64decode(appended["audio"]) == samples
    assert server.received("response.create") == []


async def test_truncating_and_cancelling_name_what_they_are_about(stage: Stage) -> None:
    async with answering(open_turn("Let me tell you", bytes(48_000))) as server:
        async with stage.conversation(ADA, server) as talk:
            await talk.say("tell me")
            audio = await talk.until("audio")
            await talk.interrupt()
            await talk.until("agent_end")
            cut = await server.wait_for("conversation.item.truncate")
    cancelled = server.received("response.cancel")[0]
    assert (cut["item_id"], cut["content_index"]) == (audio["item_id"], 0)
    assert isinstance(cut["audio_end_ms"], int)
    assert cancelled.get("response_id") in (None, "resp_1")


async def test_a_barge_in_needs_no_cancel_of_ours(stage: Stage) -> None:
    async with answering(open_turn("Let me tell you", bytes(48_000))) as server:
        async with stage.conversation(ADA, server) as talk:
            await talk.say("tell me")
            await talk.until("audio")
            await server.connections[0].emit(barge_in())
            await talk.until("agent_end")
            await server.wait_for("conversation.item.truncate")
    assert server.received("response.cancel") == []


def test_exceptions_have_the_names_and_fields_that_programs_catch() -> None:
    """In process only: exceptions are objects of a program; clients of the cluster are given `error` events."""
    timeout = ToolTimeoutError("weather", 2.5)
    assert (timeout.tool_name, timeout.timeout_seconds) == ("weather", 2.5)
    for kind in (UserError, ModelBehaviorError, ToolTimeoutError, ToolInputGuardrailTripwireTriggered):
        assert issubclass(kind, voicebus.AgentsException)
        assert issubclass(kind, voicebus.VoicebusError)
    for told in (UserError("No."), ModelBehaviorError("No."), voicebus.MaxTurnsExceeded("No.")):
        assert told.message == str(told) == "No."


async def test_a_session_that_is_not_connected_says_so() -> None:
    """In process only, as above."""
    session = await voicebus.RealtimeRunner(ADA).run()
    with pytest.raises(AssertionError, match="not open"):
        await session.send_audio(b"")
    await session.interrupt()
    with pytest.raises(AssertionError, match="Not connected"):
        await voicebus.OpenAIRealtimeWebSocketModel().send_event(voicebus.RealtimeModelSendAudio(b"", commit=False))


async def test_a_whole_turn_is_told_in_its_order(stage: Stage) -> None:
    async with answering(audio_turn("Hi.", bytes(480))) as server, stage.conversation(ADA, server) as talk:
        await talk.say("hello")
        await talk.until("agent_end")
    shown = talk.kinds("transcript_delta", "audio_start", "audio_end", "audio_stopped")
    at = shown.index("agent_start")
    assert shown[0] == "history_updated"
    assert talk.events[0]["history"] == []
    assert [kind for kind in shown[at:] if kind != "history_updated"] == [
        "agent_start", "history_added", "audio", "agent_end",
    ]  # fmt: skip
    if stage.name == CLUSTER:
        assert talk.of("raw_model_event") == []


def label(event: Any) -> str:
    """What an event is called in the order of a turn; server events by their own type."""
    if event.type != "raw_model_event":
        return str(event.type)
    return str(event.data.data["type"]) if event.data.type == "raw_server_event" else f"raw {event.data.type}"


async def test_the_exact_order_of_a_whole_turn_with_the_models_events() -> None:
    """In process only: raw model events are objects of the model layer."""
    labels: list[str] = []
    async with answering(audio_turn("Hi.", bytes(480))) as server:
        async with await RealtimeRunner(ADA).run(model_config={"url": server.url, "api_key": "test"}) as session:
            await wait_until(lambda: len(server.received("session.update")) == 2, description="both updates")
            await session.send_message("hello")
            async for event in session:
                labels.append(label(event))
                if event.type == "agent_end":
                    break
    assert labels[:2] == ["history_updated", "session.created"]
    ours = ("transcript_delta", "raw transcript_delta", "audio_start", "audio_stopped")
    told = [label for label in labels[labels.index("response.created") :] if label not in ours]
    assert told[:3] == ["response.created", "raw turn_started", "agent_start"]
    item = told.index("history_added")
    assert told[item - 1] == "raw item_updated"
    audio = told.index("audio")
    assert told[audio - 1 : audio + 1] == ["raw audio", "audio"]
    assert item < audio
    assert told[-4:] == ["response.done", "raw usage", "raw turn_ended", "agent_end"]
