"""WAV files in and out, as PCM16 mono 24 kHz."""

import os
import wave
from pathlib import Path
from typing import Final

from voicebus.errors import UsageError

RATE: Final = 24_000
BYTES_PER_MS: Final = RATE * 2 // 1000
_LONGEST_S: Final = 3600


def read(path: Path) -> bytes:
    """The samples of a WAV file as PCM16 mono 24 kHz.

    Other rates and stereo are converted where voicebus[speech] is installed.

    Raises:
        UsageError: there is no such file, it is no WAV, or its format cannot be used.
    """
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate, frames = (
                file.getnchannels(),
                file.getsampwidth(),
                file.getframerate(),
                file.getnframes(),
            )
            if frames > _LONGEST_S * rate:
                raise UsageError(f"wav: {path}: {frames / rate:.0f} s is too long; at most {_LONGEST_S} s are played")
            samples = file.readframes(frames)
    except FileNotFoundError as error:
        raise UsageError(f"wav: {path}: there is no such file") from error
    except IsADirectoryError as error:
        raise UsageError(f"wav: {path} is a directory; name a WAV file") from error
    except (wave.Error, EOFError) as error:
        why = str(error) or "it ends too early"
        raise UsageError(f"wav: {path} is no WAV audio ({why}); give PCM 16 bit") from error
    except OSError as error:
        raise UsageError(f"wav: {path} cannot be read: {error.strerror}") from error
    if width != 2:
        raise UsageError(f"wav: {path} has {width * 8} bit samples; 16 bit are needed")
    if not samples:
        raise UsageError(f"wav: {path} holds no sound")
    if (channels, rate) == (1, RATE):
        return samples
    return _convert(path, samples, channels, rate)


def check_writable(path: Path) -> None:
    """Whether a file can be written here, asked before there is anything to write.

    Raises:
        UsageError: it cannot.
    """
    if path.is_dir():
        raise UsageError(f"--out: {str(path)!r} is a directory; name a WAV file")
    if not path.parent.is_dir():
        raise UsageError(f"--out: there is no directory {str(path.parent)!r}; make it, or name another file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"--out: {str(path)!r} cannot be written; name another file")


def _convert(path: Path, samples: bytes, channels: int, rate: int) -> bytes:
    try:
        import numpy as np
        import soxr
    except ImportError as error:
        raise UsageError(
            f"wav: {path} has {channels} channel(s) at {rate} Hz; mono at {RATE} Hz is needed, "
            "or install voicebus[speech], which converts"
        ) from error
    frames = np.frombuffer(samples, dtype="<i2").reshape(-1, channels)
    mono = frames.astype("float32").mean(axis=1) / 32768
    resampled = soxr.resample(mono, rate, RATE)
    converted: bytes = (np.clip(resampled, -1, 1) * 32767).astype("<i2").tobytes()
    return converted


def write(path: Path, samples: bytes) -> None:
    """Write PCM16 mono 24 kHz.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(samples)
    except OSError as error:
        raise UsageError(f"wav: {path} cannot be written: {error.strerror}") from error
