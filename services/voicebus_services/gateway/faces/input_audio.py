"""Samples from a client: what format they have, and whether they may be passed on."""

from collections.abc import Mapping
from typing import Any, Final

from voicebus.telemetry import metrics
from voicebus_services.bucket import Bucket

AUDIO_BURST_S: Final = 30.0
"""Seconds of audio that may come at once, as fast as they can."""

PAID_S: Final = 1.0
"""So much audio is paid for at a time, where it may come: a frame of it is to cost next to nothing."""

MAX_APPEND_AUDIO: Final = 15 * 1024 * 1024
"""Bytes of samples in one append, as the model allows (protocol 1.7)."""


class AudioError(ValueError):
    """Samples from a client that cannot be passed on. `code` is the protocol's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class InputAudio:
    """The format of a session's input; 16 bit PCM at 24 kHz until it is known.

    Audio may come `speed` times faster than it is spoken, and `AUDIO_BURST_S` of it at once.
    """

    def __init__(self, speed: float) -> None:
        self._sample_bytes = 2
        self._speed = speed
        self._allowance = Bucket(speed, AUDIO_BURST_S)
        self._paid = 0  # bytes

    @property
    def byte_rate(self) -> int:
        """Bytes in a second of the client's audio."""
        return 48_000 if self._sample_bytes == 2 else 8_000

    def learn(self, audio: Mapping[str, Any]) -> None:
        """Learn the session's input format from `{"input": FORMAT, …}`."""
        given = audio.get("input")
        kind = given.get("type") if isinstance(given, Mapping) else None
        sample_bytes = 1 if kind in ("audio/pcmu", "audio/pcma") else 2
        if sample_bytes != self._sample_bytes:
            self._sample_bytes, self._paid = sample_bytes, 0

    def check_samples(self, size: int | None) -> None:
        """Raises `AudioError` where so many bytes cannot be samples of one append, or come too fast; None is for text
        that is no base64.
        """
        if size is None:
            raise AudioError("invalid_value", "Invalid audio: it is not base64.")
        if size <= self._paid and not size % self._sample_bytes:  # as nearly always
            self._paid -= size
            return
        if size % self._sample_bytes:
            raise AudioError("invalid_value", f"Invalid audio: {size} bytes are not whole 16 bit samples.")
        if size > MAX_APPEND_AUDIO:
            raise AudioError(
                "string_above_max_length", f"Invalid audio: {size} bytes in one append, at most {MAX_APPEND_AUDIO}."
            )
        spoken_s = size / self.byte_rate
        if self._allowance.spend(spoken_s + PAID_S):
            self._paid += round(PAID_S * self.byte_rate)
            return
        # A longer append than a burst is allowed when nothing came lately, and then nothing until it is worked off.
        if not self._allowance.spend(spoken_s):
            metrics.LIMITS_REACHED.labels(limit="audio_speed").inc()
            raise AudioError(
                "audio_too_fast",
                f"Audio comes faster than {self._speed:g} times real time; this append was dropped. Send it as it is"
                " spoken.",
            )
