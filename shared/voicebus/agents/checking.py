"""The checks on what programs hand to public types and methods: a wrong argument is one sentence with its name.

Every function takes `where` (what was made or called), `argument` (its name there) and the value, and raises
`WrongTypeError` or `WrongValueError`, both of them a `UserError`, for a value that cannot be.
"""

import inspect
import math
import reprlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NoReturn, TypeGuard

from voicebus.errors import UserError, WrongTypeError, WrongValueError

LONGEST_S: Final = 365 * 24 * 3600.0
"""What is to happen after more than a year is not meant to happen."""


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether `value` is a finite number: no bool, and no whole number that is too large to reckon with."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def refuse(where: str, argument: str, rule: str, value: object, *, kind: type[UserError] = WrongTypeError) -> NoReturn:
    """Raise what the others raise: `argument` must be `rule`, and was `value`, told in short."""
    raise kind(f"{where}: {argument} must be {rule}, not {reprlib.repr(value)}")


def flag(where: str, argument: str, value: object, *, optional: bool = False) -> None:
    """A bool; no stand-in, as the text "false" is true."""
    if not isinstance(value, bool) and not (optional and value is None):
        refuse(where, argument, "True or False" + _or_none(optional), value)


def text(where: str, argument: str, value: object, *, optional: bool = False, empty: bool = True) -> None:
    """A string; with `empty=False` one that says something."""
    if value is None and optional:
        return
    if not isinstance(value, str) or not (empty or value):
        kind = WrongValueError if value == "" else WrongTypeError
        refuse(where, argument, ("text" if empty else "a non-empty string") + _or_none(optional), value, kind=kind)


def whole(where: str, argument: str, value: object, *, optional: bool = False, least: int = 0) -> None:
    """A whole number from `least`."""
    if value is None and optional:
        return
    rule = f"a whole number from {least}" + _or_none(optional)
    if isinstance(value, bool) or not isinstance(value, int):
        refuse(where, argument, rule, value)
    if value < least:
        refuse(where, argument, rule, value, kind=WrongValueError)


def number(
    where: str,
    argument: str,
    value: object,
    *,
    optional: bool = False,
    least: float = 0.0,
    most: float = math.inf,
) -> None:
    """A finite number from `least` to `most`."""
    if value is None and optional:
        return
    if not is_number(value) or not least <= value <= most:
        span = f"from {least:g}" + (f" to {most:g}" if math.isfinite(most) else "")
        of_type = isinstance(value, int | float) and not isinstance(value, bool)
        kind = WrongValueError if of_type else WrongTypeError
        refuse(where, argument, f"a number {span}" + _or_none(optional), value, kind=kind)


def function(where: str, argument: str, value: object, *, optional: bool = False) -> None:
    """Something that can be called."""
    if not callable(value) and not (optional and value is None):
        refuse(where, argument, "a function" + _or_none(optional), value)


def instance(where: str, argument: str, value: object, kind: type, *, optional: bool = False) -> None:
    """An object of `kind`."""
    if not isinstance(value, kind) and not (optional and value is None):
        refuse(where, argument, f"{_article(kind)} {kind.__name__}" + _or_none(optional), value)


def listed(where: str, argument: str, value: object, kind: type, *, optional: bool = False) -> None:
    """A list (or tuple) of objects of `kind`."""
    if value is None and optional:
        return
    if not isinstance(value, list | tuple) or not all(isinstance(entry, kind) for entry in value):
        refuse(where, argument, f"a list of {kind.__name__} objects" + _or_none(optional), value)


def iterable(where: str, argument: str, value: object, of: str) -> None:
    """Several things, of which `of` says what they are; no text and no mapping, which are iterable by accident."""
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping) or inspect.isclass(value):
        refuse(where, argument, of, value)


def texts(where: str, argument: str, value: object, *, optional: bool = False) -> None:
    """Several strings, in a list, a tuple or a set."""
    if value is None and optional:
        return
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(entry, str) for entry in value):
        refuse(where, argument, "a list of strings" + _or_none(optional), value)


def mapping(where: str, argument: str, value: object, *, optional: bool = False) -> None:
    """A dictionary, or what is used as one."""
    if not isinstance(value, Mapping) and not (optional and value is None):
        refuse(where, argument, "a dictionary" + _or_none(optional), value)


def one_of(where: str, argument: str, value: object, allowed: Collection[Any]) -> None:
    """One of a few values."""
    if not any(value is known or (type(value) is type(known) and value == known) for known in allowed):
        refuse(where, argument, " or ".join(repr(known) for known in allowed), value, kind=WrongValueError)


def hears(where: str, argument: str, value: object, method: str) -> None:
    """An object with a method that is called with events; a class is none."""
    if inspect.isclass(value) or not callable(getattr(value, method, None)):
        refuse(where, argument, f"an object with {method}(event)", value)


def _or_none(optional: bool) -> str:
    return " or None" if optional else ""


def _article(kind: type) -> str:
    return "an" if kind.__name__[0] in "AEIOU" else "a"
