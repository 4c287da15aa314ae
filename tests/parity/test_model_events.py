"""The model layer's events and what can be sent to it (parity F)."""

import dataclasses
from typing import Any

import pytest

import voicebus
from support.scripts import answering
from support.stages import InProcess, Stage
from voicebus import (
    RealtimeAgent,
    RealtimeModelListener,
    RealtimeModelSendInterrupt,
    RealtimeModelSendRawMessage,
    RealtimeRunner,
    function_tool,
)
from voicebus.errors import ModelLinkError
from voicebus.testing import Drop, audio_turn, function_call, open_turn

# Objects of one process: a gateway keeps the model layer to itself.
EVENTS = {
    "Error": ("error", ["error"]),
    "ToolCall": ("function_call", ["name", "call_id", "arguments", "id", "previous_item_id"]),
    "Audio": ("audio", ["data", "response_id", "item_id", "content_index"]),
    "AudioInterrupted": ("audio_interrupted", ["item_id", "content_index"]),
    "AudioDone": ("audio_done", ["item_id", "content_index"]),
    "InputAudioTimeoutTriggered": ("input_audio_timeout_triggered", ["item_id", "audio_start_ms", "audio_end_ms"]),
    "InputAudioTranscriptionCompleted": ("input_audio_transcription_completed", ["item_id", "transcript"]),
    "TranscriptDelta": ("transcript_delta", ["item_id", "delta", "response_id"]),
    "OutputTextDelta": ("output_text_delta", ["item_id", "delta", "response_id"]),
    "ItemUpdated": ("item_updated", ["item"]),
    "ItemDeleted": ("item_deleted", ["item_id"]),
    "ConnectionStatus": ("connection_status", ["status"]),
    "EndOfStream": ("end_of_stream", []),
    "TurnStarted": ("turn_started", ["response_id"]),
    "Usage": ("usage", ["usage", "input_tokens_details", "output_tokens_details"]),
    "TurnEnded": ("turn_ended", ["response_id"]),
    "Other": ("other", ["data"]),
    "Exception": ("exception", ["exception", "context"]),
    "RawServer": ("raw_server_event", ["data"]),
}
SENDS: dict[str, dict[str, Any]] = {
    "RawMessage": {"message": None},
    "UserInput": {"user_input": None},
    "Audio": {"audio": None, "commit": False},
    "ToolOutput": {"tool_call": None, "output": None, "start_response": None},
    "Interrupt": {
        "force_response_cancel": False,
        "response_id": None,
        "cancel_response_only": False,
        "playback_only": False,
    },
    "SessionUpdate": {"session_settings": None},
}


@function_tool
async def weather(city: str) -> str:
    """Tell the weather."""
    return f"clear in {city}"


@pytest.mark.parametrize("name", EVENTS)
def test_a_model_event_has_the_fields_that_programs_know(name: str) -> None:
    kind, fields = EVENTS[name]
    known = dataclasses.fields(getattr(voicebus, f"RealtimeModel{name}Event"))
    assert {field.name for field in known} == {*fields, "type"}
    assert next(field.default for field in known if field.name == "type") == kind


@pytest.mark.parametrize("name", SENDS)
def test_a_send_event_has_the_fields_and_defaults_that_programs_know(name: str) -> None:
    known = dataclasses.fields(getattr(voicebus, f"RealtimeModelSend{name}"))
    given = {field.name: None if field.default is dataclasses.MISSING else field.default for field in known}
    assert given == SENDS[name]


class Heard(RealtimeModelListener):
    def __init__(self) -> None:
        self.kinds: list[str] = []

    async def on_event(self, event: Any) -> None:
        self.kinds.append(event.type)


async def test_the_only_connection_status_is_disconnected() -> None:
    """In process only: a program iterates to the end of the stream."""
    statuses: list[str] = []
    async with answering(audio_turn("Bye.")) as server:
        runner = RealtimeRunner(RealtimeAgent("Ada"))
        async with await runner.run(model_config={"url": server.url, "api_key": "test"}) as session:
            await session.send_message("hello")
            kinds: list[str] = []

            async def read() -> None:
                async for event in session:
                    if event.type == "raw_model_event":
                        kinds.append(event.data.type)
                        if event.data.type == "connection_status":
                            statuses.append(event.data.status)
                    if event.type == "agent_end":
                        await server.connections[0].emit(Drop(4000))

            with pytest.raises(ModelLinkError):
                await read()
    assert statuses == ["disconnected"]
    assert kinds[-2:] == ["connection_status", "exception"]


