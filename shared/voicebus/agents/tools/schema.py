"""A function's signature and docstring as the JSON schema of its arguments, and back: what a model sends as arguments.

pydantic does the types, `docstrings` the descriptions; this module joins them and makes schemas strict (every object
closed, every property required), which is what models follow best.
"""

import functools
import inspect
import reprlib
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.json_schema import PydanticJsonSchemaWarning

from voicebus.agents.context import RunContextWrapper
from voicebus.agents.tools.docstrings import DocstringStyle, parse_docstring
from voicebus.errors import ModelBehaviorError, UserError

LOOSE: Final = ", or use strict_mode=False (strict_json_schema=False of a FunctionTool)"
"""What a tool can do with a schema that strict mode cannot describe."""


@dataclass(frozen=True)
class FunctionSchema:
    """How to describe a function to a model, and how to call it with what the model sends.

    `context_type` is what its annotation says of the session's context (`ToolContext[Guest]`), None where it says
    nothing.
    """

    name: str
    description: str
    arguments: type[BaseModel]
    json_schema: dict[str, Any]
    signature: inspect.Signature
    takes_context: bool
    context_type: Any = None

    def bind(self, arguments: BaseModel, context: Any) -> tuple[list[Any], dict[str, Any]]:
        """Validated arguments as positional and keyword arguments, the context in its place.

        Raises:
            ModelBehaviorError: one of the `**kwargs` has the name of a parameter, whose value it would be instead.
        """
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for name, kind, field in self._places:
            value = context if field is None else getattr(arguments, field)
            if kind is inspect.Parameter.VAR_POSITIONAL:
                positional.extend(value)
            elif kind is inspect.Parameter.VAR_KEYWORD:
                self._refuse_second(name, value)
                named.update(value)
            elif kind is inspect.Parameter.KEYWORD_ONLY:
                named[name] = value
            else:
                positional.append(value)
        return positional, named

    @functools.cached_property
    def _places(self) -> Sequence[tuple[str, Any, str | None]]:
        """The parameters by name and kind, each with the field that has its value; None for the context."""
        return [
            (parameter.name, parameter.kind, None if self.takes_context and not position else _field_name(position))
            for position, parameter in enumerate(self.signature.parameters.values())
        ]

    def _refuse_second(self, kwargs: str, given: Mapping[str, Any]) -> None:
        for name in given:
            parameter = self.signature.parameters.get(name)
            if parameter is not None and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise ModelBehaviorError(f"{kwargs}.{name}: the function has a parameter of this name; give that alone")


def function_schema(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    description: str | None = None,
    docstring_style: DocstringStyle | None = None,
    use_docstring_info: bool = True,
    strict: bool = True,
) -> FunctionSchema:
    """Describe `function`. Arguments that it does not have are dropped, whatever the schema says of them.

    `**kwargs` are one object of the arguments. A function that has them refuses arguments beside that object, as it
    could take them and would go without.

    Raises:
        UserError: what it is has no signature to go by or is a method of no object, the context is not the first
            parameter, a parameter's type has no JSON schema, or one that strict mode cannot express.
    """
    called = callable_of(function)
    own_name = name or str(getattr(function, "__name__", type(function).__name__))
    if own_name == "<lambda>":
        raise UserError("a lambda has no name that a model could call it by: give name_override, or define a function")
    signature, hints = _signature(called, own_name)
    text, documented = _documented(function, called, docstring_style) if use_docstring_info else ("", {})

    fields: dict[str, Any] = {}
    descriptions: dict[str, str | None] = {}
    takes_context, context_type, closed = False, None, False
    for position, parameter in enumerate(signature.parameters.values()):
        hint = hints.get(parameter.name, Any)
        if not position and _is_unbound(called, parameter):
            raise UserError(
                f"tool {own_name!r}: the model cannot give {parameter.name!r}; make a tool of an object's method, "
                f"function_tool(service.{called.__name__})"
            )
        if _is_context(hint):
            if position:
                raise UserError(f"tool {own_name!r}: the context must be the first parameter, not {parameter.name!r}")
            takes_context, context_type = True, _context_type(hint)
            continue
        if parameter.kind is parameter.VAR_KEYWORD and strict:
            raise UserError(
                f"tool {own_name!r}: **{parameter.name} takes any name, which strict mode cannot describe; "
                "name the parameters, or use strict_mode=False"
            )
        if not hasattr(hint, "__module__"):  # which typing asks of what it annotates
            raise UserError(f"tool {own_name!r}: parameter {parameter.name!r} has no JSON schema: {hint!r} is no type")
        closed = closed or parameter.kind is parameter.VAR_KEYWORD
        fields[_field_name(position)] = _field(parameter, hint)
        descriptions[_field_name(position)] = documented.get(parameter.name) or _annotated_text(hint)
    config = ConfigDict(extra="forbid" if closed else "ignore")
    try:
        arguments = create_model(f"{own_name}_args", __config__=config, **fields)
        with warnings.catch_warnings():
            # A default that is no JSON is one that the model need not know.
            warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
            schema = arguments.model_json_schema()
    except Exception as error:  # pydantic has a dozen ways to say that a type has no schema
        why = str(error).partition(". ")[0].partition("\n")[0]  # what follows is advice to users of pydantic
        named = zip(list(signature.parameters)[takes_context:], fields.values(), strict=True)
        wrong = next((f"parameter {name!r} has" for name, field in named if not _has_schema(field)), "they have")
        raise UserError(f"tool {own_name!r}: {wrong} no JSON schema: {why}") from error
    for field, described in descriptions.items():
        known_as = arguments.model_fields[field].validation_alias
        if described and isinstance(known_as, str):
            schema["properties"][known_as]["description"] = described
    return FunctionSchema(
        name=own_name,
        description=description if description is not None else text,
        arguments=arguments,
        json_schema=strict_schema(schema, where=f"tool {own_name!r}", otherwise=LOOSE) if strict else schema,
        signature=signature,
        takes_context=takes_context,
        context_type=context_type,
    )


