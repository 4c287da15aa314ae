"""A client's samples: paid for some at a time, and never more of them than may come."""

import base64

import pytest

from voicebus.runtime.frames import size_of
from voicebus_services.gateway.faces.input_audio import AUDIO_BURST_S, AudioError, InputAudio

FRAME_S = 0.05
SLOW = 0.001


def frames_taken(audio: InputAudio, size: int) -> int:
    """How many appends of `size` bytes are taken at once."""
    for taken in range(10_000):
        try:
            audio.check_samples(size)
        except AudioError:
            return taken
    raise AssertionError("no bound was met")


def test_as_much_as_a_burst_is_taken_in_small_frames() -> None:
    assert frames_taken(InputAudio(SLOW), round(48_000 * FRAME_S)) == pytest.approx(AUDIO_BURST_S / FRAME_S, abs=1)


def test_what_was_paid_ahead_is_of_no_use_for_a_format_with_shorter_samples() -> None:
    audio = InputAudio(SLOW)
    audio.check_samples(2400)
    audio.learn({"input": {"type": "audio/pcmu"}})
    assert frames_taken(audio, 8_000) <= AUDIO_BURST_S


def test_half_a_sample_is_refused_also_where_audio_was_paid_for() -> None:
    audio = InputAudio(SLOW)
    audio.check_samples(2400)
    with pytest.raises(AudioError, match="not whole 16 bit samples"):
        audio.check_samples(2401)


def test_text_that_is_no_base64_is_refused() -> None:
    audio = InputAudio(SLOW)
    audio.check_samples(size_of(base64.b64encode(bytes(2400)).decode()))
    with pytest.raises(AudioError, match="not base64"):
        audio.check_samples(size_of("AAA!"))
