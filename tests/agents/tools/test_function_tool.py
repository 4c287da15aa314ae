"""Function tools as authors write them: by decorator or by hand, copied, called directly, and what is refused."""

import copy
import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from voicebus import FunctionTool, ModelBehaviorError, RunContextWrapper, ToolContext, UserError, function_tool
from voicebus.agents.tools.guardrails import tool_input_guardrail, tool_output_guardrail
from voicebus.agents.tools.hold import Hold
from voicebus.agents.tools.python_call import PythonCall

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def calling(tool: FunctionTool, arguments: str = "{}") -> ToolContext[Any]:
    return ToolContext(None, tool_name=tool.name, tool_call_id="c1", tool_arguments=arguments)


async def echo(context: ToolContext[Any], arguments: str) -> str:
    return arguments


class Look:
    async def __call__(self, context: ToolContext[Any], arguments: str) -> str:
        return arguments


async def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


@tool_input_guardrail
def guarded(data: Any) -> Any: ...


@tool_output_guardrail
def guarded_too(data: Any) -> Any: ...


def test_a_decorator_with_and_without_parentheses_makes_a_tool_that_knows_its_function() -> None:
    for tool in (
        function_tool(add),
        function_tool()(add),
        function_tool(func=add),
        function_tool(add, strict_mode=True),
    ):
        assert (tool.name, tool.description, tool.function, tool.__wrapped__) == ("add", "Add.", add, add)
        assert inspect.unwrap(tool) is add  # type: ignore[arg-type]
        assert tool.schema is not None
        assert tool.is_async


def test_every_option_arrives_at_the_tool() -> None:
    async def enabled(_: RunContextWrapper[Any], __: Any) -> bool:
        return True

    async def approval(_: RunContextWrapper[Any], arguments: dict[str, Any], call_id: str) -> bool:
        return True

    def failing(_: RunContextWrapper[Any], error: Exception) -> str:
        return ""

    tool = function_tool(
        name_override="sum", description_override="Sum up.", failure_error_function=failing, strict_mode=False,
        is_enabled=enabled, needs_approval=approval, tool_input_guardrails=[guarded],
        tool_output_guardrails=[guarded_too], timeout=2, timeout_behavior="raise_exception",
        timeout_error_function=failing, queue="sums", idempotent=True, respond="never", speak_progress=True,
        hold_phrase="One moment.", hold_after=2, hold_every=5,
    )(add)  # fmt: skip
    assert (tool.name, tool.description, tool.strict_json_schema) == ("sum", "Sum up.", False)
    assert (tool.is_enabled, tool.needs_approval) == (enabled, approval)
    assert (tool.tool_input_guardrails, tool.tool_output_guardrails) == ([guarded], [guarded_too])
    assert (tool.timeout, tool.timeout_seconds, tool.timeout_behavior) == (2, 2, "raise_exception")
    assert (tool.failure_error_function, tool.timeout_error_function) == (failing, failing)
    assert (tool.queue, tool.idempotent, tool.respond) == ("sums", True, "never")
    assert (tool.speak_progress, tool.hold) == (True, Hold(("One moment.",), 2000, 5000))


def test_the_decorators_defaults_are_those_that_programs_know() -> None:
    defaults = {name: entry.default for name, entry in inspect.signature(function_tool).parameters.items()}
    failing = defaults.pop("failure_error_function")
    assert failing is function_tool(add).failure_error_function
    assert defaults == {
        "func": None, "name_override": None, "description_override": None, "docstring_style": None,
        "use_docstring_info": True, "strict_mode": True, "is_enabled": True, "needs_approval": False,
        "tool_input_guardrails": None, "tool_output_guardrails": None, "timeout": None,
        "timeout_behavior": "error_as_result", "timeout_error_function": None, "defer_loading": False,
        "custom_data_extractor": None, "allowed_callers": None, "output_type": None, "output_json_schema": None,
        "options": inspect.Parameter.empty,
    }  # fmt: skip
    tool = function_tool(add)
    assert (tool.queue, tool.idempotent, tool.respond, tool.approval_timeout) == (None, False, "when_all_done", None)
    assert (tool.background, tool.speak_progress, tool.hold_phrase) == (False, False, None)
    with pytest.raises(TypeError, match="colour"):
        function_tool(add, colour="red")  # type: ignore[call-overload]


def test_nobody_waits_for_a_background_tool_so_that_there_is_no_phrase_for_it() -> None:
    with pytest.raises(UserError, match="nobody waits for a background tool; leave hold_phrase out"):
        function_tool(add, background=True, hold_phrase="One moment.")


