"""A function's signature and docstring as the JSON schema of its arguments.

pydantic does the types and griffe the docstrings; this module only joins them and makes the schema strict (every
object closed, every property required), which is what models follow best.
"""

import inspect
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import griffe
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from voicebus.agents.context import RunContextWrapper
from voicebus.errors import UserError

DocstringStyle = Literal["google", "numpy", "sphinx"]

_SECTION = re.compile(r"^\s*(Args|Arguments|Params|Parameters|Returns|Raises)\s*:\s*$", re.MULTILINE)


@dataclass(frozen=True)
class FunctionSchema:
    """How to describe a function to a model, and how to call it with what the model sends."""

    name: str
    description: str
    arguments: type[BaseModel]
    json_schema: dict[str, Any]
    signature: inspect.Signature
    takes_context: bool

    def bind(self, arguments: BaseModel) -> tuple[list[Any], dict[str, Any]]:
        """Validated arguments as positional and keyword arguments, without the context."""
        positional: list[Any] = []
        named: dict[str, Any] = {}
        parameters = list(self.signature.parameters.values())[1 if self.takes_context else 0 :]
        for parameter in parameters:
            value = getattr(arguments, _field_name(parameter.name))
            if parameter.kind is parameter.VAR_POSITIONAL:
                positional.extend(value)
            elif parameter.kind is parameter.VAR_KEYWORD:
                named.update(value)
            elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD) and not named:
                positional.append(value)
            else:
                named[parameter.name] = value
        return positional, named


def function_schema(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    description: str | None = None,
    docstring_style: DocstringStyle | None = None,
    use_docstring_info: bool = True,
    strict: bool = True,
) -> FunctionSchema:
    """Describe `function`.

    Raises:
        UserError: the context is not the first parameter, or a parameter's type has no JSON schema.
    """
    own_name = name or str(getattr(function, "__name__", type(function).__name__))
    called = function if inspect.isroutine(function) else function.__call__  # type: ignore[operator]
    signature = inspect.signature(called)
    try:
        hints = get_type_hints(called, include_extras=True)
    except NameError as error:
        raise UserError(f"tool {own_name!r}: annotation cannot be resolved: {error}") from error
    text, documented = _docstring(inspect.getdoc(function) or "", docstring_style) if use_docstring_info else ("", {})

    fields: dict[str, Any] = {}
    takes_context = False
    for position, parameter in enumerate(signature.parameters.values()):
        hint = hints.get(parameter.name, Any)
        if _is_context(hint):
            if position:
                raise UserError(f"tool {own_name!r}: the context must be the first parameter, not {parameter.name!r}")
            takes_context = True
            continue
        fields[_field_name(parameter.name)] = _field(parameter, hint, documented.get(parameter.name.lstrip("*")))
    try:
        arguments = create_model(f"{own_name}_args", __config__=ConfigDict(extra="forbid"), **fields)
        schema = arguments.model_json_schema(by_alias=True)
    except Exception as error:  # pydantic has a dozen ways to say that a type has no schema
        raise UserError(f"tool {own_name!r}: its parameters have no JSON schema: {error}") from error
    return FunctionSchema(
        name=own_name,
        description=description if description is not None else text,
        arguments=arguments,
        json_schema=strict_schema(schema, tool=own_name) if strict else schema,
        signature=signature,
        takes_context=takes_context,
    )


def strict_schema(schema: Mapping[str, Any], *, tool: str) -> dict[str, Any]:
    """Close every object and require every property; a default of None goes, as the type allows null already.

    Raises:
        UserError: an object is open by design (`dict[str, T]`, `**kwargs`), which strict mode cannot express.
    """

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(entry) for entry in node]
        if not isinstance(node, Mapping):
            return node
        closed = {key: walk(value) for key, value in node.items() if not (key == "default" and value is None)}
        if node.get("type") == "object":
            if node.get("additionalProperties") not in (None, False):
                raise UserError(
                    f"tool {tool!r}: a parameter is an open dictionary, which strict mode cannot describe; "
                    "name its fields with a model, or use strict_mode=False"
                )
            properties = closed.setdefault("properties", {})
            closed["additionalProperties"] = False
            closed["required"] = list(properties)
        return closed

    strict: dict[str, Any] = walk(schema)
    return strict


def _field_name(parameter: str) -> str:
    # pydantic keeps leading underscores for private attributes
    return parameter.lstrip("_") or parameter


def _is_context(hint: Any) -> bool:
    origin = get_origin(hint) or hint
    return inspect.isclass(origin) and issubclass(origin, RunContextWrapper)


def _field(parameter: inspect.Parameter, hint: Any, documented: str | None) -> tuple[Any, Any]:
    if parameter.kind is parameter.VAR_POSITIONAL:
        return list[hint], Field(default_factory=list, description=documented)
    if parameter.kind is parameter.VAR_KEYWORD:
        return dict[str, hint], Field(default_factory=dict, description=documented)
    described = documented
    if described is None and get_origin(hint) is Annotated:
        described = next((extra for extra in get_args(hint)[1:] if isinstance(extra, str)), None)
    given = parameter.default
    if isinstance(given, FieldInfo):
        if described is not None and given.description is None:
            given.description = described
        return hint, given
    default = PydanticUndefined if given is parameter.empty else given
    if described is None:
        return hint, Field(default)
    return hint, Field(default, description=described)


def _docstring(text: str, style: DocstringStyle | None) -> tuple[str, dict[str, str]]:
    """The description and the parameters' descriptions of a docstring."""
    if not text:
        return "", {}
    if style is None:
        if re.search(r"^\s*:param\b", text, re.MULTILINE):
            style = "sphinx"
        elif re.search(r"^\s*Parameters\s*\n\s*-{3,}", text, re.MULTILINE):
            style = "numpy"
        else:
            style = "google"
    if style == "google":
        # the parser wants a blank line before a section
        text = _SECTION.sub(lambda match: f"\n{match[0].strip()}", text)
    noise = logging.getLogger("griffe")
    level = noise.level
    noise.setLevel(logging.CRITICAL)  # it reports every parameter without a type
    try:
        sections = griffe.Docstring(text).parse(style)
    finally:
        noise.setLevel(level)
    description = "\n\n".join(
        str(section.value).strip() for section in sections if section.kind is griffe.DocstringSectionKind.text
    )
    parameters = {
        entry.name.lstrip("*"): entry.description
        for section in sections
        if section.kind is griffe.DocstringSectionKind.parameters
        for entry in section.value
    }
    return description.strip(), parameters
