"""What the values of settings may be: read from text, and refused in the words of whoever sets a variable."""

import json
import math
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import NoDecode

from voicebus.adapters.redis.address import SCHEMES
from voicebus.contracts.streams import QUEUE_NAME, unreserved
from voicebus.durations import duration
from voicebus.errors import UsageError

_ALGORITHMS = frozenset({"RS256", "ES256", "EdDSA"})


def _json(value: object) -> object:
    """JSON text becomes what it says."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("JSON is allowed, and this is none") from None


def _listed(value: object) -> object:
    """`a, b` becomes both."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _matching(pattern: str, what: str) -> Any:
    def check(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f"{what} is allowed")
        return value

    return AfterValidator(check)


def _algorithms(value: object) -> object:
    value = _listed(value)
    if not value or not set(value if isinstance(value, tuple) else ()) <= _ALGORITHMS:
        raise ValueError(f"one or more of {', '.join(sorted(_ALGORITHMS))}, separated by commas, are allowed")
    return value


def _pace(value: object) -> object:
    if value == "step":
        return value
    try:
        pace = float(str(value))
    except ValueError:
        pace = math.nan
    if not 0 <= pace < math.inf:
        raise ValueError("step, or a number of at least 0, is allowed")
    return pace


def _origins(value: frozenset[str]) -> frozenset[str]:
    for origin in value:
        scheme, _, rest = origin.partition("://")
        if scheme not in ("http", "https") or not rest or set(rest) & set("/?#@ "):
            raise ValueError(
                "origins such as https://app.example or http://localhost:3000, separated by commas, are allowed"
            )
    return value


def _url(schemes: tuple[str, ...], what: str) -> Any:
    def check(value: str) -> str:
        scheme, separator, rest = value.partition("://")
        if not separator or scheme not in schemes or not rest.strip("/ "):
            allowed = ", ".join(f"{name}://…" for name in schemes)
            raise ValueError(f"{what} ({allowed}) is allowed")
        if scheme.startswith(("ws", "http")):
            try:
                usable = bool(urlsplit(value).hostname) and urlsplit(value).port != 0
            except ValueError:  # no port, or no address in brackets
                usable = False
            if not usable:
                raise ValueError(f"{what} with a host, and a port from 1 to 65535 if any, is allowed")
        return value

    return AfterValidator(check)


def _sources(value: object) -> object:
    """One a line, or a JSON list."""
    if not isinstance(value, str):
        return value
    listed = _json(value) if value.lstrip().startswith("[") else value.splitlines()
    return tuple(line.strip() for line in listed if line.strip()) if isinstance(listed, list) else listed


Duration = Annotated[timedelta, BeforeValidator(duration)]
Port = Annotated[int, Field(ge=0, le=65535)]
RedisUrl = Annotated[str, _url(SCHEMES, "a Redis address")]
ModelUrl = Annotated[str, _url(("ws", "wss"), "a WebSocket address")]
RecordingsUrl = Annotated[str, _url(("file", "s3"), "the place of recordings")]
DatabaseUrl = Annotated[str, _url(("sqlite", "postgresql", "postgres", "postgresql+psycopg"), "a database address")]
Headers = Annotated[Mapping[str, str], NoDecode, BeforeValidator(_json)]
ServerHeaders = Annotated[Mapping[str, Mapping[str, str]], NoDecode, BeforeValidator(_json)]

Origins = Annotated[frozenset[str], NoDecode, BeforeValidator(_listed), AfterValidator(_origins)]
Algorithms = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_algorithms)]
QueueName = Annotated[
    str, _matching(QUEUE_NAME, "a name of 1 to 64 letters, digits and _ . -"), AfterValidator(unreserved)
]


class Fallback(BaseModel):
    """A model beside the first one; what is absent is as there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: ModelUrl | None = None
    name: str | None = None
    api_key: SecretStr | None = None
    headers: Mapping[str, str] | None = None


Fallbacks = Annotated[tuple[Fallback, ...], NoDecode, BeforeValidator(_json)]
Sources = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_sources)]
Pace = Annotated[Literal["step"] | float, BeforeValidator(_pace)]
Quirks = Annotated[Mapping[str, Any], NoDecode, BeforeValidator(_json)]
StreamPrefix = Annotated[str, _matching(r"[A-Za-z0-9_.-]{1,32}", "a name of 1 to 32 letters, digits and _ . -")]
FunctionPlace = Annotated[str, _matching(r"[\w.]+:[\w.]+", "a function's place, module:function,")]
CollectorUrl = Annotated[str, _url(("http", "https"), "the address of a collector")]


def duration_ms(text: str, option: str) -> int:
    """What a command's `option` says, in ms; above 0.

    Raises:
        UsageError: it is no duration.
    """
    try:
        read = duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {text!r} was read, but {error}") from error
    milliseconds = round(read.total_seconds() * 1000) if isinstance(read, timedelta) else 0
    if milliseconds <= 0:
        raise UsageError(f"{option}: {text!r} was read, but a duration above 0 is allowed")
    return milliseconds
