"""What of a voice's audio is a pause."""

import math
from array import array

import pytest

from voicebus.engine.loudness import Loudness


def wave(ms: int, height: int) -> bytes:
    return array("h", (round(height * math.sin(at / 9)) for at in range(ms * 24))).tobytes()


def companded(ms: int, codes: tuple[int, ...]) -> bytes:
    return bytes(codes[at % len(codes)] for at in range(ms * 8))


def test_what_is_far_below_the_loudest_is_a_pause() -> None:
    loudness = Loudness()
    assert loudness.share(wave(200, 9000), "audio/pcm") == 1
    assert loudness.share(wave(200, 30), "audio/pcm") == 0
    assert loudness.share(wave(100, 9000) + wave(100, 0), "audio/pcm") == 0.5
    assert loudness.share(wave(200, 900), "audio/pcm") == 1, "spoken softly"


def test_before_anything_was_heard_silence_is_no_pause() -> None:
    loudness = Loudness()
    assert loudness.share(bytes(9600), "audio/pcm") == 1
    assert loudness.share(wave(100, 9000), "audio/pcm") == 1
    assert loudness.share(bytes(9600), "audio/pcm") == 0


@pytest.mark.parametrize(
    ("kind", "loud", "quiet"),
    [("audio/pcmu", (0x80, 0x00, 0x90), (0xFF, 0x7F)), ("audio/pcma", (0xAA, 0x2A), (0xD5, 0x55))],
)
def test_companded_sound_has_pauses_too(kind: str, loud: tuple[int, ...], quiet: tuple[int, ...]) -> None:
    loudness = Loudness()
    assert loudness.share(companded(240, loud), kind) == 1
    assert loudness.share(companded(240, quiet), kind) == 0


@pytest.mark.parametrize("samples", [b"", b"\1"])
def test_what_has_no_sample_tells_nothing(samples: bytes) -> None:
    assert Loudness().share(samples, "audio/pcm") == 1
