"""What the query of an upgrade to `/v1/sessions/connect` asks for, and why one cannot be understood."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast, get_args

from voicebus.engine.retelling import Said
from voicebus.errors import UsageError
from voicebus_services.gateway.faces.native_connection import AudioForm

MAX_SEQ: Final = 2**53
_MAX_TURNS: Final = 32

_FLAGS: Final = {"0": False, "false": False, "1": True, "true": True}


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a client wants its connection: see `docs/native-face.md`. `audio` is None where it does not say. `turns` are
    those that it could say again, and, without a name, what it has said since.
    """

    after_seq: int
    audio: AudioForm | None
    raw: bool
    observes: bool
    consent: bool | None
    turns: tuple[Said, ...]


def wishes(query: Mapping[str, str]) -> Wishes:
    """What `query` asks for.

    Raises:
        UsageError: a value that is none of those allowed; the text names it and them.
    """
    audio = query.get("audio") or None
    if audio is not None and audio not in get_args(AudioForm):
        raise _not_allowed("audio", audio, "binary, json or none")
    return Wishes(
        after_seq=seq_of("seq", query.get("seq") or "0"),
        audio=cast("AudioForm | None", audio),
        raw=_flag(query, "raw"),
        observes=_flag(query, "observe"),
        consent=consent(query),
        turns=_turns(query),
    )


def consent(query: Mapping[str, str]) -> bool | None:
    """Whether the client agrees to be recorded (`record`), None where it does not say. Raises `UsageError`."""
    return _flag(query, "record") if query.get("record") else None


def seq_of(name: str, value: str) -> int:
    """The seq of a recorded event, `MAX_SEQ` for all above it. Raises `UsageError`, naming `name`, where it is none."""
    if not (value.isascii() and value.isdigit()):
        raise _not_allowed(name, value, "the seq of a recorded event, a whole number from 0 on,")
    digits = value.lstrip("0") or "0"
    return MAX_SEQ if len(digits) > len(str(MAX_SEQ)) else min(int(digits), MAX_SEQ)


def _turns(query: Mapping[str, str]) -> tuple[Said, ...]:
    text = query.get("turns") or "[]"
    try:
        turns = tuple((item_id, ms) for item_id, ms in json.loads(text))
        if len(turns) <= _MAX_TURNS and all(isinstance(one, str) and type(ms) is int for one, ms in turns):
            return turns
    except (ValueError, TypeError, RecursionError):
        pass
    raise _not_allowed("turns", text, f"a JSON list of at most {_MAX_TURNS} pairs of an item and its ms")


def _flag(query: Mapping[str, str], name: str) -> bool:
    value = query.get(name) or "0"
    if value not in _FLAGS:
        raise _not_allowed(name, value, "1 or 0")
    return _FLAGS[value]


def _not_allowed(name: str, value: str, allowed: str) -> UsageError:
    return UsageError(f"{name} is {value[:64]!r}, but {allowed} is allowed")
