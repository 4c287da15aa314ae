"""Text agents against a real HTTP server that speaks chat completions."""

import threading
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from support.completions import Completions, calls, completions, says
from voicebus import (
    Agent,
    FunctionTool,
    MaxTurnsExceeded,
    ModelBehaviorError,
    ModelSettings,
    RemoteTool,
    RunContextWrapper,
    TextModelError,
    ToolContext,
    UserError,
    function_tool,
)
from voicebus.agents.tools.invoke import invoke
from voicebus.contracts.tools import Outcome


@pytest.fixture
async def model(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Completions]:
    async with completions(monkeypatch) as model:
        yield model


@function_tool
def price(room: str) -> str:
    """The price of a room."""
    return f"{room} is 90"


@function_tool(failure_error_function=None)
def vault() -> str:
    raise RuntimeError("locked")


def context(name: str = "expert") -> ToolContext[Any]:
    return ToolContext(None, tool_name=name, tool_call_id="call_9", tool_arguments="{}")


async def test_it_answers_with_its_instructions_its_settings_and_the_key_of_the_environment(model: Completions) -> None:
    model.script = [says("Good day.")]
    agent = Agent("clerk", instructions=lambda _, own: f"You are {own.name}.", model_settings=ModelSettings(top_p=0.5))
    result = await agent.run("hello")
    assert result.final_output == "Good day."
    (asked,) = model.asked
    assert asked["messages"] == [
        {"role": "system", "content": "You are clerk."},
        {"role": "user", "content": "hello"},
    ]
    assert (asked["top_p"], asked["model"], model.keys) == (0.5, "gpt-5-mini", ["Bearer sk-test"])
    assert "tools" not in asked


async def test_it_calls_its_tools_and_counts_what_it_used_in_the_sessions_usage(model: Completions) -> None:
    model.script = [calls("price", room="blue"), says("90.")]
    wrapper = RunContextWrapper[Any](None)
    result = await Agent("clerk", tools=[price], model_settings=ModelSettings(tool_choice="required")).run("?", wrapper)
    assert result.final_output == "90."
    assert model.asked[1]["messages"][-1] == {"role": "tool", "tool_call_id": "call_1", "content": "blue is 90"}
    assert [asked.get("tool_choice") for asked in model.asked] == ["required", None]
    assert (wrapper.usage.requests, wrapper.usage.total_tokens, result.usage.total_tokens) == (2, 20, 20)


async def test_its_settings_reach_the_model_under_the_names_of_chat_completions(model: Completions) -> None:
    model.script = [calls("price", room="blue"), says("90."), says("Good day.")]
    settings = ModelSettings(tool_choice="price", max_tokens=50, parallel_tool_calls=False)
    await Agent("clerk", tools=[price], model_settings=settings).run("?")
    first, second = model.asked
    assert first["tool_choice"] == {"type": "function", "function": {"name": "price"}}
    assert "tool_choice" not in second, "or it would never answer"
    assert [(asked["max_completion_tokens"], asked["parallel_tool_calls"]) for asked in model.asked] == [
        (50, False)
    ] * 2
    await Agent("clerk", model_settings=settings).run("?")
    assert not {"tools", "tool_choice", "parallel_tool_calls", "max_tokens"} & model.asked[-1].keys()


@pytest.mark.parametrize(
    ("answer", "told"), [({"choices": []}, "gave no answer"), ({"refusal": "I may not."}, "refused: I may not.")]
)
async def test_a_model_that_does_not_answer_is_told_by_name(model: Completions, answer: Any, told: str) -> None:
    model.script = [answer]
    with pytest.raises(ModelBehaviorError, match=f"'gpt-5-mini' {told}"):
        await Agent("clerk").run("?")


async def test_two_tools_of_one_name_are_refused_before_the_model_is_asked(model: Completions) -> None:
    with pytest.raises(UserError, match="two tools named 'price'"):
        await Agent("clerk", tools=[price, function_tool(lambda: "x", name_override="price")]).run("?")
    assert model.asked == []


