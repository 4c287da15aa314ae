"""Tools replaced for the time of a test: what answers instead, what stays as it is, and what is put back."""

import threading
from dataclasses import replace
from typing import Annotated, Any

import pytest
from pydantic import Field

from voicebus import (
    FunctionTool,
    RealtimeAgent,
    RealtimeRunner,
    RemoteTool,
    RunContextWrapper,
    ToolContext,
    UserError,
    function_tool,
)
from voicebus.agents.tools.invoke import ToolOutcome, invoke
from voicebus.testing import mock_tools


@function_tool
def get_weather(city: str, unit: str = "C") -> str:
    """Get the weather."""
    return f"real weather of {city} in {unit}"


@function_tool
async def book(context: ToolContext[Any], guest: str, nights: Annotated[int, Field(ge=1)], *rooms: str) -> str:
    """Book rooms."""
    return f"really booked for {guest}, {nights}, {rooms}, {context.tool_call_id}"


@pytest.fixture
def agent() -> RealtimeAgent[Any]:
    """Tools of its own, so that tests do not share what they replace."""
    return RealtimeAgent("desk", tools=[replace(get_weather), replace(book)])


def tool(agent: RealtimeAgent[Any], name: str) -> FunctionTool:
    found = next(each for each in agent.tools if isinstance(each, FunctionTool) and each.name == name)
    assert isinstance(found, FunctionTool)
    return found


async def run(called: FunctionTool, arguments: str, call_id: str = "c1") -> ToolOutcome:
    context: ToolContext[Any] = ToolContext(None, tool_name=called.name, tool_call_id=call_id, tool_arguments=arguments)
    return await invoke(called, context, arguments, timeout=5)


async def sunny_async(city: str) -> str:
    return f"sunny {city}"


def nothing_named() -> str:
    return "sunny"


@pytest.mark.parametrize(
    ("stand_in", "output"),
    [
        ("sunny", "sunny"),
        ({"condition": "sunny"}, '{"condition": "sunny"}'),
        (None, "null"),
        (lambda city: f"sunny {city}", "sunny Paris"),
        (lambda unit, city: f"{city} {unit}", "Paris C"),
        (lambda **given: f"{sorted(given)}", "['city', 'unit']"),
        (lambda context: context.tool_call_id, "c1"),
        (lambda context, city, **given: f"{context.tool_call_id} {city} {sorted(given)}", "c1 Paris ['unit']"),
        (nothing_named, "sunny"),
        (sunny_async, "sunny Paris"),
    ],
    ids=[
        "text",
        "object",
        "None",
        "lambda",
        "some arguments",
        "all arguments",
        "context",
        "context and all",
        "no argument",
        "async",
    ],
)
async def test_a_stand_in_answers_instead(agent: RealtimeAgent[Any], stand_in: Any, output: str) -> None:
    with mock_tools(agent, {"get_weather": stand_in}):
        assert (await run(tool(agent, "get_weather"), '{"city": "Paris", "unit": "C"}')).output == output
    assert (
        await run(tool(agent, "get_weather"), '{"city": "Rome", "unit": "F"}')
    ).output == "real weather of Rome in F"


@pytest.mark.parametrize("stand_in", [ConnectionError("down"), ConnectionError, lambda city: 1 / 0])
async def test_an_exception_is_raised_and_told_as_the_tool_would_tell_it(
    agent: RealtimeAgent[Any], stand_in: Any
) -> None:
    with mock_tools(agent, {"get_weather": stand_in}) as mocked:
        outcome = await run(tool(agent, "get_weather"), '{"city": "Paris", "unit": "C"}')
    assert outcome.outcome == "error"
    assert outcome.output.startswith("An error occurred while running the tool. Please try again.")
    assert isinstance(mocked.calls[0].error, ConnectionError | ZeroDivisionError)


async def test_calls_are_kept_with_their_arguments_by_name(agent: RealtimeAgent[Any]) -> None:
    with mock_tools(agent, {"get_weather": "sunny", "book": {"ok": True}}) as mocked:
        await run(tool(agent, "book"), '{"guest": "Ann", "nights": 2, "rooms": ["1", "2"]}', "c1")
        await run(tool(agent, "get_weather"), '{"city": "Paris", "unit": "C"}', "c2")
    assert [(call.tool, call.call_id) for call in mocked.calls] == [("book", "c1"), ("get_weather", "c2")]
    assert mocked.calls[0].arguments == {"guest": "Ann", "nights": 2, "rooms": ("1", "2")}
    assert mocked.calls[0].output == {"ok": True}
    assert [call.arguments for call in mocked.of("get_weather")] == [{"city": "Paris", "unit": "C"}]


