"""The checks on a `RealtimeModelConfig`: what cannot be is refused by the name of its key, before any dialling."""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from voicebus.agents.functions import takes
from voicebus.agents.model_settings import RealtimeSessionModelSettings
from voicebus.agents.models.model import RealtimeModelConfig
from voicebus.agents.models.playback import RealtimePlaybackTracker
from voicebus.agents.naming import unknown_keys
from voicebus.agents.wire_settings import wire_session
from voicebus.errors import UserError, WrongTypeError, WrongValueError

# What HTTP allows: a token, and text without line breaks (what stands behind one would be a header of its own).
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_KEYS: Final = frozenset(RealtimeModelConfig.__annotations__)


def check_options(options: RealtimeModelConfig) -> None:
    """Refuse keys that do not exist and values that their key cannot have; None stands for a key left out.

    Raises:
        UserError: which key, and what it needs. Values of secrets are not told.
    """
    inner = RealtimeSessionModelSettings.__annotations__
    if unknown := unknown_keys(options, _KEYS, within="initial_model_settings", inner=inner):
        raise UserError(f"model config has unknown keys: {unknown}")
    given: Mapping[str, Any] = {name: value for name, value in options.items() if value is not None}
    key = given.get("api_key")
    if key is not None and not (isinstance(key, str) or (callable(key) and takes(key, 0))):
        raise _wrong("api_key", f"must be a string or a function () that returns one, not {type(key).__name__}")
    if "url" in given:
        check_url(given["url"], "url")
    headers = given.get("headers")
    if headers is not None and not (
        isinstance(headers, Mapping)
        and all(isinstance(name, str) and isinstance(value, str) for name, value in headers.items())
    ):
        raise _wrong("headers", "must map names to values, both of them strings")
    for name, value in (headers or {}).items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            why = f"holds {name!r}, which has a name or a value that no header can have"
            raise _wrong("headers", why, kind=WrongValueError)
    if not isinstance(given.get("call_id", "-"), str) or given.get("call_id") == "":
        kind = WrongValueError if given["call_id"] == "" else WrongTypeError
        raise _wrong("call_id", f"must be a non-empty string, not {given['call_id']!r}", kind=kind)
    settings = given.get("initial_model_settings", {})
    if not isinstance(settings, Mapping):
        raise _wrong("initial_model_settings", f"must be a dict of settings, not {settings!r}")
    try:
        wire_session(settings, defaults={})
    except UserError as error:
        raise type(error)(f"model config: 'initial_model_settings': {error}") from None
    tracker = given.get("playback_tracker")
    if tracker is not None and not isinstance(tracker, RealtimePlaybackTracker):
        raise _wrong("playback_tracker", f"must be a RealtimePlaybackTracker, not {tracker!r}")


def check_url(url: object, name: str, where: str = "model config") -> None:
    """Refuse what is no address of a WebSocket; `name` is the key that it was given for.

    Raises:
        UserError: what the address lacks.
    """
    if not isinstance(url, str):
        raise _wrong(name, f"must be a string, not {url!r}", where)
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname)
    except ValueError as error:
        raise _wrong(name, f"is no address: {error}", where, kind=WrongValueError) from error
    if parts.scheme not in ("ws", "wss") or not named:
        why = f"one of {parts.scheme!r}" if named else "one without a host"
        sentence = f"must be the address of a WebSocket, as wss://host/path, not {why}"
        raise _wrong(name, sentence, where, kind=WrongValueError)


def _wrong(
    key: str, sentence: str, where: str = "model config", *, kind: type[UserError] = WrongTypeError
) -> UserError:
    return kind(f"{where}: {key!r} {sentence}")
