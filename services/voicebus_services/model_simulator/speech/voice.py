"""Voice: eSpeak NG from a wheel, through ctypes. The single home of speech synthesis."""

import asyncio
import ctypes
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from voicebus.errors import VoicebusError

_OUTPUT_RATE_HZ: Final = 24_000
_CACHED_BYTES: Final = 16 * 1024 * 1024  # five minutes of speech; the oldest used goes first
_LONGEST_TEXT: Final = 4_000  # characters; what is longer is not spoken to its end

_AUDIO_OUTPUT_SYNCHRONOUS: Final = 2
_POSITION_CHARACTER: Final = 1
_CHARS_UTF8: Final = 1
_RATE: Final = 1
_OK: Final = 0
_CALLBACK: Final = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p, use_errno=False
)


class VoiceError(VoicebusError):
    """The synthesiser refused: its library could not be started, or a text could not be spoken."""


_one_at_a_time: Final = threading.Lock()  # the library is one per process and not reentrant


def _synthesise(text: str, language: str, words_per_minute: int) -> tuple[bytes, int]:
    """PCM16 of ``text`` and its rate in hertz.

    The library is loaded and unloaded each time (3 ms): it keeps the phase of its oscillators in static variables, so
    that otherwise the same sentence would sound a little different each time, and recordings could not be compared.
    """
    import _ctypes

    from espeakng_loader import get_data_path, get_library_path

    chunks: list[bytes] = []

    def collect(samples: Any, count: int, _events: int | None) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, count * 2))
        return 0

    callback = _CALLBACK(collect)
    encoded = text.encode()
    with _one_at_a_time:
        library = ctypes.CDLL(get_library_path())
        try:
            rate_hz: int = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, get_data_path().encode(), 0)
            if rate_hz <= 0:
                raise VoiceError(f"eSpeak NG did not start with {get_data_path()}; reinstall voicebus[speech].")
            library.espeak_SetSynthCallback(callback)
            library.espeak_ng_SetRandSeed(ctypes.c_long(1))
            if library.espeak_SetVoiceByName(language.encode()) != _OK:
                raise VoiceError(f"eSpeak NG has no voice {language!r}; use 'en-us'.")
            library.espeak_SetParameter(_RATE, words_per_minute, 0)
            status = library.espeak_Synth(
                encoded, ctypes.c_size_t(len(encoded) + 1), 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None
            )
            if status != _OK:
                raise VoiceError(f"eSpeak NG could not speak {text[:80]!r} (status {status}).")
            library.espeak_Terminate()
        finally:
            _ctypes.dlclose(library._handle)  # noqa: SLF001 - ctypes offers no other way to unload
    return b"".join(chunks), rate_hz


class EspeakVoice:
    """Turns words into speech; one instance serves every session. The same text always gives the same bytes.

    Args:
        language: the eSpeak voice, such as "en-us".
        words_per_minute: the pace.
    """

    def __init__(self, language: str = "en-us", words_per_minute: int = 175) -> None:
        self._language = language
        self._words_per_minute = words_per_minute
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="voice")
        self._cache: OrderedDict[str, bytes] = OrderedDict()  # touched by the event loop's thread alone
        self._cached_bytes = 0

    async def load(self) -> None:
        """Start the synthesiser now rather than with the first sentence.

        Raises:
            ImportError: the extra `voicebus[speech]` is not installed.
            VoiceError: the library does not start.
        """
        await self.speak("Ready.")

    async def speak(self, text: str) -> bytes:
        """24 kHz mono PCM16 of ``text``; b"" for a text without words.

        Raises:
            VoiceError: the synthesiser refused.
        """
        text = " ".join(text.replace("\0", " ").split())[:_LONGEST_TEXT]
        if not any(character.isalnum() for character in text):
            return b""
        if (known := self._cache.get(text)) is not None:
            self._cache.move_to_end(text)
            return known
        speech = await asyncio.get_running_loop().run_in_executor(self._worker, self._render, text)
        self._remember(text, speech)
        return speech

    def close(self) -> None:
        """Stop the worker thread; a sentence in work is finished first, queued ones are dropped."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _render(self, text: str) -> bytes:
        import numpy as np
        import soxr

        pcm, rate_hz = _synthesise(text, self._language, self._words_per_minute)
        samples = np.frombuffer(pcm, dtype="<i2")
        speech: bytes = soxr.resample(samples, rate_hz, _OUTPUT_RATE_HZ, quality="HQ").astype("<i2").tobytes()
        return speech

    def _remember(self, text: str, speech: bytes) -> None:
        if len(speech) > _CACHED_BYTES // 4:
            return
        self._cached_bytes += len(speech) - len(self._cache.pop(text, b""))
        self._cache[text] = speech
        while self._cached_bytes > _CACHED_BYTES:
            _, oldest = self._cache.popitem(last=False)
            self._cached_bytes -= len(oldest)
