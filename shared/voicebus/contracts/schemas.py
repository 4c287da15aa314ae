"""What of a JSON schema binds, what is only said about it, and whether it is one at all."""

from collections.abc import Mapping
from typing import Any, Final

# Say something to who reads the schema, and forbid no value.
_WORDS: Final = frozenset({"title", "description", "examples", "$comment"})

# Of these the keys are names that an author chose.
_NAMED: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})

_TYPES: Final = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})

# Values as they are, in which nothing is a keyword.
_VALUES: Final = frozenset({"enum", "const", "default"})


def binding(schema: Any) -> Any:
    """`schema` without its words: two that differ in those alone ask for the same arguments."""
    if isinstance(schema, list):
        return [binding(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {key: _of(key, value) for key, value in schema.items() if key not in _WORDS}


def _of(key: str, value: Any) -> Any:
    if key in _VALUES:
        return value
    if key in _NAMED and isinstance(value, Mapping):
        return {name: binding(one) for name, one in value.items()}
    return binding(value)


def is_arguments(schema: Mapping[str, Any]) -> bool:
    """Whether `schema` is one of an object, as far as its form tells: models refuse all tools for one that is none."""
    try:
        return schema.get("type", "object") == "object" and _is_schema(schema)
    except RecursionError:
        return False


def _is_schema(schema: Any) -> bool:
    if isinstance(schema, bool):
        return True
    return isinstance(schema, Mapping) and all(_is_formed(key, value) for key, value in schema.items())


def _is_formed(key: str, value: Any) -> bool:
    if key in _NAMED:
        return isinstance(value, Mapping) and all(map(_is_schema, value.values()))
    if key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        return isinstance(value, list) and bool(value) and all(map(_is_schema, value))
    if key in ("items", "additionalProperties", "not"):
        return _is_schema(value)
    if key == "type":
        kinds = value if isinstance(value, list) else [value]
        return bool(kinds) and all(isinstance(kind, str) and kind in _TYPES for kind in kinds)
    if key == "required":
        return isinstance(value, list) and all(isinstance(name, str) for name in value)
    return isinstance(value, list) if key == "enum" else True
