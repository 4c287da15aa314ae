"""Guardrails that run in processes of their own: functions of a module that those can import."""

import os
import time
from typing import Any

from voicebus import GuardrailFunctionOutput, RunContextWrapper, output_guardrail

Context = RunContextWrapper[Any]


@output_guardrail(executor="process")
def in_a_process(context: Context, agent: Any, text: str) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput({"process": os.getpid(), "text": text, "agent": agent and agent.name}, "in" in text)


@output_guardrail(executor="process")
def hanging_in_a_process(context: Context, agent: Any, text: str) -> GuardrailFunctionOutput:
    time.sleep(60)
    raise AssertionError("unreachable")


def tell(context: Context, agent: Any, text: str) -> GuardrailFunctionOutput:
    """What it was asked with."""
    return GuardrailFunctionOutput([context.context, agent and agent.name, text], False)


async def tell_later(context: Context, agent: Any, text: str) -> GuardrailFunctionOutput:
    return tell(context, agent, text)


NO_FUNCTION = 5
