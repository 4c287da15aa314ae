"""What the session's settings say of the audio that comes of it."""

from collections.abc import Mapping
from typing import Any

from voicebus.engine import wire


def bytes_per_ms(session: Mapping[str, Any]) -> int:
    """Of the session's output audio: 8 for G.711, else 48 (parity 121)."""
    return 8 if audio_format(session) in ("audio/pcmu", "audio/pcma") else 48


def audio_format(session: Mapping[str, Any]) -> str:
    """The type of the session's output audio, "" where it names none."""
    return wire.text(wire.mapping(wire.mapping(wire.mapping(session, "audio"), "output"), "format"), "type")
