"""Guardrails that are given up: what they do after that is nobody's business."""

import asyncio
import gc
from typing import Any

from voicebus import GuardrailFunctionOutput, OutputGuardrail, RunContextWrapper
from voicebus.agents.judge import judge


async def test_what_a_guardrail_raises_after_its_time_is_no_complaint_of_the_event_loop() -> None:
    async def stubborn(context: Any, agent: Any, text: str) -> GuardrailFunctionOutput:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError("its client was closed under it") from None
        raise AssertionError

    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told["message"]))
    result = await judge(OutputGuardrail(stubborn, name="stubborn"), RunContextWrapper(None), None, "x", timeout=0)
    assert result.timed_out
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    assert complaints == []
