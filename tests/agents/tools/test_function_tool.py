"""Functions become tools: their schema, their defaults, and what is refused."""

import functools
from enum import Enum
from typing import Annotated, Any, Literal, cast

import pytest
from pydantic import BaseModel, Field, TypeAdapter
from typing_extensions import TypedDict

from voicebus import RunContextWrapper, ToolContext, UserError, function_tool


class Unit(Enum):
    CELSIUS = "celsius"
    FAHRENHEIT = "fahrenheit"


class Address(BaseModel):
    street: str
    city: str = "Paris"


class Point(TypedDict):
    x: int
    y: int


def test_the_signature_is_the_schema_and_every_property_is_required() -> None:
    @function_tool
    def plan(city: str, days: int = 3, unit: Unit = Unit.CELSIUS, note: str | None = None) -> str:
        """Plan a trip."""
        return ""

    schema = plan.params_json_schema
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["city", "days", "unit", "note"]
    assert schema["properties"]["days"]["default"] == 3
    assert schema["properties"]["note"]["anyOf"] == [{"type": "string"}, {"type": "null"}]
    assert "default" not in schema["properties"]["note"]


def test_nested_models_are_closed_too() -> None:
    @function_tool
    def move(address: Address, point: Point) -> str:
        """Move."""
        return ""

    definitions = move.params_json_schema["$defs"]
    assert definitions["Address"]["additionalProperties"] is False
    assert definitions["Address"]["required"] == ["street", "city"]
    assert definitions["Point"]["required"] == ["x", "y"]


def test_without_a_context_the_loose_schema_is_what_pydantic_makes_of_the_function() -> None:
    def plain(city: str, days: int = 3) -> str:
        return ""

    tool = function_tool(strict_mode=False)(plain)
    oracle = TypeAdapter[Any](cast("Any", plain)).json_schema()
    made = {key: value for key, value in tool.params_json_schema.items() if key != "title"}
    assert {**made, "additionalProperties": False} == oracle


@pytest.mark.parametrize(
    "docstring",
    [
        "Look a city up.\n\nArgs:\n    city: The name of the city.\n\nReturns:\n    Facts.",
        "Look a city up.\nArgs:\n    city: The name of the city.",
        "Look a city up.\n\nParameters\n----------\ncity : str\n    The name of the city.",
        "Look a city up.\n\n:param city: The name of the city.\n:returns: Facts.",
    ],
    ids=["google", "google without a blank line", "numpy", "sphinx"],
)
def test_docstrings_of_each_style_describe_the_tool_and_its_parameters(docstring: str) -> None:
    def look_up(city: str) -> str:
        return city

    look_up.__doc__ = docstring
    tool = function_tool(look_up)
    assert tool.description.splitlines()[0] == "Look a city up."
    assert tool.params_json_schema["properties"]["city"]["description"] == "The name of the city."


def test_annotated_text_describes_a_parameter_where_the_docstring_does_not() -> None:
    @function_tool
    def look_up(city: Annotated[str, "A city."], size: Annotated[int, Field(ge=1, description="A size.")]) -> str:
        return city

    properties = look_up.params_json_schema["properties"]
    assert properties["city"]["description"] == "A city."
    assert properties["size"] == {"description": "A size.", "minimum": 1, "title": "Size", "type": "integer"}


def test_names_and_descriptions_can_be_overridden() -> None:
    @function_tool(name_override="weather", description_override="Say the weather.", use_docstring_info=False)
    def get_weather(city: str) -> str:
        """Something else."""
        return city

    assert (get_weather.name, get_weather.description) == ("weather", "Say the weather.")


def test_a_first_parameter_that_is_a_context_is_no_argument() -> None:
    @function_tool
    def first(context: ToolContext[Any], city: str) -> str:
        return city

    assert list(first.params_json_schema["properties"]) == ["city"]
    with pytest.raises(UserError, match="must be the first parameter"):

        @function_tool
        def second(city: str, context: RunContextWrapper[Any]) -> str:
            return city


def test_what_is_no_plain_function_is_refused() -> None:
    def base(a: int) -> int:
        return a

    for wrong in (functools.partial(base, 1), Address, "text"):
        with pytest.raises(UserError, match="needs a function"):
            function_tool(wrong)  # type: ignore[arg-type]


def test_callable_instances_are_tools() -> None:
    class Greeter:
        """Greet."""

        def __call__(self, name: str) -> str:
            return f"Hello {name}"

    tool = function_tool(name_override="greet")(Greeter())
    assert (tool.name, tool.description) == ("greet", "Greet.")
    assert list(tool.params_json_schema["properties"]) == ["name"]


def test_a_timeout_needs_an_async_function_as_a_thread_cannot_be_stopped() -> None:
    with pytest.raises(ValueError, match="needs an async function"):

        @function_tool(timeout=1)
        def slow() -> str:
            return ""


def test_an_open_dictionary_needs_loose_mode() -> None:
    def tag(labels: dict[str, str]) -> str:
        return ""

    with pytest.raises(UserError, match="strict_mode=False"):
        function_tool(tag)
    assert function_tool(strict_mode=False)(tag).params_json_schema["properties"]["labels"]["type"] == "object"


def test_a_parameter_without_a_json_schema_is_refused_by_name_of_the_tool() -> None:
    class Opaque: ...

    def use(thing: Opaque) -> str:
        return ""

    with pytest.raises(UserError, match="'use'"):
        function_tool(use)


def test_a_queue_is_its_own_or_the_top_level_package_of_its_module() -> None:
    def tool() -> str:
        return ""

    assert function_tool(queue="billing")(tool).own_queue == "billing"
    script: dict[str, Any] = {"__name__": "__main__"}
    exec("def plain() -> str: return ''", script)
    assert function_tool(script["plain"]).own_queue == "default"
    with pytest.raises(UserError, match="reserved"):
        function_tool(queue="guardrails")(tool)

    from examples.front_desk import get_weather

    assert get_weather.own_queue == "examples"


def test_literals_are_enumerations() -> None:
    @function_tool
    def switch(state: Literal["on", "off"]) -> str:
        return state

    assert switch.params_json_schema["properties"]["state"]["enum"] == ["on", "off"]
