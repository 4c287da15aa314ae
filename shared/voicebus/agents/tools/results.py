"""What a tool returned, as the text that the model reads."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python


@dataclass(frozen=True)
class BackgroundResult:
    """A tool's return value that the model reads without answering to it. Made by `background_result`."""

    content: Any


def background_result(content: Any) -> BackgroundResult:
    """Return this from a tool to tell the model `content` without having it speak: it will when it next has reason."""
    return BackgroundResult(content)


def by_types(value: Any) -> Any:
    """A value as JSON values, by the types that it is made of: models in lists, dates, decimals, sets, enums; itself
    where a part of it is of a type that says nothing of that.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    try:
        return to_jsonable_python(value, by_alias=False)
    except (ValueError, RecursionError):
        return value


def serialise(value: Any) -> str:
    """A tool's return value as text: as it is, else as JSON, else in its own words."""
    if isinstance(value, str):
        return value
    plain = value
    try:
        if isinstance(value, BaseModel):
            plain = value.model_dump(mode="json")
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            plain = dataclasses.asdict(value)
        return json.dumps(plain, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return str(plain)