def callable_of(function: Any) -> Callable[..., Any]:
    """What carries the signature of a tool's function: itself, or the `__call__` of an object.

    Raises:
        UserError: it is nothing whose parameters can be read off.
    """
    if isinstance(function, functools.partial):
        raise UserError(f"function_tool needs a function, not {function!r}: write one that calls the partial")
    if inspect.isclass(function) or get_origin(function) is not None or not callable(function):
        raise UserError(f"function_tool needs a function, not {reprlib.repr(function)}")
    called: Callable[..., Any] = function
    if not inspect.isroutine(function):
        if getattr(type(function), "__parameters__", ()):
            raise UserError(
                f"function_tool needs a function, not {function!r}: its class is generic, so that its parameters have "
                "no definite types; write a function that calls it"
            )
        if hasattr(function, "__wrapped__"):
            raise UserError(
                f"function_tool needs a function, not {function!r}: it wraps another and may call it otherwise; write "
                "a function that calls it"
            )
        called = function.__call__
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise UserError(f"function_tool needs a function that returns its result, and {function!r} yields: return it")
    return called


def strict_schema(schema: Mapping[str, Any], *, where: str, otherwise: str = "") -> dict[str, Any]:
    """Close every object and require every property; a default of None goes, as the type allows null already.

    What stands beside a `$ref` is joined with what it names, `oneOf` becomes `anyOf` and an `allOf` of one is that
    one, as servers that check schemas in strict mode know no more. Strict schemas pass unchanged. `where` begins what
    is said of one that cannot be, `otherwise` ends it with what else may be done.

    Raises:
        UserError: an object is open by design (`dict[str, T]`, `extra="allow"`), which strict mode cannot express.
    """
    definitions: Mapping[str, Any] = schema.get("$defs", {})

    def walk(node: Any, *, endless: AbstractSet[str], path: str = "") -> Any:
        if not isinstance(node, Mapping):
            return node
        node = {key: value for key, value in node.items() if not (key == "default" and value is None)}
        named = _named(node.get("$ref"))
        if named in definitions and named not in endless and len(node) > 1:
            del node["$ref"]
            return walk({**definitions[named], **node}, endless=endless, path=path)
        if "oneOf" in node:
            node["anyOf"] = [*node.get("anyOf", ()), *node.pop("oneOf")]
        if len(node.get("allOf", ())) == 1:
            (only,) = node.pop("allOf")
            return walk({**only, **node}, endless=endless, path=path)
        for key in ("properties", "$defs", "definitions"):
            if isinstance(node.get(key), Mapping):
                node[key] = {
                    name: walk(entry, endless=endless, path=f"{path}.{name}" if path else name)
                    for name, entry in node[key].items()
                }
        for key in ("anyOf", "allOf", "prefixItems"):
            if isinstance(node.get(key), list):
                node[key] = [walk(entry, endless=endless, path=path) for entry in node[key]]
        if "items" in node:
            node["items"] = walk(node["items"], endless=endless, path=path)
        if node.get("type") == "object" or "properties" in node:
            if node.get("additionalProperties") not in (None, False):
                open_one = repr(path) if path else "its schema"
                raise UserError(
                    f"{where}: {open_one} is an open dictionary, which strict mode cannot describe; name its fields "
                    f"with a model{otherwise}"
                )
            node["additionalProperties"] = False
            node["required"] = list(node.setdefault("properties", {}))
        return node

    try:
        if _named(schema.get("$ref")) in definitions:
            # The arguments themselves are an object, never a reference to one.
            schema = {**definitions[_named(schema["$ref"])], "$defs": definitions}
        strict: dict[str, Any] = walk(schema, endless=_endless(definitions))
    except RecursionError:
        raise UserError(f"{where}: its schema is nested too deeply") from None
    return strict