async def test_arguments_that_the_author_named_only_as_a_group_are_kept_by_their_own_names() -> None:
    @function_tool(strict_mode=False)
    def note(guest: str, **wishes: int) -> str:
        """Note wishes."""
        return ""

    desk = RealtimeAgent[Any]("desk", tools=[note])
    with mock_tools(desk, {"note": "noted"}) as mocked:
        assert (await run(tool(desk, "note"), '{"guest": "Ann", "wishes": {"beds": 2, "towels": 3}}')).output == "noted"
    assert mocked.calls[0].arguments == {"guest": "Ann", "beds": 2, "towels": 3}


async def test_the_schema_still_checks_the_arguments(agent: RealtimeAgent[Any]) -> None:
    with mock_tools(agent, {"book": "booked"}) as mocked:
        outcome = await run(tool(agent, "book"), '{"guest": "Ann", "nights": 0, "rooms": []}')
    assert outcome.outcome == "error"
    assert "nights" in outcome.output
    assert mocked.calls == []


async def test_a_stand_in_that_is_not_async_does_not_hold_up_the_loop(agent: RealtimeAgent[Any]) -> None:
    threads = []
    with mock_tools(agent, {"get_weather": lambda city: threads.append(threading.current_thread())}):
        await run(tool(agent, "get_weather"), '{"city": "Paris", "unit": "C"}')
    assert threads[0] is not threading.main_thread()


async def test_everything_is_put_back_also_after_an_error_and_from_within(agent: RealtimeAgent[Any]) -> None:
    before = [each.on_invoke_tool for each in agent.tools if isinstance(each, FunctionTool)]

    def fail() -> None:
        with mock_tools(agent, {"get_weather": "a"}), mock_tools(agent, {"get_weather": "b", "book": "c"}):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [each.on_invoke_tool for each in agent.tools if isinstance(each, FunctionTool)] == before
    with mock_tools(agent, {"get_weather": "outer"}):
        with mock_tools(agent, {"get_weather": "inner"}):
            assert (await run(tool(agent, "get_weather"), '{"city": "P", "unit": "C"}')).output == "inner"
        assert (await run(tool(agent, "get_weather"), '{"city": "P", "unit": "C"}')).output == "outer"


async def test_tools_of_agents_behind_handoffs_are_replaced_too(agent: RealtimeAgent[Any]) -> None:
    first = RealtimeAgent[Any]("first", handoffs=[agent])
    agent.handoffs.append(first)
    for of in (first, RealtimeRunner(first), [first], iter([first])):
        with mock_tools(of, {"get_weather": "sunny"}):
            assert (await run(tool(agent, "get_weather"), '{"city": "P", "unit": "C"}')).output == "sunny"


async def test_a_tool_that_agents_share_is_replaced_once(agent: RealtimeAgent[Any]) -> None:
    twin = agent.clone(name="twin")
    with mock_tools([agent, twin], {"get_weather": "sunny"}) as mocked:
        await run(tool(twin, "get_weather"), '{"city": "P", "unit": "C"}')
    assert len(mocked.calls) == 1
    assert "real" in (await run(tool(agent, "get_weather"), '{"city": "P", "unit": "C"}')).output


async def test_a_remote_tool_gets_a_stand_in_that_takes_any_arguments() -> None:
    remote = RemoteTool("search")
    agent = RealtimeAgent[Any]("desk", tools=[remote])
    with mock_tools(agent, {"search": lambda words: [words]}) as mocked:
        assert (await run(tool(agent, "search"), '{"words": "a b", "page": 2}')).output == '["a b"]'
        assert mocked.calls[0].arguments == {"words": "a b", "page": 2}
    assert agent.tools == [remote]


async def test_a_tool_made_by_hand_is_replaced_as_well() -> None:
    made = FunctionTool(
        "add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}}, lambda _, __: "real"
    )
    agent = RealtimeAgent[Any]("desk", tools=[made])
    with mock_tools(agent, {"add": lambda a: a + 1}):
        assert (await run(made, '{"a": 41}')).output == "42"
    assert (await run(made, '{"a": 41}')).output == "real"


def test_a_name_that_no_agent_has_is_refused_and_nothing_is_replaced(agent: RealtimeAgent[Any]) -> None:
    before = tool(agent, "book").on_invoke_tool
    with (
        pytest.raises(UserError, match="no agent has a tool 'get_wether'; there are book, get_weather"),
        mock_tools(agent, {"book": 1, "get_wether": 2}),
    ):
        pass
    assert tool(agent, "book").on_invoke_tool is before


@pytest.mark.parametrize("of", [None, 5, ["desk"], RunContextWrapper(None)])
def test_what_has_no_tools_is_refused(of: Any) -> None:
    with pytest.raises(UserError, match="mock_tools needs"), mock_tools(of, {}):
        pass