async def test_raw_messages_go_to_the_model_and_wrong_ones_end_nothing() -> None:
    """In process only: `session.model` is the program's way to the model."""
    async with answering(audio_turn("Raw."), audio_turn("More.")) as server:
        runner = RealtimeRunner(RealtimeAgent("Ada"))
        async with await runner.run(model_config={"url": server.url, "api_key": "test"}) as session:
            heard = Heard()
            session.model.add_listener(heard)
            wrong: Any = {"type": "no.such.event", "other_data": {"x": 1}}
            await session.model.send_event(RealtimeModelSendRawMessage(message=wrong))
            await session.model.send_event(
                RealtimeModelSendRawMessage(
                    message={"type": "response.create", "other_data": {"response": {"instructions": "Say raw."}}}
                )
            )
            await session.model.send_event(RealtimeModelSendRawMessage(message={"type": "response.create"}))
            outputs = [event.output async for event in _ends(session, 2)]
            session.model.remove_listener(heard)
        assert outputs == ["Raw.", "More."], "one at a time, each a turn of its own"
        assert not server.received("no.such.event")
        assert server.received("response.create")[0]["response"]["instructions"] == "Say raw."
        server.assert_complete()
    assert {"raw_server_event", "turn_started", "turn_ended"} <= set(heard.kinds)


async def _ends(session: Any, count: int) -> Any:
    async for event in session:
        if event.type == "agent_end":
            yield event
            count -= 1
            if not count:
                return


async def test_an_interruption_may_be_sent_to_the_model() -> None:
    """In process only: `session.model`."""
    async with answering(open_turn("A long story.", bytes(48_000))) as server:
        runner = RealtimeRunner(RealtimeAgent("Ada"))
        async with await runner.run(model_config={"url": server.url, "api_key": "test"}) as session:
            await session.send_message("tell me")
            async for event in session:
                if event.type == "audio":
                    await session.model.send_event(RealtimeModelSendInterrupt(force_response_cancel=True))
                if event.type == "agent_end":
                    break
        assert len(server.received("response.cancel")) == 1


async def test_a_server_event_that_nobody_knows_passes_and_the_conversation_goes_on(stage: Stage) -> None:
    strange: list[Any] = [
        {"type": "rate_limits.updated", "rate_limits": []},
        {"type": "response.brand_new.delta", "response_id": "resp_9", "delta": 5},
        {"type": "conversation.item.added", "item": {"type": "hologram", "id": "x"}},
    ]
    async with (
        answering(audio_turn("Fine.")) as server,
        stage.conversation(RealtimeAgent("Ada"), server) as talk,
    ):
        await server.wait_for("session.update")
        await server.connections[0].emit(*strange)
        await talk.say("how are you?")
        await talk.until("agent_end", output="Fine.")
    assert not talk.of("error")
    if isinstance(stage, InProcess):
        raw = [event["data"]["data"]["type"] for event in talk.of("raw_model_event") if _is_of_server(event["data"])]
        assert {"rate_limits.updated", "response.brand_new.delta", "conversation.item.added"} <= set(raw)


def _is_of_server(data: Any) -> bool:
    return isinstance(data, dict) and data.get("type") == "raw_server_event"


async def test_the_tokens_of_each_response_are_counted_before_its_turn_ends(stage: Stage) -> None:
    async with (
        answering(function_call("weather", {"city": "Rome"}), audio_turn("Clear.")) as server,
        stage.conversation(RealtimeAgent("Ada", tools=[weather]), server) as talk,
    ):
        await talk.say("weather?")
        await talk.until("agent_end", output="Clear.")
        if isinstance(stage, InProcess):
            usage = talk.session.usage  # type: ignore[attr-defined]
            assert (usage.requests, usage.input_tokens) == (2, 20)
            assert usage.total_tokens == usage.input_tokens + usage.output_tokens
            assert len(usage.request_usage_entries) == 2
    assert [record["usage"]["input_tokens"] for record in talk.recorded("turn_ended")] == [10, 10]
