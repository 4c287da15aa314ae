"""`model_fallbacks` and `model_token` of a run config: what a conversation may go on with, and what gives the key."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NotRequired, TypeAlias, TypedDict

from voicebus.adapters.model_address import model_at, with_model
from voicebus.agents.functions import takes
from voicebus.agents.models.options import check_url
from voicebus.agents.naming import unknown_keys
from voicebus.errors import UserError

MAX_FALLBACKS: Final = 8
"""More than a caller would wait for."""

ModelToken: TypeAlias = Callable[[], str | Awaitable[str]]
"""Gives a model's key at each dialling, such as a token that expires. Sync (in a thread) or async, within 10 s."""


class RealtimeModelFallback(TypedDict):
    """A model to go on with where those before it refuse or cannot be reached.

    `name` is the model's, `url` the whole address, `api_key` a key or a function that gives one. `headers` stand beside
    the key, and in place of it where they carry a credential. What is absent is as for the first model; with a key of
    its own, a fallback gets no credential from the first one's headers.
    """

    name: NotRequired[str]
    url: NotRequired[str]
    api_key: NotRequired[str | ModelToken]
    headers: NotRequired[Mapping[str, str]]


def fallback_url(fallback: RealtimeModelFallback, first: str) -> str:
    """Where a fallback of the model at `first` is: where that one is, but for what it names of its own."""
    if "url" in fallback:
        return fallback["url"]
    return with_model(first, fallback["name"]) if "name" in fallback else first


def models_at(url: str, wanted: str, fallbacks: Sequence[RealtimeModelFallback]) -> tuple[str, ...]:
    """The models of a conversation with the one at `url` and its fallbacks, in order; the first is to be `wanted`.

    What an address names comes before what a setting does: no open session may change its model, and a server that is
    told another refuses the whole update with it, instructions and all.
    """
    first = model_at(url, wanted)
    others = (model_at(fallback_url(fallback, url), fallback.get("name") or first) for fallback in fallbacks)
    return (first, *others)


def check_fallbacks(given: Any) -> None:
    """Refuse what is no list of fallbacks.

    Raises:
        UserError: which argument, and what it needs. Values that may be secrets are not told.
    """
    if given is None:
        return
    if not isinstance(given, list | tuple) or len(given) > MAX_FALLBACKS:
        what = f"one of {len(given)}" if isinstance(given, list | tuple) else repr(given)
        raise UserError(f"run config model_fallbacks must be a list of {MAX_FALLBACKS} models at most, not {what}")
    for number, one in enumerate(given):
        _check(one, f"run config model_fallbacks[{number}]")


def _check(one: Any, where: str) -> None:
    if not isinstance(one, Mapping) or not one:
        raise UserError(f"{where} must be a dict with a name, url, api_key or headers, not {type(one).__name__}")
    if unknown := unknown_keys(one, RealtimeModelFallback.__annotations__):
        raise UserError(f"{where} has unknown keys: {unknown}")
    if "name" in one and not (isinstance(one["name"], str) and one["name"]):
        raise UserError(f"{where}.name must be a model's name, not {one['name']!r}")
    if "url" in one:
        check_url(one["url"], "url", where)
    if "api_key" in one and not ((isinstance(one["api_key"], str) and one["api_key"]) or callable(one["api_key"])):
        kind = type(one["api_key"]).__name__
        raise UserError(f"{where}.api_key must be a key or a function that returns one, not {kind}")
    headers = one.get("headers", {})
    if not isinstance(headers, Mapping) or not all(isinstance(text, str) for pair in headers.items() for text in pair):
        raise UserError(f"{where}.headers must map names to values, both of them strings")


def check_token(given: Any) -> None:
    """Refuse what is no function.

    Raises:
        UserError: what was given.
    """
    if given is not None and not (callable(given) and takes(given, 0)):
        raise UserError(f"run config model_token must be a function () that gives the key, not {type(given).__name__}")
