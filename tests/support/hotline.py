"""A TARGET for scenarios: an agent whose tools say where they ran, one that is slow, and a guardrail."""

import asyncio
import os
from pathlib import Path
from typing import Any

from voicebus import (
    GuardrailFunctionOutput,
    RealtimeAgent,
    RealtimeRunner,
    RunContextWrapper,
    ToolContext,
    function_tool,
    output_guardrail,
)


@function_tool(idempotent=True)
def where(context: ToolContext[Any], word: str) -> str:
    """Say a word back, and the process that ran this."""
    return f"{word} from process {os.getpid()}"


@function_tool(timeout=2)
async def quick(word: str) -> str:
    """Say a word back, within two seconds."""
    return f"quick {word}"


@function_tool
async def slow(seconds: float, started: str) -> str:
    """Take a while; make the file `started` first."""
    await asyncio.to_thread(Path(started).touch)
    await asyncio.sleep(seconds)
    return f"slept {seconds:g} s"


@output_guardrail
def nothing_forbidden(_: RunContextWrapper[Any], __: Any, text: str) -> GuardrailFunctionOutput:
    """Nobody says the forbidden word."""
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered="forbidden" in text)


first = RealtimeAgent(
    name="first",
    instructions="First.",
    tools=[where, quick, slow],
    output_guardrails=[nothing_forbidden],
)
second = RealtimeAgent(name="second", handoff_description="The second line.", instructions="Second.", tools=[where])
first.handoffs.append(second)
runner = RealtimeRunner(first, config={"model_settings": {"turn_detection": {"type": "server_vad"}}})
