"""The one sentence that stops a service whose setting is wrong: the variable, what was read, and what is allowed.

The single home of how pydantic's reports are told: in words of whoever sets a variable, not of pydantic.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Final

from pydantic import BaseModel

MAY_HOLD_SECRETS: Final = frozenset({"model_headers", "model_fallbacks", "mcp_headers", "otlp_headers"})
"""Headers are where some providers want their key, and a fallback has one of its own."""

_BOUNDS: Final = (("ge", "of at least"), ("gt", "above"), ("le", "of at most"), ("lt", "below"))
_LONGEST: Final = 200


def sentence(settings: type[BaseModel], report: Any, given: Mapping[str, Any], prefix: str) -> str:
    """`report` is the first of pydantic's, `given` what the command line gave; a secret is never told."""
    name = str(report["loc"][0]) if report["loc"] else "settings"
    field = settings.model_fields.get(name)
    read = _read(name, report, given, f"{prefix}{name.upper()}")
    # An address with credentials has an @, also where something else is wrong with it.
    secret = name in MAY_HOLD_SECRETS or (field is not None and "SecretStr" in str(field.annotation)) or "@" in read
    what = allowed(report, field.metadata if field is not None else ())
    where = _where(report["loc"][1:])
    shown = "a secret" if secret else read if len(read) <= _LONGEST else f"{read[:_LONGEST]}…"
    return f"{prefix}{name.upper()}: {shown} was read, but {where}{what}"


def _read(name: str, report: Any, given: Mapping[str, Any], variable: str) -> str:
    """What was really read, before anything was made of it."""
    value = given.get(name, os.environ.get(variable) or report["input"])
    return f"{value.total_seconds():g}s" if isinstance(value, timedelta) else repr(value)


def _where(loc: Sequence[str | int]) -> str:
    """The place within a value that has parts: `for [0].url `."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    return f"for {path} " if path else ""


def allowed(report: Any, metadata: Sequence[Any] = ()) -> str:
    """What may stand in place of what `report`, one of pydantic's, is about; `metadata` are the field's bounds."""
    kind, context = str(report["type"]), report.get("ctx") or {}
    if kind == "value_error":
        return str(context["error"])
    for starts, what in _KINDS.items():
        if kind.startswith(starts):
            return f"{what}{_bounds(metadata)} is allowed"
    if kind in _BOUND_KINDS:
        is_duration = any(isinstance(_limit(metadata, short), timedelta) for short, _ in _BOUNDS)
        what = "a duration" if is_duration else "a number"
        bounds = _bounds(metadata) or _bounds([SimpleNamespace(**context)])
        return f"{what}{bounds} is allowed"
    special = _SPECIAL.get(kind)
    return special(context) if special is not None else f"this is not allowed: {report['msg']}"


def _bounds(metadata: Sequence[Any]) -> str:
    told = [f"{words} {_number(limit)}" for short, words in _BOUNDS if (limit := _limit(metadata, short)) is not None]
    return " " + " and ".join(told) if told else ""


def _limit(metadata: Sequence[Any], short: str) -> Any:
    return next((limit for entry in metadata if (limit := getattr(entry, short, None)) is not None), None)


def _number(limit: Any) -> str:
    if isinstance(limit, timedelta):
        return f"{limit.total_seconds():g}s"
    return str(int(limit)) if isinstance(limit, float) and limit.is_integer() else str(limit)


_BOUND_KINDS: Final = frozenset({"greater_than", "greater_than_equal", "less_than", "less_than_equal"})
_KINDS: Final[Mapping[str, str]] = {
    "int_": "a whole number",
    "float_": "a number",
    "finite_number": "a number",
    "bool_": "true or false",
    "tuple_": "a JSON list",
    "list_": "a JSON list",
    "dict_": "a JSON object",
    "mapping_": "a JSON object",
    "model_": "a JSON object",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "time_delta_": "a duration such as 30, 30s, 500ms, 2m, 1h or 30d",
    "path_type": "a path",
}
_SPECIAL: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "literal_error": lambda context: f"{context['expected']} is allowed",
    "extra_forbidden": lambda _: "nothing is allowed: there is no such field",
    "missing": lambda _: "a value is needed",
}
