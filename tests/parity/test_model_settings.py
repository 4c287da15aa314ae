"""Each key of the model settings, as it reaches the model's socket."""

from typing import Any, Final

import pytest

from support.stages import Stage
from voicebus import RealtimeAgent
from voicebus.testing import ScriptedRealtimeServer, ServerStep, server_error
from voicebus.testing.scripts import contains

# What a program says: what the first session.update says.
CASES: Final[dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "model_name": ({"model_name": "gpt-realtime-mini"}, {"model": "gpt-realtime-mini"}),
    "prompt": ({"prompt": {"id": "pmpt_1"}}, {"prompt": {"id": "pmpt_1"}}),
    "modalities": ({"modalities": ["text"]}, {"output_modalities": ["text"]}),
    "output_modalities first": (
        {"modalities": ["audio"], "output_modalities": ["text"]},
        {"output_modalities": ["text"]},
    ),
    "input format": ({"input_audio_format": "g711_ulaw"}, {"audio": {"input": {"format": {"type": "audio/pcmu"}}}}),
    "nested input format": (
        {"audio": {"input": {"format": "pcma"}}, "input_audio_format": "g711_ulaw"},
        {"audio": {"input": {"format": {"type": "audio/pcma"}}}},
    ),
    "pcm has one rate": (
        {"input_audio_format": "pcm16"},
        {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 24000}}}},
    ),
    "output format": ({"output_audio_format": "g711_alaw"}, {"audio": {"output": {"format": {"type": "audio/pcma"}}}}),
    "noise reduction": (
        {"input_audio_noise_reduction": {"type": "far_field"}},
        {"audio": {"input": {"noise_reduction": {"type": "far_field"}}}},
    ),
    "no noise reduction": (
        {"audio": {"input": {"noise_reduction": None}}},
        {"audio": {"input": {"noise_reduction": None}}},
    ),
    "transcription": (
        {"input_audio_transcription": {"model": "whisper-1", "language": "de", "prompt": "names"}},
        {"audio": {"input": {"transcription": {"model": "whisper-1", "language": "de", "prompt": "names"}}}},
    ),
    "turn detection": (
        {
            "turn_detection": {
                "type": "server_vad",
                "silenceDurationMs": 300,
                "threshold": 0.4,
                "interrupt_response": True,
            }
        },
        {
            "audio": {
                "input": {
                    "turn_detection": {
                        "type": "server_vad",
                        "silence_duration_ms": 300,
                        "threshold": 0.4,
                        "interrupt_response": True,
                    }
                }
            }
        },
    ),
    "no turn detection": ({"turn_detection": None}, {"audio": {"input": {"turn_detection": None}}}),
    "voice": ({"voice": "sage"}, {"audio": {"output": {"voice": "sage"}}}),
    "custom voice": ({"voice": {"id": "voice_1"}}, {"audio": {"output": {"voice": {"id": "voice_1"}}}}),
    "nested voice first": (
        {"voice": "sage", "audio": {"output": {"voice": "cedar"}}},
        {"audio": {"output": {"voice": "cedar"}}},
    ),
    "speed": ({"speed": 1.25}, {"audio": {"output": {"speed": 1.25}}}),
    "max_output_tokens": ({"max_output_tokens": "inf"}, {"max_output_tokens": "inf"}),
    "tool_choice": ({"tool_choice": "required"}, {"tool_choice": "required"}),
    "parallel calls and reasoning": (
        {"parallel_tool_calls": False, "reasoning": {"effort": "low"}},
        {"parallel_tool_calls": False, "reasoning": {"effort": "low"}},
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_setting_reaches_the_model(stage: Stage, name: str) -> None:
    said, expected = CASES[name]
    config: Any = {"model_settings": said}
    async with (
        ScriptedRealtimeServer() as server,
        stage.conversation(RealtimeAgent(name="clerk"), server, config),
    ):
        update = await server.wait_for("session.update")
    assert contains(expected, update["session"]), update["session"]


async def test_a_session_without_settings_says_the_known_first_frame(stage: Stage) -> None:
    async with (
        ScriptedRealtimeServer() as server,
        stage.conversation(RealtimeAgent(name="clerk", instructions="hi"), server),
    ):
        update = await server.wait_for("session.update")
        (connection,) = server.connections
    pcm = {"type": "audio/pcm", "rate": 24000}
    assert update["session"] == {
        "type": "realtime",
        "model": "gpt-realtime-2.1",
        "output_modalities": ["audio"],
        "instructions": "hi",
        "tools": [],
        "audio": {
            "input": {
                "format": pcm,
                "transcription": {"model": "gpt-4o-mini-transcribe"},
                "turn_detection": {"type": "semantic_vad", "interrupt_response": True},
            },
            "output": {"format": pcm, "voice": "ash"},
        },
    }
    assert connection.path.endswith("?model=gpt-realtime-2.1")


async def test_tracing_may_carry_labels_or_be_off(stage: Stage) -> None:
    labels = {"workflow_name": "calls", "group_id": "7", "metadata": {"line": "1"}}
    asked = []
    for tracing in (labels, None):
        config: Any = {"model_settings": {"tracing": tracing}}
        async with (
            ScriptedRealtimeServer([ServerStep("response.create", server_error("that_is_all", "No."))]) as server,
            stage.conversation(RealtimeAgent(name="clerk"), server, config) as talk,
        ):
            await talk.say("hello")
            await talk.until("error", code="that_is_all")
        asked.append([update["session"].get("tracing") for update in server.received("session.update")[1:]])
    assert asked == [[labels], []]


async def test_what_has_no_key_is_said_by_raw_messages() -> None:
    from voicebus import RealtimeModelSendRawMessage, RealtimeRunner

    async with ScriptedRealtimeServer() as server:
        runner = RealtimeRunner(RealtimeAgent[Any](name="clerk"))
        async with await runner.run(model_config={"url": server.url, "api_key": "test"}) as session:
            update = {"type": "realtime", "truncation": "disabled"}
            for message in (
                {"type": "session.update", "other_data": {"session": update}},
                {"type": "input_audio_buffer.clear"},
            ):
                await session.model.send_event(RealtimeModelSendRawMessage(message=message))  # type: ignore[arg-type]
            await server.wait_for("input_audio_buffer.clear")
    assert update in [event["session"] for event in server.received("session.update")]


async def test_initial_settings_beat_the_agent_at_the_beginning_and_raw_ones_last_until_the_next_agent() -> None:
    """In process only: a gateway has no `initial_model_settings`, and clients send no raw messages."""
    from voicebus import RealtimeModelSendRawMessage, RealtimeRunner

    agent = RealtimeAgent[Any](name="clerk", instructions="Own.", handoffs=[RealtimeAgent[Any](name="billing")])
    initial: Any = {"instructions": "Initial.", "handoffs": [], "voice": "coral"}
    async with ScriptedRealtimeServer() as server:
        options: Any = {"url": server.url, "api_key": "test", "initial_model_settings": initial}
        async with await RealtimeRunner(agent).run(model_config=options) as session:
            raw = {"type": "realtime", "audio": {"input": {"noise_reduction": {"type": "near_field"}}}}
            message: Any = {"type": "session.update", "other_data": {"session": raw}}
            await session.model.send_event(RealtimeModelSendRawMessage(message=message))
            await session.update_agent(agent)
            await server.wait_for("session.update", 3)
    updates = [event["session"] for event in server.received("session.update")]
    first, said, after = [update for update in updates if "tracing" not in update]
    assert (first["instructions"], first["tools"], first["audio"]["output"]["voice"]) == ("Initial.", [], "coral")
    assert said["audio"]["input"] == {"noise_reduction": {"type": "near_field"}}
    assert (after["instructions"], after["tools"][0]["name"]) == ("Own.", "transfer_to_billing")
    assert after["audio"]["output"]["voice"] == "coral"
    assert "noise_reduction" not in after["audio"]["input"]
