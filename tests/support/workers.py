"""A target module for tests that start worker processes."""

import asyncio
import os
from typing import Any

from voicebus import GuardrailFunctionOutput, RunContextWrapper, function_tool, output_guardrail


@function_tool(queue="default")
async def process_id() -> int:
    """Tell the process that runs this."""
    return os.getpid()


@function_tool(queue="default")
async def slow(seconds: float) -> str:
    """Take a while."""
    await asyncio.sleep(seconds)
    return "done"


@output_guardrail
def no_prices(context: RunContextWrapper[Any], agent: Any, text: str) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(output_info=os.getpid(), tripwire_triggered="euro" in text)
