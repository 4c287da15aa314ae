"""Ears, voice and speech detection against real speech, offline."""

import asyncio
import math
import struct
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from voicebus_services.model_simulator.brains import Ears, Voice, VoiceActivityDetector
from voicebus_services.model_simulator.speech import EspeakVoice, SpeechVad, WhisperEars
from voicebus_services.model_simulator.speech.voice import VoiceError

pytestmark = pytest.mark.speech

DEMO = Path(__file__).parents[4] / "examples" / "what-is-the-weather-in-paris.wav"
FRAME = 960  # 20 ms at 24 kHz


def silence(seconds: float) -> bytes:
    return bytes(int(24_000 * seconds) * 2)


@pytest.fixture
async def voice() -> AsyncIterator[EspeakVoice]:
    voice = EspeakVoice()
    yield voice
    voice.close()


@pytest.fixture(scope="module")
def ears() -> WhisperEars:
    return WhisperEars()  # one for the module: the model takes a second and 100 MB to load


def test_each_adapter_fits_its_port() -> None:
    ears: Ears = WhisperEars()
    voice: Voice = EspeakVoice()
    detector: VoiceActivityDetector = SpeechVad(0.5)
    assert ears
    assert voice
    assert detector


async def test_the_demo_recording_is_heard_word_for_word(ears: WhisperEars) -> None:
    with wave.open(str(DEMO), "rb") as recording:
        assert (recording.getframerate(), recording.getnchannels(), recording.getsampwidth()) == (24_000, 1, 2)
        speech = recording.readframes(recording.getnframes())
    assert DEMO.stat().st_size <= 300_000
    assert not any(speech[: 24_000 * 2 * 3 // 10])  # the lead that speech detection needs
    assert not any(speech[-24_000 * 2 * 6 // 10 :])  # the tail that ends the turn
    assert await ears.transcribe(speech) == "What is the weather in Paris?"


async def test_what_the_voice_says_the_ears_hear(ears: WhisperEars, voice: EspeakVoice) -> None:
    spoken = await voice.speak("Your order will arrive tomorrow.")
    heard = await ears.transcribe(silence(0.3) + spoken + silence(0.6))
    assert heard == "Your order will arrive tomorrow."


@pytest.mark.parametrize("pcm", [b"", b"\x01", silence(0.05), silence(2.0)])
async def test_silence_and_scraps_of_audio_hold_no_words(ears: WhisperEars, pcm: bytes) -> None:
    assert await ears.transcribe(pcm) == ""


async def test_hearing_leaves_the_event_loop_free(ears: WhisperEars, voice: EspeakVoice) -> None:
    speech = silence(0.3) + await voice.speak("What time is it?") + silence(0.6)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.create_task(tick(), name="tick")
    await ears.load()
    before = ticks
    await ears.transcribe(speech)
    assert ticks - before > 5
    ticking.cancel()


async def test_the_same_text_gives_the_same_bytes_from_any_number_of_callers(voice: EspeakVoice) -> None:
    other = EspeakVoice()
    first, second, third = await asyncio.gather(voice.speak("Hello."), voice.speak("Goodbye."), other.speak("Hello."))
    assert first == third == await voice.speak("Hello.")
    assert first != second
    assert 0.2 < len(first) / 48_000 < 2.0
    other.close()


async def test_a_text_without_words_is_silence(voice: EspeakVoice) -> None:
    assert await voice.speak(" ... \0 ") == b""


async def test_an_unknown_voice_is_named_in_the_error() -> None:
    voice = EspeakVoice(language="klingon-nowhere")
    with pytest.raises(VoiceError, match="klingon-nowhere"):
        await voice.speak("Hello.")
    voice.close()


async def test_the_voice_forgets_what_it_has_not_said_for_long(
    voice: EspeakVoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicebus_services.model_simulator.speech.voice._CACHED_BYTES", 400_000)
    for number in range(12):
        await voice.speak(f"Sentence {number}.")
    assert voice._cached_bytes == sum(map(len, voice._cache.values())) <= 400_000
    assert "Sentence 11." in voice._cache
    assert "Sentence 0." not in voice._cache


async def test_speech_is_told_from_silence(voice: EspeakVoice) -> None:
    speech = await voice.speak("This is a sentence of some length.")
    speech = speech[: len(speech) // FRAME * FRAME]
    detector = SpeechVad(0.5)
    verdicts = [
        detector.is_speech(pcm[i : i + FRAME], 24_000)
        for pcm in (silence(0.4), speech)
        for i in range(0, len(pcm), FRAME)
    ]
    assert not any(verdicts[:20])
    assert sum(verdicts[20:]) > 0.7 * (len(verdicts) - 20)


def test_a_faint_tone_is_no_speech_and_telephone_frames_are_accepted() -> None:
    detector = SpeechVad(0.5)
    faint = struct.pack("<160h", *(int(20 * math.sin(i)) for i in range(160)))
    assert not detector.is_speech(faint, 8_000)


@pytest.mark.parametrize(("size", "rate"), [(958, 24_000), (960, 8_000), (0, 24_000)])
def test_a_frame_of_the_wrong_size_is_refused(size: int, rate: int) -> None:
    with pytest.raises(ValueError, match="20 ms"):
        SpeechVad(0.5).is_speech(bytes(size), rate)
