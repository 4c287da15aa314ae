"""An agent whose tools share what they know of the guest, across processes."""

from typing import Any

from pydantic import BaseModel, SecretStr

from voicebus import (
    GuardrailFunctionOutput,
    RealtimeAgent,
    RealtimeRunner,
    RunContextWrapper,
    ToolContext,
    function_tool,
    output_guardrail,
    realtime_handoff,
)

QUEUE = "hostel"


class Guest(BaseModel):
    name: str
    nights: int = 1
    token: SecretStr | None = None


@function_tool(queue=QUEUE)
async def extend(context: ToolContext[Guest], nights: int) -> str:
    """Extend the stay."""
    context.context.nights += nights
    return f"{context.context.name} stays {context.context.nights} nights"


@function_tool(queue=QUEUE)
async def tell(context: ToolContext) -> str:
    """Tell what is known."""
    return f"{context.context!r} {context.caller and context.caller.tenant}"


@output_guardrail
def few_nights(context: RunContextWrapper[Guest], agent: Any, text: str) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(context.context.nights, "boasts" in text and context.context.nights > 4)


def greet(context: RunContextWrapper[Guest], agent: Any) -> str:
    return f"Greet {context.context.name}, who stays {context.context.nights} nights."


def moved(context: RunContextWrapper[Guest]) -> None:
    context.context.nights += 10


bar: RealtimeAgent[Guest] = RealtimeAgent("bar", instructions=greet, tools=[tell])
desk: RealtimeAgent[Guest] = RealtimeAgent(
    "desk",
    instructions=greet,
    tools=[extend, tell],
    handoffs=[realtime_handoff(bar, on_handoff=moved)],
    output_guardrails=[few_nights],
)
runner = RealtimeRunner(desk, config={"model_settings": {"output_modalities": ["text"]}}, context_model=Guest)
