"""A TARGET whose tools and guardrails do what operators' rules are about: fail, block, rest, raise, trip."""

import asyncio
import time
from pathlib import Path
from typing import Any

from voicebus import (
    CircuitBreaker,
    GuardrailFunctionOutput,
    OutputGuardrail,
    RealtimeAgent,
    RealtimeRunner,
    RunContextWrapper,
    function_tool,
    output_guardrail,
)


@function_tool(circuit_breaker=None)
async def quick(word: str) -> str:
    """Say a word back."""
    return f"quick {word}"


@function_tool(circuit_breaker=CircuitBreaker(failures=3, recovery=30.0))
async def fails(word: str) -> str:
    """Raise, and rest after three times."""
    raise ConnectionError(f"nobody answers to {word}")


@function_tool
async def blocks(seconds: float) -> str:
    """Keep the worker's event loop from turning, as a library that was not made for it does."""
    time.sleep(seconds)  # noqa: ASYNC251 - the fault itself
    return "blocked"


@function_tool(idempotent=True)
async def repeats(started: str, seconds: float) -> str:
    """Take a while; a second run of the same call is at once."""
    if not Path(started).exists():
        Path(started).touch()
        await asyncio.sleep(seconds)
    return "repeated"


@function_tool
async def once(started: str, seconds: float) -> str:
    """Take a while, and must not run twice."""
    Path(started).touch()
    await asyncio.sleep(seconds)
    return "done once"


@output_guardrail
def nothing_forbidden(_: RunContextWrapper[Any], __: Any, text: str) -> GuardrailFunctionOutput:
    """Nobody says the forbidden word."""
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered="forbidden" in text)


def _unsure(_: RunContextWrapper[Any], __: Any, text: str) -> GuardrailFunctionOutput:
    if "unclear" in text:
        raise ValueError("not to be judged")
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)


first = RealtimeAgent(
    name="first",
    instructions="First.",
    tools=[quick, fails, blocks, repeats, once],
    output_guardrails=[
        nothing_forbidden,
        OutputGuardrail(_unsure, name="lenient", on_error="open", on_unavailable="open"),
        OutputGuardrail(_unsure, name="strict", on_error="closed", on_unavailable="closed"),
    ],
)
held = RealtimeAgent(
    name="held",
    instructions="Held.",
    output_guardrails=[OutputGuardrail(_unsure, name="holding", mode="hold", hold_window_ms=200)],
)
runner = RealtimeRunner(first, config={"model_settings": {"turn_detection": {"type": "server_vad"}}})
holding = RealtimeRunner(held, config={"model_settings": {"turn_detection": {"type": "server_vad"}}})