async def test_a_tool_is_made_by_hand_with_its_arguments_in_the_known_order() -> None:
    tool = FunctionTool(
        "look", "Look a city up.", SCHEMA, echo, False, True, [guarded], [guarded_too], True, 3.5, "raise_exception",
        lambda _, error: str(error), False,
    )  # fmt: skip
    assert (tool.strict_json_schema, tool.params_json_schema) == (False, SCHEMA)
    assert (tool.needs_approval, tool.timeout_seconds, tool.timeout_behavior) == (True, 3.5, "raise_exception")
    assert (tool.tool_input_guardrails, tool.tool_output_guardrails) == ([guarded], [guarded_too])
    assert (tool.function, tool.__wrapped__, tool.schema, tool.is_async) == (echo, echo, None, True)
    assert await tool.on_invoke_tool(calling(tool), '{"city": "Rome"}') == '{"city": "Rome"}'


def test_the_schema_of_a_tool_made_by_hand_becomes_strict_and_the_authors_stays() -> None:
    tool = FunctionTool("look", "Look.", SCHEMA, echo)
    assert tool.params_json_schema == {**SCHEMA, "required": ["city"], "additionalProperties": False}
    assert "required" not in SCHEMA
    nothing = FunctionTool("look", "Look.", {}, echo).params_json_schema
    assert nothing == {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


async def test_copies_and_changed_copies_work_as_the_tool_does() -> None:
    tool = function_tool(add)
    for same in (copy.copy(tool), dataclasses.replace(tool, name="plus"), dataclasses.replace(tool, queue="sums")):
        assert same.__wrapped__ is add
        assert await same.on_invoke_tool(calling(same), '{"a": 2}') == 3

    def own(_: RunContextWrapper[Any], error: Exception) -> str:
        return f"own words: {error}"

    worded = dataclasses.replace(tool, failure_error_function=own)
    assert (
        await worded.on_invoke_tool(calling(worded), "[]") == "own words: the arguments must be a JSON object, not list"
    )
    with pytest.raises(UserError, match="respond must be"):
        dataclasses.replace(tool, respond="later")  # type: ignore[arg-type]


def test_a_tool_is_not_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        function_tool(add).name = "other"  # type: ignore[misc]


async def test_called_directly_a_tool_gives_what_its_function_returned() -> None:
    class Sum(BaseModel):
        total: int

    @function_tool
    def total(context: ToolContext[Any], a: int, b: int = 1) -> Sum:
        return Sum(total=a + b)

    assert await total.on_invoke_tool(calling(total), '{"a": "5"}') == Sum(total=6)


async def test_called_directly_what_fails_is_put_into_words_or_raised() -> None:
    def boom(n: int) -> str:
        raise ValueError("no such guest")

    tool = function_tool(boom)
    told = await tool.on_invoke_tool(calling(tool), '{"n": 1}')
    assert told == "An error occurred while running the tool. Please try again. Error: no such guest"
    told = await tool.on_invoke_tool(calling(tool), "{")
    assert told.startswith("An error occurred while parsing tool arguments. Please try again with valid JSON. Error: ")
    bare = function_tool(failure_error_function=None)(boom)
    with pytest.raises(ValueError, match="no such guest"):
        await bare.on_invoke_tool(calling(bare), '{"n": 1}')
    with pytest.raises(ModelBehaviorError, match="n: Field required"):
        await bare.on_invoke_tool(calling(bare), "{}")


def test_names_and_descriptions_can_be_overridden() -> None:
    @function_tool(name_override="weather", description_override="Say the weather.", use_docstring_info=False)
    def get_weather(city: str) -> str:
        """Something else."""
        return city

    assert (get_weather.name, get_weather.description) == ("weather", "Say the weather.")


@pytest.mark.parametrize("argument", ["failure_error_function", "timeout_error_function"])
def test_a_function_that_words_errors_must_take_the_context_and_the_error(argument: str) -> None:
    words: dict[str, Any] = {argument: lambda error: "no"}
    with pytest.raises(UserError, match=rf"tool 'add': {argument} must be a function \(context, error\)"):
        function_tool(add, **words)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("defer_loading", True),
        ("custom_data_extractor", print),
        ("allowed_callers", ["direct"]),
        ("output_json_schema", {"type": "object"}),
        ("output_json_schema", {}),
    ],
)
def test_what_a_realtime_session_cannot_honour_is_refused_by_name(argument: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"tool 'add': {argument} cannot be honoured"):
        function_tool(add, **{argument: value})
    with pytest.raises(UserError, match=f"tool 'look': {argument} cannot be honoured"):
        FunctionTool("look", "Look.", SCHEMA, echo, **{argument: value})


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("name", ""), ("name", 3), ("description", None), ("params_json_schema", "{}"), ("on_invoke_tool", "echo"),
        ("is_enabled", "yes"), ("needs_approval", None), ("tool_input_guardrails", guarded),
        ("tool_input_guardrails", [guarded_too]), ("tool_output_guardrails", [guarded]),
        ("timeout_seconds", "3"), ("timeout_seconds", True), ("timeout_behavior", "explode"),
        ("timeout_error_function", "sorry"), ("failure_error_function", "sorry"), ("queue", ""), ("queue", 1),
        ("queue", "a{b}"), ("queue", "a b"), ("queue", "x" * 65),
        ("respond", "later"), ("background", 1), ("speak_progress", None), ("hold_phrase", 3),
        ("hold_phrase", ["a", 1]), ("hold_phrase", "x" * 501), ("hold_after", 0), ("hold_after", "1"),
        ("hold_every", True),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_refused_by_name(argument: str, value: Any) -> None:
    given: dict[str, Any] = {
        "name": "look", "description": "Look.", "params_json_schema": SCHEMA, "on_invoke_tool": echo, argument: value,
    }  # fmt: skip
    with pytest.raises(UserError, match=f"{argument} must be .*not "):
        FunctionTool(**given)


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf")])
def test_a_timeout_is_above_nothing(limit: float) -> None:
    with pytest.raises(ValueError, match=r"tool 'add': timeout=.* must be finite and above 0"):
        function_tool(timeout=limit)(add)


