"""Agents whose tools need leave, and whose words are judged: what the cluster must honour of the programming model."""

from typing import Any

from voicebus import (
    BackgroundResult,
    GuardrailFunctionOutput,
    RealtimeAgent,
    RemoteTool,
    ToolContext,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrailData,
    ToolOutputGuardrailData,
    background_result,
    function_tool,
    input_guardrail,
    output_guardrail,
    tool_input_guardrail,
    tool_output_guardrail,
)


@function_tool(queue="bank", needs_approval=True)
def transfer(amount: int) -> str:
    """Move money."""
    return f"moved {amount}"


async def is_large(context: Any, arguments: dict[str, Any], call_id: str) -> bool:
    return bool(arguments["amount"] > 100)


@function_tool(queue="bank", needs_approval=is_large)
def withdraw(amount: int) -> str:
    """Hand out cash."""
    return f"here are {amount}"


@tool_input_guardrail
async def own_account(data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
    if "theirs" in data.context.tool_arguments:
        return ToolGuardrailFunctionOutput.reject_content("Only the caller's own account.")
    return ToolGuardrailFunctionOutput.allow()


@tool_output_guardrail
async def no_iban(data: ToolOutputGuardrailData) -> ToolGuardrailFunctionOutput:
    if "DE89" in str(data.output):
        return ToolGuardrailFunctionOutput.reject_content("The number is withheld.")
    return ToolGuardrailFunctionOutput.allow()


@function_tool(queue="bank", tool_input_guardrails=[own_account], tool_output_guardrails=[no_iban])
def account(whose: str) -> str:
    """The number of an account."""
    return "DE89 3704" if whose == "number" else f"the account of {whose}"


@function_tool(queue="bank")
def note(text: str) -> BackgroundResult:
    """Write something down."""
    return background_result(f"noted {text}")


@function_tool(queue="bank")
def who_asks(context: ToolContext[Any]) -> str:
    """Which agent calls."""
    agent = context.agent
    return f"{agent.name}: {agent.instructions}" if agent is not None else "nobody"


@output_guardrail(mode="hold")
async def discretion(context: Any, agent: Any, text: str) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput({"found": "secret"}, "secret" in text)


@input_guardrail(mode="hold")
async def no_threats(context: Any, agent: Any, text: str) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput({"found": "threat"}, "hands up" in str(text))


teller = RealtimeAgent(
    name="teller", instructions="You stand at the counter.", tools=[transfer, withdraw, account, note, who_asks]
)
discreet = RealtimeAgent(name="discreet", instructions="You say little.", output_guardrails=[discretion])
guarded = RealtimeAgent(name="guarded", instructions="You stay calm.", input_guardrails=[no_threats])
branch = RealtimeAgent(
    name="branch", instructions="You ask the head office.", tools=[RemoteTool("transfer"), RemoteTool("account")]
)
