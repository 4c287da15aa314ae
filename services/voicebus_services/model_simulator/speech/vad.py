"""Speech detection frame by frame: WebRTC's detector behind the server's port, plus a floor of loudness."""

from typing import Any, Final

_DETECTOR_RATES_HZ: Final = frozenset({8_000, 16_000, 32_000, 48_000})
# Loudness (RMS of 16-bit samples) below which a frame is silence whatever its spectrum, at threshold 1: the detector
# alone takes the hiss of a quiet line for speech now and then.
_FLOOR_AT_ONE: Final = 240.0


class SpeechVad:
    """Says of each 20 ms frame whether somebody speaks in it; one per session's input.

    Args:
        threshold: 0…1, the session's `turn_detection.threshold`; higher needs louder, clearer speech.
    """

    def __init__(self, threshold: float = 0.5) -> None:
        import webrtcvad

        threshold = min(max(threshold, 0.0), 1.0)
        self._detector: Any = webrtcvad.Vad(min(3, 1 + int(threshold * 3)))
        self._floor = _FLOOR_AT_ONE * threshold

    def is_speech(self, pcm16: bytes, sample_rate: int) -> bool:
        """Whether the 20 ms of PCM16 hold speech.

        Raises:
            ValueError: the frame is not 20 ms at ``sample_rate``, or the rate is not one of 8, 16, 24, 32, 48 kHz.
        """
        import numpy as np

        if len(pcm16) * 50 != sample_rate * 2:
            raise ValueError(f"A frame of {len(pcm16)} bytes is not 20 ms at {sample_rate} Hz; cut frames of 20 ms.")
        samples = np.frombuffer(pcm16, dtype="<i2").astype(np.float32)
        if float(np.sqrt(np.mean(samples * samples))) < self._floor:
            return False
        if sample_rate == 24_000:
            # Three samples become two. Crude, but the detector looks at bands below 4 kHz only.
            triples = samples.reshape(-1, 3)
            thinned = np.stack([triples[:, 0], (triples[:, 1] + triples[:, 2]) / 2], axis=1).ravel()
            pcm16, sample_rate = thinned.astype("<i2").tobytes(), 16_000
        if sample_rate not in _DETECTOR_RATES_HZ:
            raise ValueError(f"Speech cannot be detected at {sample_rate} Hz; use 8000 or 24000.")
        return bool(self._detector.is_speech(pcm16, sample_rate))
