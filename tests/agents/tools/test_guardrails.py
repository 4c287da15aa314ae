"""Guardrails of tools: who judges a call and its result, and that nothing passes where a judge fails."""

import asyncio
import threading
from typing import Any

import pytest

from voicebus import (
    FunctionTool,
    RealtimeAgent,
    ToolContext,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    ToolInputGuardrailData,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrail,
    ToolOutputGuardrailData,
    ToolOutputGuardrailTripwireTriggered,
    UserError,
    VoicebusError,
    function_tool,
    tool_input_guardrail,
    tool_output_guardrail,
)
from voicebus.agents.tools.guardrails import ask_input_guardrails, ask_output_guardrails
from voicebus.errors import ToolError

AGENT: RealtimeAgent[Any] = RealtimeAgent("concierge")


def calling(arguments: str = "{}") -> ToolContext[Any]:
    return ToolContext(None, tool_name="pay", tool_call_id="c1", tool_arguments=arguments, agent=AGENT)


def tool_with(*guardrails: ToolInputGuardrail[Any]) -> FunctionTool:
    @function_tool(tool_input_guardrails=list(guardrails))
    def pay(amount: int) -> str:
        return "paid"

    return pay


@tool_input_guardrail
def passing(data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
    return ToolGuardrailFunctionOutput.allow()


@tool_input_guardrail(name="limit")
async def limited(data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
    if "1000" in data.context.tool_arguments:
        return ToolGuardrailFunctionOutput.reject_content("At most 999.", {"limit": 999})
    return ToolGuardrailFunctionOutput.allow("fine")


@tool_input_guardrail
async def exploding(data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
    return ToolGuardrailFunctionOutput.raise_exception("fraud")


def test_findings_are_what_programs_know() -> None:
    assert ToolGuardrailFunctionOutput().behavior == {"type": "allow"}
    assert ToolGuardrailFunctionOutput.allow(1) == ToolGuardrailFunctionOutput(1, {"type": "allow"})
    rejected = ToolGuardrailFunctionOutput.reject_content("no", output_info=2)
    assert (rejected.output_info, rejected.behavior) == (2, {"type": "reject_content", "message": "no"})
    raised = ToolGuardrailFunctionOutput.raise_exception(3)
    assert (raised.output_info, raised.behavior) == (3, {"type": "raise_exception"})
    with pytest.raises(UserError, match="message: text for the model, not 7"):
        ToolGuardrailFunctionOutput.reject_content(7)  # type: ignore[arg-type]


def test_a_guardrail_has_its_own_name_or_its_functions() -> None:
    assert (passing.get_name(), limited.get_name()) == ("passing", "limit")
    assert (passing.name, limited.name) == ("passing", "limit")

    class Judge:
        def __call__(self, data: ToolOutputGuardrailData) -> ToolGuardrailFunctionOutput:
            return ToolGuardrailFunctionOutput.allow()

    assert ToolOutputGuardrail(Judge()).get_name() == "Judge"
    assert ToolOutputGuardrail(Judge()).name is None
    assert tool_output_guardrail(Judge()).name == "Judge"
    assert tool_output_guardrail(name="shy")(Judge()).get_name() == "shy"


@pytest.mark.parametrize("kind", [ToolInputGuardrail, ToolOutputGuardrail])
def test_a_guardrail_needs_a_function(kind: Any) -> None:
    with pytest.raises(UserError, match="guardrail_function must be a function, not 'no'"):
        kind("no")


async def test_every_input_guardrail_has_to_let_a_call_pass() -> None:
    tool = tool_with(passing, limited)
    assert await ask_input_guardrails(tool, calling('{"amount": 10}')) is None
    assert await ask_input_guardrails(tool, calling('{"amount": 1000}')) == "At most 999."
    assert await ask_input_guardrails(tool_with(), calling()) is None


async def test_after_one_that_rejects_no_other_is_asked() -> None:
    asked: list[str] = []

    def judge(name: str, finding: ToolGuardrailFunctionOutput) -> ToolInputGuardrail[Any]:
        def ask(data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
            asked.append(name)
            return finding

        return ToolInputGuardrail(ask, name)

    first = judge("first", ToolGuardrailFunctionOutput.reject_content("no"))
    assert (
        await ask_input_guardrails(tool_with(first, judge("second", ToolGuardrailFunctionOutput())), calling()) == "no"
    )
    assert asked == ["first"]


async def test_a_guardrail_is_given_the_call_and_its_agent() -> None:
    seen: list[Any] = []

    @tool_input_guardrail
    def look(data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        seen.append((data.agent, data.context.tool_call_id, data.context.tool_arguments))
        return ToolGuardrailFunctionOutput.allow()

    @tool_output_guardrail
    def look_at(data: ToolOutputGuardrailData) -> ToolGuardrailFunctionOutput:
        seen.append((data.agent, data.output))
        return ToolGuardrailFunctionOutput.allow()

    assert await ask_input_guardrails(tool_with(look), calling("[]")) is None
    assert await ask_output_guardrails([look_at], calling(), {"raw": 1}) is None
    assert seen == [(AGENT, "c1", "[]"), (AGENT, {"raw": 1})]


async def test_one_that_asks_for_an_exception_gets_it() -> None:
    with pytest.raises(ToolInputGuardrailTripwireTriggered, match="exploding triggered tripwire") as raised:
        await ask_input_guardrails(tool_with(passing, exploding), calling())
    assert (raised.value.guardrail, raised.value.output.output_info) == (exploding, "fraud")
    assert isinstance(raised.value, VoicebusError)

    @tool_output_guardrail
    def leak(data: ToolOutputGuardrailData) -> ToolGuardrailFunctionOutput:
        return ToolGuardrailFunctionOutput.raise_exception({"found": "card"})

    with pytest.raises(ToolOutputGuardrailTripwireTriggered, match="leak triggered tripwire") as found:
        await ask_output_guardrails([leak], calling(), "4111")
    assert (found.value.guardrail, found.value.output.output_info) == (leak, {"found": "card"})


async def test_one_that_raises_lets_nothing_pass() -> None:
    @tool_input_guardrail
    def broken(data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        raise KeyError("rules")

    with pytest.raises(ToolError, match="the tool guardrail broken failed: KeyError: 'rules'"):
        await ask_input_guardrails(tool_with(broken), calling())


@pytest.mark.parametrize("answer", [None, True, {"type": "allow"}])
async def test_one_that_answers_with_something_else_lets_nothing_pass(answer: Any) -> None:
    @tool_output_guardrail
    async def odd(data: ToolOutputGuardrailData) -> Any:
        return answer

    with pytest.raises(ToolError, match=f"odd returned {type(answer).__name__}, not ToolGuardrailFunctionOutput"):
        await ask_output_guardrails([odd], calling(), "x")


async def test_one_that_takes_too_long_lets_nothing_pass_and_is_stopped() -> None:
    stopped = asyncio.Event()

    @tool_input_guardrail
    async def slow(data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        raise AssertionError("unreachable")

    with pytest.raises(ToolError, match=r"the tool guardrail slow took longer than 0.01 s"):
        await ask_input_guardrails(tool_with(slow), calling(), timeout=0.01)
    await asyncio.wait_for(stopped.wait(), 5)


async def test_a_function_that_is_not_async_judges_in_a_thread() -> None:
    @tool_input_guardrail
    def where(data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        return ToolGuardrailFunctionOutput.allow(threading.current_thread() is threading.main_thread())

    assert (await where.run(ToolInputGuardrailData(calling(), AGENT))).output_info is False


async def test_a_guardrail_can_be_run_by_itself() -> None:
    assert (await limited.run(ToolInputGuardrailData(calling('{"a": 1000}'), None))).output_info == {"limit": 999}

    @tool_output_guardrail
    async def short(data: ToolOutputGuardrailData) -> ToolGuardrailFunctionOutput:
        return ToolGuardrailFunctionOutput.allow(len(data.output))

    assert (await short.run(ToolOutputGuardrailData(calling(), AGENT, "four"))).output_info == 4


async def test_a_run_of_the_authors_own_judges_in_place_of_the_function() -> None:
    class Lenient(ToolInputGuardrail[Any]):
        async def run(self, data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
            found = await super().run(data)
            return ToolGuardrailFunctionOutput.reject_content(f"Not now: {found.behavior['type']}.")

    class Silent(ToolOutputGuardrail[Any]):
        async def run(self, data: ToolOutputGuardrailData) -> ToolGuardrailFunctionOutput:
            return ToolGuardrailFunctionOutput.reject_content(f"{data.output} is secret.")

    assert await ask_input_guardrails(tool_with(Lenient(passing.guardrail_function)), calling()) == "Not now: allow."

    def unasked(data: ToolOutputGuardrailData) -> ToolGuardrailFunctionOutput:
        raise AssertionError

    assert await ask_output_guardrails([Silent(unasked)], calling(), "4711") == "4711 is secret."
