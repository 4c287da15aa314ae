"""The input audio buffer and the turn detection on it.

Everything here counts appended audio, never wall time, so a client may stream faster than real time. The detector sees
frames of 20 ms however the client cut its appends.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from operator import mul
from typing import Any

from voicebus_services.model_simulator.brains import DetectorFactory, VoiceActivityDetector
from voicebus_services.model_simulator.protocol.audio import bytes_per_ms, g711_to_pcm16, sample_bytes, sample_rate
from voicebus_services.model_simulator.protocol.refusal import RefusedError

FRAME_MS = 20
MIN_COMMIT_MS = 100
# A click shorter than this many frames in a row is not speech.
_ONSET_FRAMES = 2
# What is kept while nobody speaks, for a manual commit; the oldest goes first.
_IDLE_KEEP_MS = 10_000
_MAX_BYTES = 48 * 1024 * 1024
# How much silence ends a turn under semantic_vad, and the wall time after which it ends anyway.
_SEMANTIC_SILENCE_MS = {"high": 400, "medium": 800, "auto": 800, "low": 1600}
SEMANTIC_CAP_MS = {"high": 2000, "medium": 4000, "auto": 4000, "low": 8000}


class EnergyDetector:
    """Speech is what is louder than a level: -34 dBFS at threshold 0.5."""

    def __init__(self, threshold: float) -> None:
        self._limit = (100 + 1100 * threshold) ** 2

    def is_speech(self, pcm16: bytes, sample_rate: int) -> bool:
        # Every third sample of 24 kHz carries the level as well as all of them, at a third of the cost.
        samples = array("h", pcm16)[:: sample_rate // 8000]
        energy: int = sum(map(mul, samples, samples))
        return energy > self._limit * len(samples)


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    audio_start_ms: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The turn is over; `audio` is what it holds, prefix padding and trailing silence included."""

    audio_end_ms: int
    audio: bytes


class InputBuffer:
    """What was appended since the last commit or clear."""

    def __init__(self, make_detector: DetectorFactory) -> None:
        self._make_detector = make_detector
        self._detector: VoiceActivityDetector | None = None
        self._data = bytearray()
        self._format = "audio/pcm"
        self._written_ms = 0.0
        self._prefix_ms = 0
        self._silence_ms = 0
        self._forget_speech()
        self._floor_ms = 0.0

    def _forget_speech(self) -> None:
        self.speaking = False
        self._scanned = len(self._data)
        self._run = 0
        self._onset_ms = 0.0
        self._start_ms = 0
        self._last_speech_ms = 0.0

    @property
    def written_ms(self) -> int:
        """How much audio was appended in the whole session."""
        return int(self._written_ms)

    @property
    def duration_ms(self) -> float:
        return len(self._data) / bytes_per_ms(self._format)

    @property
    def _begin_ms(self) -> float:
        return self._written_ms - self.duration_ms

    def configure(self, audio_format: str, turn_detection: dict[str, Any] | None) -> None:
        """Take over the session's format and turn detection; a change of format empties the buffer."""
        if audio_format != self._format:
            self._data.clear()
            self._format = audio_format
        if turn_detection is None:
            self._detector = None
        elif turn_detection["type"] == "server_vad":
            self._prefix_ms = turn_detection["prefix_padding_ms"]
            self._silence_ms = max(FRAME_MS, turn_detection["silence_duration_ms"])
            self._detector = self._make_detector(turn_detection["threshold"])
        else:
            self._prefix_ms = 300
            self._silence_ms = _SEMANTIC_SILENCE_MS[turn_detection["eagerness"]]
            self._detector = self._make_detector(0.5)
        self._forget_speech()

    def append(self, data: bytes) -> Iterator[SpeechStarted | SpeechStopped]:
        """Add samples; yields what the turn detection hears in them. The caller must exhaust the iterator.

        Raises:
            RefusedError: the buffer would grow beyond 48 MiB; nothing was added.
        """
        if len(self._data) + len(data) > _MAX_BYTES:
            raise RefusedError(
                f"The input audio buffer already holds {self.duration_ms:.0f}ms of audio. Commit or clear it first.",
                code="input_audio_buffer_full",
                param="audio",
            )
        self._data += data
        self._written_ms += len(data) / bytes_per_ms(self._format)
        if self._detector is None:
            return iter(())
        return self._scan(self._detector)

    def _scan(self, detector: VoiceActivityDetector) -> Iterator[SpeechStarted | SpeechStopped]:
        per_ms, rate = bytes_per_ms(self._format), sample_rate(self._format)
        size = FRAME_MS * per_ms
        while len(self._data) - self._scanned >= size:
            frame = bytes(self._data[self._scanned : self._scanned + size])
            at_ms = self._begin_ms + self._scanned / per_ms
            self._scanned += size
            if self._format != "audio/pcm":
                frame = g711_to_pcm16(frame, self._format)
            if detector.is_speech(frame, rate):
                self._run += 1
                if self._run == 1:
                    self._onset_ms = at_ms
                self._last_speech_ms = at_ms + FRAME_MS
                if not self.speaking and self._run >= _ONSET_FRAMES:
                    self.speaking = True
                    self._start_ms = int(max(self._onset_ms - self._prefix_ms, self._floor_ms, 0))
                    yield SpeechStarted(self._start_ms)
            else:
                self._run = 0
                if self.speaking and at_ms + FRAME_MS - self._last_speech_ms >= self._silence_ms:
                    yield self.stop(at_ms + FRAME_MS)
        if not self.speaking:
            self._drop_before(self._written_ms - _IDLE_KEEP_MS - self._prefix_ms)

    def stop(self, end_ms: float | None = None) -> SpeechStopped:
        """End the turn at `end_ms` of appended audio, by default at the last of it."""
        end = self._written_ms if end_ms is None else end_ms
        scanned = self._begin_ms + self._scanned / bytes_per_ms(self._format)
        audio = self._take(self._start_ms, end)
        self.speaking, self._run = False, 0
        self._scanned = max(0, self._offset(scanned))
        return SpeechStopped(int(end), audio)

    def commit(self) -> bytes:
        """Empty the buffer and return what it held: the current turn where somebody speaks, else everything.

        Raises:
            RefusedError: less than 100 ms; nothing changed.
        """
        if self.duration_ms < MIN_COMMIT_MS:
            raise RefusedError(
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, but buffer "
                f"only has {self.duration_ms:.2f}ms of audio.",
                code="input_audio_buffer_commit_empty",
            )
        audio = self._take(self._start_ms if self.speaking else self._begin_ms, self._written_ms)
        self._forget_speech()
        return audio

    def take_all(self) -> bytes:
        """Empty the buffer and return what it held, however little."""
        audio = self._take(self._begin_ms, self._written_ms)
        self._forget_speech()
        return audio

    def clear(self) -> None:
        self._data.clear()
        self._forget_speech()

    def _offset(self, at_ms: float) -> int:
        width = sample_bytes(self._format)
        return round((at_ms - self._begin_ms) * bytes_per_ms(self._format)) // width * width

    def _take(self, from_ms: float, to_ms: float) -> bytes:
        begin, end = max(0, self._offset(from_ms)), self._offset(to_ms)
        audio = bytes(self._data[begin:end])
        del self._data[:end]
        self._floor_ms = to_ms
        return audio

    def _drop_before(self, at_ms: float) -> None:
        surplus = self._offset(at_ms)
        # In steps of a second, so that a stream of small appends does not move the buffer every time.
        if surplus >= 1000 * bytes_per_ms(self._format):
            del self._data[:surplus]
            self._scanned -= surplus
