"""What of a schema binds, and whether it is one."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from voicebus import function_tool
from voicebus.contracts.schemas import binding, is_arguments


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": sorted(properties)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (of(item={"type": "string"}), of(item={"type": "string", "description": "What is asked for."})),
        (of(item={"type": "string", "title": "Item"}), of(item={"type": "string", "title": "Thing"})),
        (
            {"$defs": {"Room": {"type": "object", "description": "A room."}}, "anyOf": [{"$ref": "#/$defs/Room"}]},
            {"$defs": {"Room": {"type": "object"}}, "anyOf": [{"$ref": "#/$defs/Room", "examples": [{}]}]},
        ),
    ],
)
def test_words_do_not_bind(one: Any, other: Any) -> None:
    assert binding(one) == binding(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (of(item={"type": "string"}), of(item={"type": "integer"})),
        (of(item={"type": "string"}), of(item={"type": "string"}, place={"type": "string"})),
        (of(title={"type": "string"}), of(description={"type": "string"})),
        ({"$defs": {"title": {"type": "string"}}}, {"$defs": {}}),
        (of(kind={"enum": [{"title": "a"}]}), of(kind={"enum": [{"title": "b"}]})),
        (of(kind={"const": {"description": 1}}), of(kind={"const": {}})),
        (of(kind={"default": {"title": 1}}), of(kind={"default": {"title": 2}})),
    ],
)
def test_everything_else_does_also_what_is_named_like_words(one: Any, other: Any) -> None:
    assert binding(one) != binding(other)


class Room(BaseModel):
    number: Annotated[int, Field(ge=1)] | None = None
    kind: Literal["single", "double"] = "single"
    beds: list["Room"] = []


def test_the_schemas_that_functions_have_are_well_formed() -> None:
    def book(room: Room, names: dict[str, str], pair: tuple[int, str], what: Any, *more: float, **others: bool) -> None:
        """Book."""

    assert is_arguments(function_tool(strict_mode=False)(book).params_json_schema)
    assert is_arguments({})
    assert is_arguments(of(item=True, title={"const": 5}, type={"type": ["string", "null"]}))
