"""Author's settings as the wire's session object (protocol section 4): the single home of that translation.

Every value is checked here, before anything is dialled, so that a wrong one is a sentence with its name and not a
session that the server refuses.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from voicebus.agents.checking import is_number
from voicebus.agents.handoffs import as_handoffs
from voicebus.agents.model_settings import DEFAULT_MODEL_SETTINGS, RealtimeSessionModelSettings
from voicebus.agents.naming import unknown_keys
from voicebus.agents.tools.kinds import as_tools
from voicebus.errors import UserError, WrongValueError
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

_PCM: Final = "audio/pcm"
_FORMATS: Final[Mapping[str, str]] = {
    "pcm16": _PCM,
    "pcm": _PCM,
    _PCM: _PCM,
    "g711_ulaw": "audio/pcmu",
    "pcmu": "audio/pcmu",
    "audio/pcmu": "audio/pcmu",
    "g711_alaw": "audio/pcma",
    "pcma": "audio/pcma",
    "audio/pcma": "audio/pcma",
}

# flat name -> (direction, nested name)
_FLAT: Final[Mapping[str, tuple[str, str]]] = {
    "input_audio_format": ("input", "format"),
    "input_audio_noise_reduction": ("input", "noise_reduction"),
    "input_audio_transcription": ("input", "transcription"),
    "turn_detection": ("input", "turn_detection"),
    "output_audio_format": ("output", "format"),
    "voice": ("output", "voice"),
    "speed": ("output", "speed"),
}

# What None means for these is "off", and is said to the server; elsewhere it is as good as absent.
_NULLABLE: Final = frozenset({"noise_reduction", "transcription", "turn_detection"})

_CAMEL: Final[Mapping[str, str]] = {
    "createResponse": "create_response",
    "interruptResponse": "interrupt_response",
    "prefixPaddingMs": "prefix_padding_ms",
    "silenceDurationMs": "silence_duration_ms",
    "idleTimeoutMs": "idle_timeout_ms",
    "modelVersion": "model_version",
}

_DEFAULTS: Final[Mapping[str, Any]] = {**DEFAULT_MODEL_SETTINGS, "tracing": "auto"}

_UNSUPPORTED_CHOICE: Final = "programmatic_tool_calling"

Check = Callable[[Any, str], Any]


def wire_session(
    settings: Mapping[str, Any], *, call_id: bool = False, defaults: Mapping[str, Any] = _DEFAULTS
) -> dict[str, Any]:
    """Author's settings over `defaults`, as part of the wire's session object; without defaults, what is given only.

    `type`, `model`, `instructions` and `tools` are left to whoever sends it. `tracing` is there unless it is off; it
    belongs into an update of its own (parity 130). With `call_id`, for a session that joins an existing call, audio
    formats are left out unless they are given, as the call has them already.

    Raises:
        UserError: a key that does not exist, or a value that its key cannot have.
    """
    if unknown := unknown_keys(settings, RealtimeSessionModelSettings.__annotations__):
        raise UserError(f"model_settings has unknown keys: {unknown}")
    _check_own(settings)
    wire: dict[str, Any] = {}
    modalities = _modalities(settings) or _modalities(defaults)
    if modalities is not None:
        wire["output_modalities"] = modalities
    audio = _audio(settings, defaults, call_id=call_id)
    if audio:
        wire["audio"] = audio
    for key, check in _PLAIN.items():
        if settings.get(key) is not None:
            wire[key] = check(settings[key], key)
    tracing = settings.get("tracing", defaults.get("tracing"))
    if tracing is not None:
        wire["tracing"] = _tracing(tracing, "tracing")
    return wire


def wire_audio_format(value: Any, key: str = "format") -> dict[str, Any] | None:
    """An audio format, by any of its names, as a mapping or as an object, as the wire has it; None for an unknown one.

    PCM is always at 24 kHz.

    Raises:
        UserError: it is none of these at all.
    """
    kind: Any = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", value)
    if not isinstance(kind, str):
        raise _wrong(key, value, f"must be one of {', '.join(sorted(_FORMATS))}, or an object with such a type")
    known = _FORMATS.get(kind)
    if known is None:
        log.warning("an audio format is unknown and left to the server", key=key, format=kind)
        return None
    return {"type": known, "rate": 24000} if known == _PCM else {"type": known}


def prompt_object(value: Any, key: str = "prompt") -> dict[str, Any]:
    """A hosted prompt as the wire has it.

    Raises:
        UserError: it is no mapping with an `id`, or has fields that no prompt has.
    """
    prompt = _mapping(value, key, allowed=("id", "version", "variables"))
    _name(prompt.get("id"), f"{key}.id")
    if prompt.get("version") is not None:
        _name(prompt["version"], f"{key}.version")
    if prompt.get("variables") is not None:
        _mapping(prompt["variables"], f"{key}.variables")
    return {name: given for name, given in prompt.items() if given is not None}


def check_voice(value: Any, key: str = "voice") -> Any:
    """A voice's name, or `{"id": ...}` for one of one's own, as the wire has it.

    Raises:
        UserError: it is neither.
    """
    if isinstance(value, Mapping):
        voice = _mapping(value, key, allowed=("id",))
        _name(voice.get("id"), f"{key}.id")
        return voice
    return _name(value, key)


# --- the parts ------------------------------------------------------------------------------------


def _check_own(settings: Mapping[str, Any]) -> None:
    """Check what is not put on the wire here."""
    if settings.get("model_name") is not None:
        _name(settings["model_name"], "model_name")
    instructions = settings.get("instructions")
    if instructions is not None and not isinstance(instructions, str):
        raise _wrong("instructions", instructions, "must be text")
    readers: tuple[tuple[str, Callable[[Any], Any]], ...] = (("tools", as_tools), ("handoffs", as_handoffs))
    for key, read in readers:
        if settings.get(key) is None:
            continue
        if not isinstance(settings[key], list | tuple):
            raise _wrong(key, settings[key], "must be a list")
        try:
            read(settings[key])
        except UserError as error:
            raise type(error)(f"model_settings {key}: {error}") from None


def _modalities(settings: Mapping[str, Any]) -> list[str] | None:
    for key in ("output_modalities", "modalities"):
        value = settings.get(key)
        if value is not None:
            if not isinstance(value, list | tuple) or list(value) not in (["text"], ["audio"]):
                raise _wrong(key, value, "must be ['audio'] or ['text']")
            return list(value)
    return None


def _audio(settings: Mapping[str, Any], defaults: Mapping[str, Any], *, call_id: bool) -> dict[str, dict[str, Any]]:
    audio: dict[str, dict[str, Any]] = {"input": {}, "output": {}}
    names: dict[tuple[str, str], str] = {}
    for source in (defaults, settings):
        for flat, (direction, nested) in _FLAT.items():
            if call_id and source is defaults and nested == "format":
                continue
            if flat in source and (source[flat] is not None or nested in _NULLABLE):
                audio[direction][nested] = source[flat]
                names[direction, nested] = flat
    given = settings.get("audio")
    for direction, values in _mapping({} if given is None else given, "audio", allowed=("input", "output")).items():
        if values is None:
            continue
        allowed = [nested for own, nested in _FLAT.values() if own == direction]
        for nested, value in _mapping(values, f"audio.{direction}", allowed=allowed).items():
            if value is not None or nested in _NULLABLE:
                audio[direction][nested] = value
                names[direction, nested] = f"audio.{direction}.{nested}"
    return {
        direction: {
            nested: checked
            for nested, value in values.items()
            if (checked := _AUDIO[nested](value, names[direction, nested])) is not None or nested in _NULLABLE
        }
        for direction, values in audio.items()
        if values
    }


def _noise_reduction(value: Any, key: str) -> Any:
    if value is None:
        return None
    wanted = _mapping(value, key)
    _one_of(wanted.get("type", "near_field"), f"{key}.type", ("near_field", "far_field"))
    return wanted


def _transcription(value: Any, key: str) -> Any:
    if value is None:
        return None
    wanted = _mapping(value, key)
    for name in ("model", "language", "prompt"):
        if wanted.get(name) is not None and not isinstance(wanted[name], str):
            raise _wrong(f"{key}.{name}", wanted[name], "must be text")
    for name in ("keywords", "languages"):
        if wanted.get(name) is not None:
            wanted[name] = _texts(wanted[name], f"{key}.{name}")
    if wanted.get("delay") is not None:
        _one_of(wanted["delay"], f"{key}.delay", ("minimal", "low", "medium", "high", "xhigh"))
    return wanted


def _turn_detection(value: Any, key: str) -> Any:
    if value is None:
        return None
    given = _mapping(value, key)
    # The wire's own names win where both are given.
    wanted = {_CAMEL.get(name, name): given[name] for name in sorted(given, key=lambda name: name not in _CAMEL)}
    # Of no type it would be refused by the server, and with it the whole session.
    _name(wanted.get("type"), f"{key}.type")
    for name, check in _TURN_DETECTION.items():
        if wanted.get(name) is not None:
            check(wanted[name], f"{key}.{name}")
    return wanted


def _tool_choice(value: Any, key: str) -> Any:
    kind = value.get("type") if isinstance(value, Mapping) else value
    if kind == _UNSUPPORTED_CHOICE:
        raise UserError(f"model_settings {key} {_UNSUPPORTED_CHOICE!r} is not supported in realtime sessions")
    if isinstance(value, str):
        _name(value, key)
        return value if value in ("auto", "none", "required") else {"type": "function", "name": value}
    if isinstance(value, Mapping):
        return dict(value)
    label = getattr(value, "server_label", None)
    if isinstance(label, str):  # a tool of a hosted MCP server, as an object
        name = getattr(value, "name", None)
        return {"type": "mcp", "server_label": label, **({"name": name} if name is not None else {})}
    raise _wrong(key, value, "must be 'auto', 'none', 'required', a tool's name or an object")


def _tracing(value: Any, key: str) -> Any:
    if value == "auto":
        return value
    labels = _mapping(value, key, allowed=("workflow_name", "group_id", "metadata"))
    for name in ("workflow_name", "group_id"):
        if labels.get(name) is not None and not isinstance(labels[name], str):
            raise _wrong(f"{key}.{name}", labels[name], "must be text")
    if labels.get("metadata") is not None:
        _mapping(labels["metadata"], f"{key}.metadata")
    return labels


def _reasoning(value: Any, key: str) -> Any:
    wanted = _mapping(value, key)
    if wanted.get("effort") is not None:
        _name(wanted["effort"], f"{key}.effort")
    return wanted


def _truncation(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        wanted = _mapping(value, key)
        if wanted.get("type") == "retention_ratio" and wanted.get("retention_ratio") is not None:
            _between(wanted["retention_ratio"], f"{key}.retention_ratio", 0, 1)
        return wanted
    return _one_of(value, key, ("auto", "disabled"))


def _max_output_tokens(value: Any, key: str) -> Any:
    if value == "inf" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 4096):
        return value
    raise _wrong(key, value, "must be a whole number from 1 to 4096, or 'inf'")


# --- single values --------------------------------------------------------------------------------


def _wrong(key: str, value: Any, rule: str) -> WrongValueError:
    return WrongValueError(f"model_settings {key} {rule}, not {value!r}")


def _mapping(value: Any, key: str, *, allowed: Any = None) -> dict[str, Any]:
    dump = getattr(value, "model_dump", None)
    if dump is not None and not isinstance(value, Mapping):
        value = dump(exclude_none=True)  # an object of another package
    if not isinstance(value, Mapping):
        raise _wrong(key, value, "must be an object")
    unknown = sorted(str(name) for name in value if allowed is not None and name not in allowed)
    if unknown:
        raise UserError(f"model_settings {key} has unknown keys: {', '.join(unknown)}; {', '.join(allowed)} exist")
    return dict(value)


def _name(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(key, value, "must be a non-empty string")
    return value


def _texts(value: Any, key: str) -> list[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(entry, str) for entry in value):
        raise _wrong(key, value, "must be a list of strings")
    return list(value)


def _one_of(value: Any, key: str, allowed: tuple[str, ...]) -> Any:
    if value not in allowed:
        raise _wrong(key, value, f"must be one of {', '.join(allowed)}")
    return value


def _bool(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(key, value, "must be True or False")
    return value


def _milliseconds(value: Any, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _wrong(key, value, "must be a whole number of milliseconds")
    return value


def _between(value: Any, key: str, low: float, high: float) -> Any:
    if not is_number(value) or not low <= value <= high:
        raise _wrong(key, value, f"must be a number from {low:g} to {high:g}")
    return value


_AUDIO: Final[Mapping[str, Check]] = {
    "format": wire_audio_format,
    "noise_reduction": _noise_reduction,
    "transcription": _transcription,
    "turn_detection": _turn_detection,
    "voice": check_voice,
    "speed": lambda value, key: _between(value, key, 0.25, 1.5),
}

_TURN_DETECTION: Final[Mapping[str, Check]] = {
    "create_response": _bool,
    "interrupt_response": _bool,
    "eagerness": lambda value, key: _one_of(value, key, ("auto", "low", "medium", "high")),
    "prefix_padding_ms": _milliseconds,
    "silence_duration_ms": _milliseconds,
    "idle_timeout_ms": _milliseconds,
    "threshold": lambda value, key: _between(value, key, 0, 1),
    "model_version": _name,
}

_PLAIN: Final[Mapping[str, Check]] = {
    "prompt": prompt_object,
    "tool_choice": _tool_choice,
    "parallel_tool_calls": _bool,
    "reasoning": _reasoning,
    "max_output_tokens": _max_output_tokens,
    "truncation": _truncation,
    "include": _texts,
}