def test_a_timeout_needs_an_async_function_as_a_thread_cannot_be_stopped() -> None:
    def slow() -> str:
        return ""

    with pytest.raises(ValueError, match=r"needs an async function, or executor='process'; threads cannot be stopped"):
        function_tool(timeout=1)(slow)
    with pytest.raises(ValueError, match="needs an async function"):
        dataclasses.replace(function_tool(slow), timeout_seconds=1)


def test_an_output_type_that_cannot_be_validated_is_refused() -> None:
    class Opaque: ...

    with pytest.raises(UserError, match=r"tool 'add': output_type .* cannot be validated"):
        function_tool(output_type=Opaque)(add)


def test_a_queue_is_its_own_or_the_top_level_package_of_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    def tool() -> str:
        return ""

    assert function_tool(queue="billing")(tool).own_queue == "billing"
    script: dict[str, Any] = {"__name__": "__main__"}
    exec("def plain() -> str: return ''\nasync def by_hand(context, arguments): ...", script)
    assert function_tool(script["plain"]).own_queue == "default"
    assert FunctionTool("hand", "", {}, script["by_hand"]).own_queue == "default"
    assert FunctionTool("c", "", {}, Look()).own_queue == "default"
    # what Voicebus itself wraps is no package of the author's
    assert FunctionTool("ours", "", {}, PythonCall.bind).own_queue == "default"  # type: ignore[arg-type]
    library: dict[str, Any] = {"__name__": "hotel.tools", "__package__": "hotel"}
    exec("async def by_hand(context, arguments): ...", library)
    assert FunctionTool("hand", "", {}, library["by_hand"]).own_queue == "hotel"
    with pytest.raises(UserError, match="reserved"):
        function_tool(queue="guardrails")(tool)

    monkeypatch.syspath_prepend(str(Path(__file__).parents[3]))
    from examples.front_desk import get_weather

    assert get_weather.own_queue == "examples"


@pytest.mark.parametrize("package", ["events", "guardrails", "inbox"])
def test_a_package_named_as_no_queue_may_be_gives_the_queue_default(package: str) -> None:
    module: dict[str, Any] = {"__name__": f"{package}.tools", "__package__": package}
    exec("def call(context, arguments): ...", module)
    assert FunctionTool("hand", "", {}, module["call"]).own_queue == "default"


def test_a_tool_says_where_it_comes_from() -> None:
    assert function_tool(add).origin == f"{__name__}.add"
    assert FunctionTool("look", "", {}, Look()).origin == f"{__name__}.Look"


def test_a_schema_is_json() -> None:
    assert json.loads(json.dumps(function_tool(add).params_json_schema))["required"] == ["a", "b"]
