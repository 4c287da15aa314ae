"""Checks of JSON values that refuse in the words and codes of the protocol.

A check takes a value and its dotted path and returns the value to use, or raises `RefusedError`. Checks are built from
a few makers (`string`, `integer`, `obj`, `tagged`, …) so that a shape reads like the table it comes from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voicebus_services.model_simulator.protocol.refusal import RefusedError

Check = Callable[[Any, str], Any]

_NAMES: dict[type, str] = {
    str: "a string", bool: "a boolean", int: "an integer", float: "a decimal", list: "an array", dict: "an object",
    type(None): "null",
}  # fmt: skip
_MAX_DEPTH = 32


def wrong_type(value: object, path: str, expected: str) -> RefusedError:
    got = _NAMES.get(type(value), "something else")
    return RefusedError(
        f"Invalid type for '{path}': expected {expected}, but got {got} instead.", code="invalid_type", param=path
    )


def unknown(path: str) -> RefusedError:
    return RefusedError(f"Unknown parameter: '{path}'.", code="unknown_parameter", param=path)


def missing(path: str) -> RefusedError:
    return RefusedError(f"Missing required parameter: '{path}'.", code="missing_required_parameter", param=path)


def unsupported(value: object, path: str, allowed: Sequence[object]) -> RefusedError:
    names = [f"'{name}'" for name in allowed]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])}, and {names[-1]}"
    return RefusedError(
        f"Invalid value: '{str(value)[:200]}'. Supported values are: {listed}.", code="invalid_value", param=path
    )


def string(*, longest: int = 1_048_576, shortest: int = 0) -> Check:
    def check(value: Any, path: str) -> Any:
        if not isinstance(value, str):
            raise wrong_type(value, path, "a string")
        if len(value) > longest:
            raise RefusedError(
                f"Invalid '{path}': string too long. Expected a string with maximum length {longest}, but got a string "
                f"with length {len(value)} instead.",
                code="string_above_max_length",
                param=path,
            )
        if len(value) < shortest:
            raise RefusedError(
                f"Invalid '{path}': string too short. Expected a string with minimum length {shortest}, but got a "
                f"string with length {len(value)} instead.",
                code="string_below_min_length",
                param=path,
            )
        return value

    return check


def _bounded(value: Any, path: str, low: float | None, high: float | None, noun: str) -> Any:
    if low is not None and value < low:
        raise RefusedError(
            f"Invalid '{path}': {noun} below minimum value. Expected a value >= {low}, but got {value} instead.",
            code=f"{noun}_below_min_value",
            param=path,
        )
    if high is not None and value > high:
        raise RefusedError(
            f"Invalid '{path}': {noun} above maximum value. Expected a value <= {high}, but got {value} instead.",
            code=f"{noun}_above_max_value",
            param=path,
        )
    return value


def integer(low: int | None = None, high: int | None = None) -> Check:
    def check(value: Any, path: str) -> Any:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(value, path, "an integer")
        return _bounded(value, path, low, high, "integer")

    return check


def decimal(low: float | None = None, high: float | None = None) -> Check:
    def check(value: Any, path: str) -> Any:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong_type(value, path, "a decimal")
        return _bounded(value, path, low, high, "decimal")

    return check


def boolean(value: Any, path: str) -> Any:
    if not isinstance(value, bool):
        raise wrong_type(value, path, "a boolean")
    return value


def one_of(*allowed: str) -> Check:
    def check(value: Any, path: str) -> Any:
        if not isinstance(value, str):
            raise wrong_type(value, path, "a string")
        if value not in allowed:
            raise unsupported(value, path, allowed)
        return value

    return check


def nullable(inner: Check) -> Check:
    return lambda value, path: None if value is None else inner(value, path)


def array(inner: Check, *, most: int = 1024, least: int = 0) -> Check:
    def check(value: Any, path: str) -> Any:
        if not isinstance(value, list):
            raise wrong_type(value, path, "an array")
        if not least <= len(value) <= most:
            side, bound = ("maximum", most) if len(value) > most else ("minimum", least)
            raise RefusedError(
                f"Invalid '{path}': array too {'long' if len(value) > most else 'short'}. Expected an array with "
                f"{side} length {bound}, but got an array with length {len(value)} instead.",
                code=f"array_{'above_max' if len(value) > most else 'below_min'}_length",
                param=path,
            )
        return [inner(entry, f"{path}[{index}]") for index, entry in enumerate(value)]

    return check


@dataclass(frozen=True, slots=True)
class Required:
    """Marks a field of `obj` that must be present."""

    check: Check


def obj(fields: Mapping[str, Check | Required]) -> Check:
    """An object with these fields and no others; the result holds only what was given."""
    checks = {name: field.check if isinstance(field, Required) else field for name, field in fields.items()}
    required = [name for name, field in fields.items() if isinstance(field, Required)]

    def check(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise wrong_type(value, path, "an object")
        for name in value:
            if name not in checks:
                raise unknown(join(path, name))
        for name in required:
            if name not in value:
                raise missing(join(path, name))
        return {name: checks[name](entry, join(path, name)) for name, entry in value.items()}

    return check


def join(path: str, name: str) -> str:
    return f"{path}.{name[:200]}" if path else name[:200]


def tagged(tag: str, shapes: Mapping[str, Check]) -> Check:
    """An object whose field `tag` chooses its shape."""

    def check(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise wrong_type(value, path, "an object")
        where = join(path, tag)
        if tag not in value:
            raise missing(where)
        chosen = one_of(*shapes)(value[tag], where)
        return shapes[chosen](value, path)

    return check


def either(expected: str, **by_type: Check) -> Check:
    """Chooses by JSON type: `text=`, `number=`, `object=`, `flag=`, `array=`."""
    types = {"text": str, "number": (int, float), "object": dict, "flag": bool, "array": list}

    def check(value: Any, path: str) -> Any:
        for name, inner in by_type.items():
            if isinstance(value, types[name]) and (name == "flag" or not isinstance(value, bool)):  # type: ignore[arg-type]
                return inner(value, path)
        raise wrong_type(value, path, expected)

    return check


def anything(value: Any, path: str) -> Any:
    """Any JSON value of a sane depth, such as a tool's JSON schema."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for entry in level
            if isinstance(entry, dict | list)
            for child in (entry.values() if isinstance(entry, dict) else entry)
        ]
        if not level:
            return value
    raise RefusedError(f"Invalid '{path}': nested too deeply.", code="invalid_value", param=path)


def any_object(value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise wrong_type(value, path, "an object")
    return anything(value, path)


def metadata(value: Any, path: str) -> Any:
    """At most 16 pairs of strings; keys up to 64 characters, values up to 512."""
    if not isinstance(value, dict):
        raise wrong_type(value, path, "an object")
    if len(value) > 16:
        raise RefusedError(
            f"Invalid '{path}': too many properties. Expected an object with at most 16 properties, but got an object "
            f"with {len(value)} properties instead.",
            code="object_above_max_properties",
            param=path,
        )
    for key, entry in value.items():
        string(longest=64)(key, path)
        string(longest=512)(entry, join(path, key))
    return value