def _named(reference: Any) -> str:
    """The name of the definition that a `$ref` names."""
    return reference.removeprefix("#/$defs/") if isinstance(reference, str) else ""


def _endless(definitions: Mapping[str, Any]) -> AbstractSet[str]:
    """The definitions that hold themselves, at whatever depth: they can only be referred to."""

    def names(node: Any) -> Iterator[str]:
        if isinstance(node, Mapping):
            yield _named(node.get("$ref"))
        for entry in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
            yield from names(entry)

    held = {name: set(names(entry)) for name, entry in definitions.items()}
    for _ in held:
        for inner in held.values():
            inner.update(*(held[name] for name in inner if name in held))
    return {name for name, inner in held.items() if name in inner}


def _signature(called: Callable[..., Any], tool: str) -> tuple[inspect.Signature, dict[str, Any]]:
    try:
        signature = inspect.signature(called)
    except (ValueError, TypeError) as error:
        raise UserError(f"tool {tool!r}: its parameters cannot be read: {error}") from error
    written = getattr(called, "__annotations__", {})
    # Without the result's: the model is not told it, and it may name what is imported for type checkers only.
    parameters = types.SimpleNamespace(
        __annotations__={name: hint for name, hint in written.items() if name in signature.parameters}
    )
    scope = getattr(inspect.unwrap(called), "__globals__", {})
    try:
        return signature, get_type_hints(parameters, globalns=scope, include_extras=True)
    except Exception as error:  # an annotation is any expression, and may raise anything
        raise UserError(f"tool {tool!r}: an annotation cannot be resolved: {error}") from error


def _documented(function: Any, called: Callable[..., Any], style: DocstringStyle | None) -> tuple[str, dict[str, str]]:
    text, parameters = parse_docstring(_docstring(called), style)
    if called is function or inspect.isroutine(function):
        return text, parameters
    # An object's class says what it does; its `__call__` may describe the parameters.
    own, more = parse_docstring(inspect.getdoc(type(function)) or "", style)
    return own or text, {**more, **parameters}


def _docstring(called: Callable[..., Any]) -> str:
    """Also one that a method has from the class that it overrides it of; but `object` describes no tool."""
    text = inspect.getdoc(called) or ""
    return "" if text == inspect.getdoc(object.__call__) else text


def _field_name(position: int) -> str:
    # Not the parameter's name: pydantic keeps some for itself (`json`, `copy`, `model_...`, `_leading`).
    return f"argument_{position}"


def _context_type(hint: Any) -> Any:
    """What the type of a context parameter says that the session's context is, None where it does not."""
    if inspect.isclass(get_origin(hint)) and issubclass(get_origin(hint), RunContextWrapper):
        return get_args(hint)[0]
    return next((found for part in get_args(hint) if (found := _context_type(part)) is not None), None)


def _is_unbound(function: Callable[..., Any], first: inspect.Parameter) -> bool:
    """Whether `function` stands in a class and `first` is the object, or the class, that it lacks."""
    place = getattr(function, "__qualname__", "").rpartition(".")[0]
    in_class = bool(place) and not place.endswith("<locals>") and not inspect.ismethod(function)
    return in_class and first.name in ("self", "cls") and first.annotation is first.empty


def _is_context(hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Annotated:
        return _is_context(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return any(_is_context(member) for member in get_args(hint))
    plain = origin or hint
    return inspect.isclass(plain) and issubclass(plain, RunContextWrapper)


def _field(parameter: inspect.Parameter, hint: Any) -> Any:
    """The parameter as a field of the model that `create_model` makes."""
    name = Field(alias=parameter.name)
    if parameter.kind is parameter.VAR_POSITIONAL:
        return Annotated[list[hint], name], Field(default_factory=list)
    if parameter.kind is parameter.VAR_KEYWORD:
        return Annotated[dict[str, hint], name], Field(default_factory=dict)
    known = Annotated[hint, name]
    # Without a default of the signature the annotation may bring one: `Annotated[int, Field(default=4)]`.
    return known if parameter.default is parameter.empty else (known, parameter.default)


def _has_schema(field: Any) -> bool:
    try:
        return bool(create_model("one", argument=field).model_json_schema())
    except Exception:  # noqa: BLE001 - pydantic has a dozen ways to say that a type has no schema
        return False


def _annotated_text(hint: Any) -> str | None:
    if get_origin(hint) is not Annotated:
        return None
    return next((extra for extra in get_args(hint)[1:] if isinstance(extra, str)), None)