async def test_an_unknown_tool_is_told_and_too_many_turns_end_the_run(model: Completions) -> None:
    model.script = [calls("nothing"), calls("price", room="a")]
    with pytest.raises(MaxTurnsExceeded, match="max_turns=2"):
        await Agent("clerk", tools=[price]).run("?", max_turns=2)
    assert model.asked[1]["messages"][-1]["content"] == "Tool nothing not found"


class Offer(BaseModel):
    room: str
    price: int


async def test_an_output_type_makes_an_object_of_the_answer(model: Completions) -> None:
    model.script = [says('{"room": "blue", "price": 90}'), says("blue")]
    agent = Agent("clerk", output_type=Offer)
    assert (await agent.run("?")).final_output == Offer(room="blue", price=90)
    assert model.asked[0]["response_format"]["json_schema"]["schema"]["required"] == ["room", "price"]
    outcome = await invoke(agent.as_tool(), context(), '{"input": "?"}', timeout=20)
    assert outcome.outcome is Outcome.ERROR
    assert "does not fit output_type" in outcome.output


async def test_as_a_tool_it_answers_one_input(model: Completions) -> None:
    model.script = [says("It is 90."), says("It is 91.")]
    tool = Agent("Price expert!").as_tool(tool_description="Knows prices.")
    assert isinstance(tool, FunctionTool)
    assert (tool.name, tool.description, tool.own_queue) == ("price_expert", "Knows prices.", "default")
    assert tool.params_json_schema["required"] == ["input"]
    called = context()
    outcome = await invoke(tool, called, '{"input": "the price?"}', timeout=20)
    assert (outcome.outcome, outcome.output, called.usage.total_tokens) == (Outcome.OK, "It is 90.", 10)
    extracted = Agent("e").as_tool("ask", "", lambda result: f"<{result.final_output}>")
    assert (await invoke(extracted, context(), '{"input": "?"}', timeout=20)).output == "<It is 91.>"


async def test_a_failure_of_the_model_or_of_a_tool_is_the_tools_error(model: Completions) -> None:
    model.script = [400, calls("vault")]
    tool = Agent("expert", tools=[vault]).as_tool()
    refused = await invoke(tool, context(), '{"input": "?"}', timeout=20)
    assert refused.outcome is Outcome.ERROR
    assert "did not answer" in refused.output
    failed = await invoke(tool, context(), '{"input": "?"}', timeout=20)
    assert "tool 'vault' failed" in failed.output
    assert (await invoke(tool, context(), "{}", timeout=20)).outcome is Outcome.ERROR
    model.script = [400]
    with pytest.raises(TextModelError, match="'gpt-5-mini' did not answer"):
        await Agent("expert").run("?")


async def test_the_event_loop_does_not_wait_while_its_client_is_made(
    model: Completions, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_in: list[threading.Thread] = []

    class Client(openai.AsyncOpenAI):
        def __init__(self) -> None:
            made_in.append(threading.current_thread())
            super().__init__()

    monkeypatch.setattr(openai, "AsyncOpenAI", Client)
    model.script = [{"content": "Yes."}]
    assert (await Agent("expert").run("?")).final_output == "Yes."
    assert len(made_in) == 1
    assert made_in[0] is not threading.current_thread()


async def test_a_tool_that_needs_approval_is_refused(model: Completions) -> None:
    asks = function_tool(lambda: "x", name_override="asks", needs_approval=True)
    with pytest.raises(UserError, match="'asks' needs approval"):
        await Agent("expert", tools=[asks]).run("?")
    assert model.asked == []


async def test_without_a_key_the_error_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_ADMIN_KEY", raising=False)
    with pytest.raises(UserError, match="set OPENAI_API_KEY"):
        await Agent("expert").run("?")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "Agent name must be"),
        ({"name": "a", "tools": [object()]}, "tools"),
        ({"name": "a", "tools": [RemoteTool("x")]}, "a RemoteTool needs a realtime session"),
        ({"name": "a", "model": 5}, "model must be"),
        ({"name": "a", "model_settings": {}}, "model_settings must be ModelSettings"),
    ],
)
def test_what_it_cannot_honour_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Agent(**fields)
    with pytest.raises(UserError, match="as_tool: on_stream cannot be honoured"):
        Agent("a").as_tool(on_stream=print)
