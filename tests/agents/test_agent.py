"""Agents, handoffs, guardrails and run configs refuse wrong use when they are built."""

from typing import Any

import pytest
from pydantic import BaseModel

from voicebus import (
    GuardrailFunctionOutput,
    ModelBehaviorError,
    OutputGuardrail,
    RealtimeAgent,
    RealtimeRunner,
    RunContextWrapper,
    UserError,
    output_guardrail,
    realtime_handoff,
)
from voicebus.agents.config import wire_session


@pytest.mark.parametrize(
    "fields",
    [
        {"name": 1},
        {"name": ""},
        {"name": "a", "tools": ("x",)},
        {"name": "a", "tools": ["x"]},
        {"name": "a", "handoffs": {}},
        {"name": "a", "instructions": 7},
        {"name": "a", "output_guardrails": [len]},
    ],
)
def test_an_agent_with_a_wrong_field_is_a_type_error(fields: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        RealtimeAgent(**fields)


def test_a_clone_shares_its_lists() -> None:
    agent = RealtimeAgent[Any]("a")
    other = agent.clone(name="b")
    assert other.name == "b"
    assert other.tools is agent.tools


def test_a_handoff_is_named_and_described_after_its_agent() -> None:
    handoff = realtime_handoff(RealtimeAgent("Billing & Refunds", handoff_description="Money matters."))
    assert handoff.tool_name == "transfer_to_billing___refunds"
    assert handoff.tool_description == ("Handoff to the Billing & Refunds agent to handle the request. Money matters.")
    assert handoff.input_json_schema["additionalProperties"] is False


async def test_a_handoffs_input_is_strict_and_reaches_its_callback() -> None:
    class Reason(BaseModel):
        priority: int

    seen: list[Any] = []

    async def on_handoff(_: RunContextWrapper[Any], reason: Reason) -> None:
        seen.append(reason.priority)

    handoff = realtime_handoff(RealtimeAgent("b"), on_handoff=on_handoff, input_type=Reason)
    await handoff.run(RunContextWrapper({}), '{"priority": 2}')
    with pytest.raises(ModelBehaviorError, match="priority"):
        await handoff.run(RunContextWrapper({}), '{"priority": "2"}')
    assert seen == [2]


def test_a_handoff_callback_of_the_wrong_shape_is_refused() -> None:
    agent = RealtimeAgent[Any]("b")
    with pytest.raises(UserError, match="needs an on_handoff"):
        realtime_handoff(agent, input_type=int)
    with pytest.raises(UserError, match="must take 1 argument"):
        realtime_handoff(agent, on_handoff=lambda ctx, more: None)


def test_guardrails_know_their_name_and_refuse_unknown_modes() -> None:
    @output_guardrail
    def polite(_: RunContextWrapper[Any], __: Any, text: str) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(None, "damn" in text)

    assert polite.get_name() == "polite"
    assert polite.mode == "interrupt"
    for wrong in ({"mode": "stop"}, {"on_error": "maybe"}):
        with pytest.raises(UserError):
            OutputGuardrail(polite.guardrail_function, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError):
        OutputGuardrail("text")  # type: ignore[arg-type]


def test_a_runner_refuses_what_is_no_agent_and_keys_that_do_not_exist() -> None:
    with pytest.raises(UserError, match="needs a RealtimeAgent"):
        RealtimeRunner("agent")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="debounce"):
        RealtimeRunner(RealtimeAgent("a"), {"debounce": 3})  # type: ignore[typeddict-unknown-key]
    for wrong in ({"debounce": 3}, {"debounce_text_length": "3"}, {"debounce_text_length": -2}):
        with pytest.raises(UserError, match="debounce"):
            RealtimeRunner(RealtimeAgent("a"), {"guardrails_settings": wrong})  # type: ignore[typeddict-item]


def test_default_settings_are_those_of_the_programming_model() -> None:
    assert wire_session({}) == {
        "output_modalities": ["audio"],
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": {"model": "gpt-4o-mini-transcribe"},
                "turn_detection": {"type": "semantic_vad", "interrupt_response": True},
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "ash"},
        },
        "tracing": "auto",
    }


def test_nested_settings_beat_flat_ones_and_a_given_none_is_sent() -> None:
    wire = wire_session(
        {
            "voice": "ash",
            "turn_detection": {"type": "server_vad"},
            "audio": {"input": {"turn_detection": None, "format": "g711_ulaw"}, "output": {"voice": "cedar"}},
            "modalities": ["text"],
            "tool_choice": "get_weather",
        }
    )
    assert wire["audio"]["input"]["turn_detection"] is None
    assert wire["audio"]["input"]["format"] == {"type": "audio/pcmu"}
    assert wire["audio"]["output"]["voice"] == "cedar"
    assert wire["output_modalities"] == ["text"]
    assert wire["tool_choice"] == {"type": "function", "name": "get_weather"}


@pytest.mark.parametrize(
    "settings",
    [{"voise": 1}, {"input_audio_format": 3}, {"modalities": ["video"]}, {"audio": {"both": {}}}],
)
def test_settings_that_do_not_exist_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        wire_session(settings)
