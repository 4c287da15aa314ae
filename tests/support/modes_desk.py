"""A TARGET for the modes of the model-simulator: agents with tools, a handoff, an approval and a guardrail."""

from typing import Any, Final

from voicebus import (
    GuardrailFunctionOutput,
    OutputGuardrail,
    RealtimeAgent,
    RealtimeRunConfig,
    RealtimeRunner,
    function_tool,
)


@function_tool
async def rate(city: str) -> str:
    """Find what a room costs."""
    return f"100 in {city}"


@function_tool
async def weather(city: str) -> str:
    """Find the weather."""
    return f"sunny in {city}"


@function_tool(needs_approval=True)
async def refund(amount: int) -> str:
    """Refund money."""
    return f"refunded {amount}"


def no_secrets(_: Any, __: Any, text: str) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(None, "secret" in text)


CONFIG: Final[RealtimeRunConfig] = {
    "model_settings": {
        "turn_detection": {"type": "server_vad", "silence_duration_ms": 300},
        "input_audio_transcription": {"model": "whisper-1"},
    },
    "guardrails_settings": {"debounce_text_length": 10},
}

desk: RealtimeAgent[Any] = RealtimeAgent("desk", instructions="You refund.", tools=[weather, refund])
front: RealtimeAgent[Any] = RealtimeAgent(
    "front", instructions="You help.", tools=[rate, weather, refund], handoffs=[desk]
)
discreet: RealtimeAgent[Any] = RealtimeAgent(
    "discreet", instructions="You keep secrets.", output_guardrails=[OutputGuardrail(no_secrets, name="discretion")]
)

front_runner = RealtimeRunner(front, config=CONFIG)
desk_runner = RealtimeRunner(desk, config=CONFIG)
discreet_runner = RealtimeRunner(discreet, config=CONFIG)
