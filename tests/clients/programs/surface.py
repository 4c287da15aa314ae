"""What a package gives programs to import: `surface.py MODULE…` prints, by name, how it is made and called.

Classes with their bases, fields, keys and public methods; functions with their parameters; constants as they are.
"""

import dataclasses
import importlib
import inspect
import json
import sys
from typing import Any

from typing_extensions import is_typeddict

METHODS = ("__aenter__", "__aexit__", "__aiter__", "__call__")


def default(value: Any) -> str | None:
    """None for a parameter that has to be given; what is made anew each time is told by what it makes."""
    if value is inspect.Parameter.empty or value is dataclasses.MISSING:
        return None
    plain = value is None or isinstance(value, str | int | float | list | tuple | dict)
    return repr(value) if plain else "an object"


def parameters(function: Any) -> list[tuple[str, str, str | None]]:
    taken = inspect.signature(function).parameters.values()
    return [(one.name, one.kind.name, default(one.default)) for one in taken if one.name not in ("self", "cls")]


def fields(cls: Any) -> list[tuple[str, bool, str | None]]:
    """Name, whether by keyword only, default."""
    found = []
    for field in dataclasses.fields(cls):
        made = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if field.init and not field.name.startswith("_"):
            found.append((field.name, field.kw_only, default(made)))
    return found


def methods(cls: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in dir(cls):
        member = inspect.getattr_static(cls, name, None)
        function = getattr(member, "__func__", member)
        if name.startswith("_") and name not in METHODS:
            continue
        if isinstance(member, property):
            found[name] = "property"
        elif inspect.isfunction(function):
            kind = "async" if inspect.iscoroutinefunction(function) else "plain"
            abstract = bool(getattr(function, "__isabstractmethod__", False))
            found[name] = [kind, abstract, type(member).__name__, parameters(function)]
    return found


def told(value: Any) -> dict[str, Any]:
    if is_typeddict(value):
        return {"keys": sorted(value.__annotations__)}
    if inspect.isfunction(value):
        return {"parameters": parameters(value), "async": inspect.iscoroutinefunction(value)}
    if not inspect.isclass(value):
        return {"value": repr(value)} if isinstance(value, str | int | dict) else {}
    shown: dict[str, Any] = {"bases": [base.__name__ for base in value.__mro__]}
    if hasattr(value, "model_fields"):
        made = {name: (field.is_required(), repr(field.default)) for name, field in value.model_fields.items()}
        return {**shown, "model": made, "extra": value.model_config.get("extra")}
    if dataclasses.is_dataclass(value):
        shown["fields"] = fields(value)
    else:
        shown["parameters"] = parameters(value.__init__)
    return {**shown, "methods": methods(value)}


surface: dict[str, Any] = {}
for module in map(importlib.import_module, sys.argv[1:]):
    surface.update({name: told(getattr(module, name)) for name in module.__all__ if hasattr(module, name)})
print(json.dumps(surface))
