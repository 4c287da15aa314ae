"""Frozen dataclasses that are made as quickly as others, for events of which there are dozens a second."""

from dataclasses import dataclass, fields
from typing import Any, TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True)
def quickly_frozen(cls: type[_T]) -> type[_T]:
    """`dataclass(frozen=True)`, but instances fill themselves past the frozen assignment, which is three times as slow.

    For fields without factories, of which none is keyword-only, and classes without slots and `__post_init__`.
    """
    made = dataclass(frozen=True)(cls)
    names = [entry.name for entry in fields(made)]  # type: ignore[arg-type]
    lines = [
        f"def __init__(self, {', '.join(names)}):",
        " made = self.__dict__",
        *(f" made[{n!r}] = {n}" for n in names),
    ]
    namespace: dict[str, Any] = {}
    exec("\n".join(lines), {}, namespace)  # noqa: S102 - as the standard library makes it, of the same names
    slow, quick = made.__init__, namespace["__init__"]
    for name in ("__defaults__", "__annotations__", "__qualname__", "__module__"):
        setattr(quick, name, getattr(slow, name))
    setattr(made, "__init__", quick)  # noqa: B010 - type checkers keep the fields' own
    return made
