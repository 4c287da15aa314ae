"""WAV files: what is read, what is converted, what is refused."""

import math
import struct
import wave
from pathlib import Path

import pytest

from voicebus.errors import UsageError
from voicebus_services.call import wav


def write_tone(path: Path, *, rate: int, channels: int = 1, width: int = 2, seconds: float = 0.5) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        for n in range(int(rate * seconds)):
            sample = int(8000 * math.sin(2 * math.pi * 440 * n / rate))
            file.writeframes(struct.pack("<h", sample)[:width] * channels)


def test_samples_come_back_as_they_were_written(tmp_path: Path) -> None:
    wav.write(tmp_path / "new" / "a.wav", b"\x01\x00\xff\x7f")
    assert wav.read(tmp_path / "new" / "a.wav") == b"\x01\x00\xff\x7f"


@pytest.mark.speech
@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 2), (8000, 1)])
def test_other_rates_and_stereo_are_converted(tmp_path: Path, rate: int, channels: int) -> None:
    write_tone(tmp_path / "a.wav", rate=rate, channels=channels)
    samples = wav.read(tmp_path / "a.wav")
    assert abs(len(samples) - 24000) < 200, "half a second of PCM16 at 24 kHz"
    assert max(struct.unpack(f"<{len(samples) // 2}h", samples)) > 6000


def test_what_is_no_usable_wav_is_refused_with_its_name(tmp_path: Path) -> None:
    write_tone(tmp_path / "eight.wav", rate=24000, width=1)
    write_tone(tmp_path / "empty.wav", rate=24000, seconds=0)
    (tmp_path / "text.wav").write_text("not sound", encoding="utf-8")
    (tmp_path / "cut.wav").write_bytes(b"RIFF\x00\x00")
    for name, why in {
        "eight.wav": "8 bit",
        "empty.wav": "holds no sound",
        "text.wav": "no WAV audio",
        "cut.wav": "it ends too early",
        "missing.wav": "there is no such file",
        ".": "is a directory",
    }.items():
        with pytest.raises(UsageError, match=why):
            wav.read(tmp_path / name)


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be written"):
        wav.write(tmp_path / "file" / "a.wav", b"\x00\x00")
