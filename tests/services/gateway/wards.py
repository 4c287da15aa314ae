"""Agents whose rules say what counts while nobody can judge."""

from typing import Any

from voicebus import GuardrailFunctionOutput, RealtimeAgent, output_guardrail


async def judge(context: Any, agent: Any, text: str) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(None, "secret" in text)


fails_closed = output_guardrail(name="fails_closed", mode="hold", on_unavailable="closed", replacement="Later.")(judge)
fails_open = output_guardrail(name="fails_open", mode="hold", on_unavailable="open")(judge)
closed = RealtimeAgent(name="closed", instructions="You are careful.", output_guardrails=[fails_closed])
opened = RealtimeAgent(name="opened", instructions="You are bold.", output_guardrails=[fails_open])
