"""Tools of other libraries become ours, with what they bring along."""

import sys
import types
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from voicebus import FunctionTool, ToolContext, Usage, UserError, function_tool
from voicebus.agents.tools.adopt import adopt_tool, can_adopt
from voicebus.agents.tools.invoke import ToolOutcome, invoke
from voicebus.contracts.tools import Outcome

SCHEMA = {"type": "object", "properties": {"question": {"type": "string"}}}


async def ask(context: Any, arguments: str) -> Any:
    context.usage.add(
        SimpleNamespace(
            requests=1, input_tokens=3, output_tokens=2, total_tokens=5, request_usage_entries=[],
            input_tokens_details=SimpleNamespace(cached_tokens=1),
            output_tokens_details=SimpleNamespace(reasoning_tokens=None),
        )
    )  # fmt: skip
    return {"asked": arguments, "by": type(context).__module__}


@dataclass
class ForeignTool:
    name: str = "ask"
    description: str | None = None
    params_json_schema: dict[str, Any] = field(default_factory=lambda: SCHEMA)
    on_invoke_tool: Any = ask


def context() -> ToolContext[Any]:
    return ToolContext({"guest": "Ada"}, tool_name="ask", tool_call_id="c1", tool_arguments="{}", tool_input={"a": 1})


async def run(tool: FunctionTool, given: ToolContext[Any], *, vetted: bool = True) -> ToolOutcome:
    return await invoke(tool, given, '{"question": "?"}', timeout=5, vetted=vetted)


async def test_whatever_has_the_four_attributes_is_a_tool() -> None:
    tool = adopt_tool(ForeignTool())
    assert (tool.name, tool.description, tool.params_json_schema, tool.strict_json_schema) == ("ask", "", SCHEMA, False)
    given = context()
    told = await run(tool, given)
    assert told.value == {"asked": '{"question": "?"}', "by": "voicebus.agents.context"}
    assert (given.usage.requests, given.usage.total_tokens, given.usage.input_tokens_details.cached_tokens) == (1, 5, 1)


async def test_a_tool_that_needs_no_awaiting_is_adopted_too() -> None:
    told = await run(adopt_tool(ForeignTool(on_invoke_tool=lambda context, arguments: "at once")), context())
    assert told.output == "at once"


async def test_what_a_tool_brings_along_is_kept() -> None:
    @dataclass
    class Finding:
        output_info: Any
        behavior: dict[str, str]

    rejecting = SimpleNamespace(
        guardrail_function=lambda data: Finding(
            1, {"type": "reject_content", "message": f"no {data.context.tool_name}"}
        ),
        name="strict",
    )
    passing = SimpleNamespace(guardrail_function=lambda data: Finding(2, {"type": "allow"}), name=None)
    foreign = ForeignTool()
    vars(foreign).update(
        strict_json_schema=True, is_enabled=False, needs_approval=True, timeout_seconds=2.0,
        timeout_behavior="raise_exception", tool_input_guardrails=[rejecting], tool_output_guardrails=[passing],
    )  # fmt: skip
    tool = adopt_tool(foreign)
    assert (tool.strict_json_schema, tool.is_enabled, tool.needs_approval) == (True, False, True)
    assert (tool.timeout_seconds, tool.timeout_behavior) == (2.0, "raise_exception")
    assert (await run(tool, context(), vetted=False)).output == "no ask"
    assert (await run(tool, context())).outcome is Outcome.OK


def test_what_cannot_be_honoured_is_refused() -> None:
    foreign = ForeignTool()
    vars(foreign).update(defer_loading=True)
    with pytest.raises(UserError, match="tool 'ask': defer_loading cannot be honoured"):
        adopt_tool(foreign)


def test_what_is_no_tool_is_refused_and_ours_stay_as_they_are() -> None:
    tool = function_tool(name_override="own")(lambda question: question)
    assert adopt_tool(tool) is tool
    assert can_adopt(ForeignTool())
    for wrong in (ForeignTool, "ask", None, SimpleNamespace(name="ask")):
        assert not can_adopt(wrong)
        with pytest.raises(UserError, match="is no function tool: it needs name, description"):
            adopt_tool(wrong)


def test_a_tool_adopted_twice_is_the_same_tool() -> None:
    foreign = ForeignTool()
    once, again = adopt_tool(foreign), adopt_tool(foreign)
    assert once == again
    assert hash(once.on_invoke_tool) == hash(again.on_invoke_tool)
    assert once != adopt_tool(ForeignTool())


def test_the_authors_function_says_where_an_adopted_tool_comes_from() -> None:
    hotel: dict[str, Any] = {"__name__": "hotel.tools", "__package__": "hotel"}
    exec("def look_up(city): ...", hotel)
    foreign = ForeignTool()
    vars(foreign).update(__wrapped__=hotel["look_up"])
    tool = adopt_tool(foreign)
    assert (tool.own_queue, tool.origin) == ("hotel", "hotel.tools.look_up")


async def test_a_library_with_a_context_of_its_own_is_called_with_that(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class OwnContext:
        context: Any
        usage: Usage
        tool_name: str
        tool_call_id: str
        tool_arguments: str
        tool_input: Any

    async def look(own: Any, arguments: str) -> Any:
        assert isinstance(own, OwnContext)
        return [own.context, own.tool_name, own.tool_call_id, own.tool_arguments, own.tool_input, own.usage.requests]

    library = types.ModuleType("otherlib.tool_context")
    library.ToolContext = OwnContext  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "otherlib.tool_context", library)
    monkeypatch.setattr(ForeignTool, "__module__", "otherlib.tool")
    told = await run(adopt_tool(ForeignTool(on_invoke_tool=look)), context())
    assert told.value == [{"guest": "Ada"}, "ask", "c1", "{}", {"a": 1}, 0]
