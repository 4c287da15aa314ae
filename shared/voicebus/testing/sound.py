"""Sound for scenarios: WAV files as samples, and the silence behind them."""

import wave
from pathlib import Path
from typing import Final

from voicebus.errors import ScenarioError

RATE: Final = 24_000
_LONGEST_S: Final = 600

SILENCE: Final = bytes(RATE * 2)
"""A second of it, PCM16."""


def read_wav(path: Path) -> bytes:
    """The samples of a WAV file: PCM 16 bit, mono, 24 kHz.

    Raises:
        ScenarioError: it cannot be read, or has another format.
    """
    try:
        with wave.open(str(path), "rb") as file:
            bits, channels, rate = file.getsampwidth() * 8, file.getnchannels(), file.getframerate()
            if (bits, channels, rate) != (16, 1, RATE):
                raise ScenarioError(
                    f"{path} has {bits} bit, {channels} channel(s), {rate} Hz; 16 bit mono at {RATE} Hz is needed"
                )
            if file.getnframes() > _LONGEST_S * RATE:
                raise ScenarioError(f"{path} is longer than {_LONGEST_S} s")
            return file.readframes(file.getnframes())
    except OSError as error:
        raise ScenarioError(f"{path} cannot be read ({error.strerror})") from error
    except (wave.Error, EOFError) as error:
        raise ScenarioError(f"{path} is no WAV file ({str(error) or 'it ends too early'})") from error
