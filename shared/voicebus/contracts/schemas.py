"""What of a JSON schema binds, and what is only said about it."""

from collections.abc import Mapping
from typing import Any, Final

# Say something to who reads the schema, and forbid no value.
_WORDS: Final = frozenset({"title", "description", "examples", "$comment"})

# Of these the keys are names that an author chose.
_NAMED: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})

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
