"""An agent whose words are judged while they are spoken."""

from typing import Any

from voicebus import GuardrailFunctionOutput, RealtimeAgent, function_tool, output_guardrail


@output_guardrail
async def secrecy(context: Any, agent: Any, text: str) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput({"found": "secret"}, "secret" in text)


@function_tool(queue="strict")
def nothing() -> str:
    """Do nothing."""
    return "nothing"


strict = RealtimeAgent(name="strict", instructions="You say little.", tools=[nothing], output_guardrails=[secrecy])
