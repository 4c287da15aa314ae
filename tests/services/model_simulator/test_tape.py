"""Audio that carries its words."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicebus_services.model_simulator import tape
from voicebus_services.model_simulator.protocol.audio import from_pcm16_24k, to_pcm16_24k

SENTENCE = 'What is the weather in Zürich? [[call: look {"a": [1]}]]'


@given(st.text(max_size=60))
@settings(deadline=None, max_examples=60)
def test_what_is_recorded_is_played_back(text: str) -> None:
    expected = text.encode("utf-8", "ignore").decode()
    assert tape.play_back(tape.record(expected)) == expected


def test_a_character_takes_about_60_ms() -> None:
    assert len(tape.record("x" * 100)) // 48 == pytest.approx(6000, rel=0.1)


@pytest.mark.parametrize("law", ["audio/pcmu", "audio/pcma"])
@pytest.mark.parametrize("offset", [0, 1, 2, 7, 100, 719, 7200])
def test_it_survives_g711_and_silence_of_any_length_before_it(law: str, offset: int) -> None:
    wire = from_pcm16_24k(bytes(2 * offset) + tape.record(SENTENCE) + bytes(9600), law)
    assert tape.play_back(to_pcm16_24k(wire, law)) == SENTENCE


@pytest.mark.parametrize("gain", [0.2, 0.5, 1.3])
def test_gain_does_not_matter(gain: float) -> None:
    samples = memoryview(tape.record(SENTENCE)).cast("h")
    assert tape.play_back(b"".join(int(s * gain).to_bytes(2, "little", signed=True) for s in samples)) == SENTENCE


def test_several_recordings_in_a_row_are_all_heard() -> None:
    audio = bytes(4800) + tape.record("one") + bytes(24_000) + tape.record("two") + tape.record("three")
    assert tape.play_back(audio) == "one two three"


def test_a_cut_off_end_loses_only_the_words_after_the_cut() -> None:
    audio = tape.record("the first half and the second half")
    heard = tape.play_back(audio[: len(audio) // 2])
    assert heard
    assert "the first half and the second half".startswith(heard)


@given(st.binary(max_size=9600))
@settings(deadline=None, max_examples=60)
def test_audio_without_a_recording_has_no_words(audio: bytes) -> None:
    assert tape.play_back(audio) == ""


def test_a_damaged_recording_has_no_words() -> None:
    audio = bytearray(tape.record("hello"))
    symbol = 720 * 2
    audio[13 * symbol : 14 * symbol] = audio[:symbol]
    assert tape.play_back(bytes(audio)) == ""


def test_longer_texts_than_a_tape_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="65535"):
        tape.record("x" * 65_536)
