"""What a tool returned, as the text that the model reads."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel


@dataclass(frozen=True)
class BackgroundResult:
    """A tool's return value that the model reads without answering to it. Made by `background_result`."""

    content: Any


def background_result(content: Any) -> BackgroundResult:
    """Return this from a tool to tell the model `content` without having it speak: it will when it next has reason."""
    return BackgroundResult(content)


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
