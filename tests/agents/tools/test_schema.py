"""What a model is told of a function: its parameters' types, defaults and descriptions."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar, cast
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict

from support import deferred_tools
from voicebus import ModelBehaviorError, RunContextWrapper, ToolContext, UserError, function_tool
from voicebus.agents.tools.python_call import PythonCall
from voicebus.agents.tools.schema import strict_schema

T = TypeVar("T")


class Unit(Enum):
    CELSIUS = "celsius"
    FAHRENHEIT = "fahrenheit"


class Address(BaseModel):
    street: str
    city: str = "Paris"


class Point(TypedDict):
    x: int
    y: int


class Span(NamedTuple):
    start: int
    end: int


@dataclass
class Room:
    number: int
    beds: list[int]


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Node(BaseModel):
    left: "Node | None" = None
    right: "Node" = Field(description="The right one.")


def properties(function: Callable[..., Any], **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = function_tool(function, **options).params_json_schema["properties"]
    return found


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


def test_nested_types_of_every_kind_are_closed_too() -> None:
    @function_tool
    def move(address: Address, point: Point, room: Room) -> str:
        """Move."""
        return ""

    definitions = move.params_json_schema["$defs"]
    assert {name: entry["additionalProperties"] for name, entry in definitions.items()} == {
        "Address": False, "Point": False, "Room": False,
    }  # fmt: skip
    assert definitions["Address"]["required"] == ["street", "city"]
    assert definitions["Point"]["required"] == ["x", "y"]
    assert definitions["Room"]["required"] == ["number", "beds"]


def every_type(
    when: datetime,
    key: UUID,
    price: Decimal,
    span: Span,
    state: Literal["on", "off"],
    size: float | None = 1.5,
    unit: Unit = Unit.CELSIUS,
    names: list[str] | None = None,
    anything: Any = None,
) -> None: ...


def rules(
    size: int = Field(gt=1, le=5),
    code: str = Field(default="x", min_length=1, pattern="^x"),
    names: list[int] = Field(default_factory=list),  # noqa: B008 - how pydantic has it
) -> None: ...


@pytest.mark.parametrize("function", [every_type, rules])
def test_the_loose_schema_is_what_pydantic_makes_of_the_function(function: Callable[..., Any]) -> None:
    made = {**function_tool(strict_mode=False)(function).params_json_schema, "additionalProperties": False}
    oracle = TypeAdapter[Any](cast("Any", function)).json_schema()
    assert {key: value for key, value in made.items() if key != "title"} == oracle


def test_a_loose_schema_is_left_open_and_what_is_not_asked_for_is_dropped() -> None:
    @function_tool(strict_mode=False)
    def look_up(city: str, size: int = 1) -> str:
        return city

    assert "additionalProperties" not in look_up.params_json_schema
    assert look_up.params_json_schema["required"] == ["city"]
    assert look_up.strict_json_schema is False


@pytest.mark.parametrize(
    ("docstring", "style"),
    [
        ("Look a city up.\n\nArgs:\n    city: The name of the city.\n\nReturns:\n    Facts.", "google"),
        ("Look a city up.\nArgs:\n    city (str): The name of the city.", "google"),
        (
            "Look a city up.\n\nParameters\n----------\ncity : str\n    The name of the city.\n\nReturns\n-------\nstr",
            "numpy",
        ),
        ("Look a city up.\n\n:param city: The name of the city.\n:returns: Facts.", "sphinx"),
    ],
    ids=["google", "google without a blank line", "numpy", "sphinx"],
)
def test_docstrings_of_each_style_describe_the_tool_and_its_parameters(docstring: str, style: str) -> None:
    def look_up(city: str) -> str:
        return city

    look_up.__doc__ = docstring
    for options in ({}, {"docstring_style": style}):
        tool = function_tool(look_up, **options)  # type: ignore[call-overload]
        assert tool.description == "Look a city up."
        assert tool.params_json_schema["properties"]["city"]["description"] == "The name of the city."


def test_an_unknown_docstring_style_is_refused_by_its_name() -> None:
    with pytest.raises(UserError, match="docstring_style must be 'google' or 'numpy' or 'sphinx' or None, not 'rst'"):
        function_tool(every_type, docstring_style="rst")  # type: ignore[call-overload]


def test_a_docstring_comes_before_what_annotations_say() -> None:
    def look_up(
        city: Annotated[str, "A city."],
        size: Annotated[int, Field(ge=1, description="A size.")],
        unit: Unit = Unit.CELSIUS,
        zoom: Annotated[int, "not this"] = 1,
        *more: Annotated[int, "More of it."],
    ) -> str:
        """Look.

        Args:
            unit: In which unit.
            zoom: How near.
        """
        return city

    told = {name: entry["description"] for name, entry in properties(look_up).items()}
    assert told == {
        "city": "A city.", "size": "A size.", "unit": "In which unit.", "zoom": "How near.", "more": "More of it.",
    }  # fmt: skip
    told = {name: entry.get("description") for name, entry in properties(look_up, use_docstring_info=False).items()}
    assert told == {"city": "A city.", "size": "A size.", "unit": None, "zoom": "not this", "more": "More of it."}
    assert properties(look_up)["size"]["minimum"] == 1


def test_variadic_positional_arguments_are_a_list_and_missing_hints_are_anything() -> None:
    def collect(first, *rest: int) -> None: ...  # type: ignore[no-untyped-def]

    assert properties(collect) == {
        "first": {"title": "First"}, "rest": {"items": {"type": "integer"}, "title": "Rest", "type": "array"},
    }  # fmt: skip


def test_parameters_may_have_the_names_that_pydantic_keeps_for_itself() -> None:
    def odd(json: str, copy: bool, model_config: int, schema: int, _hidden: int = 1) -> None: ...

    assert list(properties(odd)) == ["json", "copy", "model_config", "schema", "_hidden"]


def test_a_parameter_may_be_known_to_the_model_by_another_name() -> None:
    def look_up(city: str = Field(alias="town", description="Where.")) -> None: ...

    assert properties(look_up) == {"town": {"description": "Where.", "title": "Town", "type": "string"}}


def test_a_default_may_come_from_the_annotation() -> None:
    def look_up(city: Annotated[str, Field(default="Rome", description="Where.")]) -> None: ...

    tool = function_tool(strict_mode=False)(look_up)
    assert tool.params_json_schema["properties"]["city"]["default"] == "Rome"
    assert "required" not in tool.params_json_schema


def test_a_default_that_is_no_json_is_not_told() -> None:
    def look_up(city: Any = every_type) -> None: ...

    assert properties(look_up) == {"city": {"title": "City"}}


def test_annotations_that_are_text_are_resolved_where_the_function_was_defined() -> None:
    schema = deferred_tools.book.params_json_schema
    assert list(schema["properties"]) == ["guest", "nights"]
    assert schema["$defs"]["Guest"]["required"] == ["name", "friend"]


def test_only_the_annotations_of_parameters_matter() -> None:
    def look_up(city: str) -> "OnlyForTypeCheckers":  # type: ignore[name-defined]  # noqa: F821
        return city

    assert list(properties(look_up)) == ["city"]

    def broken(city: "OnlyForTypeCheckers") -> str:  # type: ignore[name-defined]  # noqa: F821
        return ""

    with pytest.raises(UserError, match="tool 'broken': an annotation cannot be resolved"):
        function_tool(broken)


@pytest.mark.parametrize(
    "hint", [RunContextWrapper, ToolContext[Any], Annotated[ToolContext[Any], "c"], ToolContext | None]
)
def test_a_first_parameter_that_is_a_context_is_no_argument(hint: Any) -> None:
    def first(context: Any, city: str) -> str:
        return city

    first.__annotations__["context"] = hint
    assert list(properties(first)) == ["city"]

    def second(city: str, context: Any) -> str:
        return city

    second.__annotations__["context"] = hint
    with pytest.raises(UserError, match="tool 'second': the context must be the first parameter, not 'context'"):
        function_tool(second)


def test_an_open_dictionary_needs_loose_mode() -> None:
    def tag(labels: dict[str, str]) -> str:
        return ""

    def nested(labels: list[Open]) -> str:
        return ""

    for function, where in ((tag, "labels"), (nested, "Open")):
        with pytest.raises(UserError, match=f"tool '{function.__name__}': '{where}' is an open.*strict_mode=False"):
            function_tool(function)
    assert properties(tag, strict_mode=False)["labels"]["type"] == "object"


def test_variadic_named_arguments_need_loose_mode_and_come_as_one_object() -> None:
    def tag(name: str, **labels: int) -> str:
        return ""

    with pytest.raises(UserError, match=r"\*\*labels takes any name.*strict_mode=False"):
        function_tool(tag)
    assert properties(tag, strict_mode=False)["labels"] == {
        "additionalProperties": {"type": "integer"}, "title": "Labels", "type": "object",
    }  # fmt: skip


async def test_what_stands_beside_the_object_of_variadic_named_arguments_is_refused() -> None:
    @function_tool(strict_mode=False)
    def tag(name: str, **labels: int) -> str:
        return f"{name} {labels}"

    assert tag.params_json_schema["additionalProperties"] is False
    context: ToolContext[None] = ToolContext(context=None, tool_name="tag", tool_call_id="c", tool_arguments="")
    assert await tag.on_invoke_tool(context, '{"name": "a", "labels": {"size": 1}}') == "a {'size': 1}"
    assert "size" in await tag.on_invoke_tool(context, '{"name": "a", "size": 1}')


def test_a_parameter_without_a_json_schema_is_refused_by_its_name() -> None:
    class Opaque: ...

    def use(context: ToolContext[None], size: int, thing: Opaque) -> str:
        return ""

    def call(size: int, back: Callable[[], int]) -> str:
        return ""

    with pytest.raises(UserError, match="tool 'use': parameter 'thing' has no JSON schema"):
        function_tool(use)
    with pytest.raises(UserError, match="tool 'call': parameter 'back' has no JSON schema"):
        function_tool(call)


class Greeter:
    """Greet."""

    def __call__(self, name: str) -> str:
        """Called.

        Args:
            name: Whom.
        """
        return f"Hello {name}"

    def wave(self, times: int) -> str:
        return ""

    @classmethod
    def known(cls, name: str) -> str:
        return ""


class Unspoken:
    def __call__(self, name: str) -> str:
        return ""


def test_callable_instances_methods_and_wrapped_functions_are_tools() -> None:
    tool = function_tool(name_override="greet")(Greeter())
    assert (tool.name, tool.description) == ("greet", "Greet.")
    assert tool.params_json_schema["properties"]["name"]["description"] == "Whom."
    assert function_tool(Greeter()).name == "Greeter"
    assert function_tool(Unspoken()).description == "", "what Python says of every call describes no tool"
    assert list(properties(Greeter().wave)) == ["times"]
    assert list(properties(Greeter.known)) == ["name"]

    class Desk:
        @function_tool
        @staticmethod
        def ring(times: int) -> str:
            return ""

    assert list(Desk.ring.params_json_schema["properties"]) == ["times"]

    @functools.wraps(every_type)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        every_type(*args, **kwargs)

    assert list(properties(wrapper)) == list(properties(every_type))
    assert list(properties(functools.lru_cache(rules))) == ["size", "code", "names"]


class Box(Generic[T]):
    def __call__(self, thing: T) -> str:
        return ""


class Wrapping:
    def __init__(self, function: Callable[..., Any]) -> None:
        self.__wrapped__ = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)


def yielding(n: int) -> Any:
    yield n


async def yielding_later(n: int) -> Any:
    yield n


@pytest.mark.parametrize(
    "wrong",
    [
        functools.partial(rules, 1), Address, list[int], "text", Box(), Wrapping(rules), yielding, yielding_later,
    ],
    ids=lambda wrong: getattr(wrong, "__name__", type(wrong).__name__),
)  # fmt: skip
def test_what_is_no_plain_function_is_refused(wrong: Any) -> None:
    with pytest.raises(UserError, match="needs a function"):
        function_tool(wrong)


def test_a_tool_that_is_decorated_again_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"needs a function, not FunctionTool\(\.\.\.") as refused:
        function_tool(function_tool(rules))  # type: ignore[call-overload]
    assert len(str(refused.value)) < 100


def test_a_function_whose_parameters_cannot_be_read_is_refused() -> None:
    with pytest.raises(UserError, match="its parameters cannot be read"):
        function_tool(min)


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(UserError, match="name_override"):
        function_tool(lambda city: city)
    assert function_tool(lambda city: city, name_override="echo").name == "echo"


def test_what_stands_beside_a_reference_is_joined_with_what_it_names() -> None:
    def ride(address: Annotated[Address, "Where to."], tree: Node) -> None: ...

    schema = function_tool(ride).params_json_schema
    address = schema["properties"]["address"]
    assert (address["description"], address["required"]) == ("Where to.", ["street", "city"])
    # one that holds itself would have no end
    right = schema["$defs"]["Node"]["properties"]["right"]
    assert right == {"$ref": "#/$defs/Node", "description": "The right one."}
    assert strict_schema(schema, where="tool 'ride'") == schema


def test_a_schema_that_is_a_reference_is_the_object_that_it_names() -> None:
    schema = strict_schema(Node.model_json_schema(), where="tool 't'")
    assert (schema["type"], schema["required"]) == ("object", ["left", "right"])
    assert strict_schema(schema, where="tool 't'") == schema


def test_alternatives_are_written_in_the_one_way_that_strict_servers_know() -> None:
    def adopt(pet: Annotated[Cat | Dog, Field(discriminator="kind")]) -> None: ...

    pet = properties(adopt)["pet"]
    assert pet["anyOf"] == [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]
    assert "oneOf" not in pet


def test_strictness_leaves_data_alone_and_strict_schemas_as_they_are() -> None:
    schema = {
        "type": "object",
        "properties": {
            "type": {"allOf": [{"type": "object", "properties": {"a": {"const": {"type": "object"}}}}]},
            "list": {"type": "array", "items": {"type": "object"}, "default": None},
            "pair": {"prefixItems": [{"type": "object"}, True]},
            "told": {"enum": [{"type": "object"}], "default": {"type": "object"}},
        },
    }
    closed = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    strict = strict_schema(schema, where="tool 't'")
    assert strict == {
        "type": "object",
        "properties": {
            "type": {
                "type": "object", "properties": {"a": {"const": {"type": "object"}}}, "required": ["a"],
                "additionalProperties": False,
            },
            "list": {"type": "array", "items": closed},
            "pair": {"prefixItems": [closed, True]},
            "told": {"enum": [{"type": "object"}], "default": {"type": "object"}},
        },
        "required": ["type", "list", "pair", "told"],
        "additionalProperties": False,
    }  # fmt: skip
    assert strict_schema(strict, where="tool 't'") == strict


def test_a_schema_that_is_nested_without_end_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(10_000):
        deep = {"items": deep}
    with pytest.raises(UserError, match="tool 't': its schema is nested too deeply"):
        strict_schema(deep, where="tool 't'")


@pytest.mark.parametrize("clashing", ["city", "days"])
def test_a_keyword_argument_cannot_stand_for_a_parameter(clashing: str) -> None:
    def forecast(city: str, only: int, /, *, days: int, **more: str) -> None:
        """Tell."""

    def plain(city: str, *, days: int, **more: str) -> None:
        """Tell."""

    arguments = {"city": "Rome", "days": 2, "more": {clashing: "x"}}
    call = function_tool(plain, strict_mode=False).on_invoke_tool
    assert isinstance(call, PythonCall)
    for reads in (call.check, lambda text: call.bind(ToolContext(None, tool_name="plain", tool_call_id="c1"), text)):
        with pytest.raises(ModelBehaviorError, match=rf"^more\.{clashing}: "):
            reads(json.dumps(arguments))
    positional = function_tool(forecast, strict_mode=False).on_invoke_tool
    assert isinstance(positional, PythonCall)
    given = {"city": "Rome", "only": 1, "days": 2, "more": {"city": "x"}}
    context = ToolContext(None, tool_name="plain", tool_call_id="c1")
    assert positional.bind(context, json.dumps(given))[1] == {"days": 2, "city": "x"}


class _Service:
    def __init__(self) -> None:
        self.calls = 0

    async def count(self, by: int = 1) -> int:
        """Count."""
        self.calls += by
        return self.calls


def test_a_method_of_no_object_is_refused_and_one_of_an_object_is_a_tool() -> None:
    with pytest.raises(UserError, match=r"the model cannot give 'self'.*function_tool\(service.count\)"):
        function_tool(_Service.count)
    assert list(properties(_Service().count)) == ["by"]
