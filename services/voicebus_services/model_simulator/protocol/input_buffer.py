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
_UNITS_PER_MS = 48
MIN_COMMIT_MS = 100
# A click shorter than this many frames in a row is not speech.
_ONSET_FRAMES = 2
# What is kept while nobody speaks, for a manual commit; the oldest goes first.
_IDLE_KEEP_MS = 10_000
_MAX_BYTES = 48 * 1024 * 1024
_SEMANTIC_PREFIX_MS = 300
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
    """What was appended since the last commit or clear.

    Positions are kept as whole numbers of 1/48 ms since the start of all appended audio: one byte of PCM is one such
    unit, one byte of G.711 is six, so no sum of many small appends rounds.
    """

    def __init__(self, make_detector: DetectorFactory) -> None:
        self._make_detector = make_detector
        self._detector: VoiceActivityDetector | None = None
        self._data = bytearray()
        self._format = "audio/pcm"
        self._written = 0
        self._floor = 0
        self._prefix = 0
        self._silence = 0
        self._forget_speech()

    def _forget_speech(self) -> None:
        self.speaking = False
        self._scanned = len(self._data)
        self._run = 0
        self._onset = 0
        self._start = 0
        self._last_speech = 0

    @property
    def written_ms(self) -> int:
        """How much audio was appended in the whole session."""
        return self._written // _UNITS_PER_MS

    @property
    def duration_ms(self) -> float:
        return len(self._data) / bytes_per_ms(self._format)

    @property
    def _unit(self) -> int:
        """Units per byte."""
        return _UNITS_PER_MS // bytes_per_ms(self._format)

    @property
    def _begin(self) -> int:
        return self._written - len(self._data) * self._unit

    def configure(self, audio_format: str, turn_detection: dict[str, Any] | None) -> None:
        """Take over the session's format and turn detection; a change of format empties the buffer."""
        if audio_format != self._format:
            self._data.clear()
            self._format = audio_format
        if turn_detection is None:
            self._detector = None
        elif turn_detection["type"] == "server_vad":
            self._prefix = turn_detection["prefix_padding_ms"] * _UNITS_PER_MS
            self._silence = max(FRAME_MS, turn_detection["silence_duration_ms"]) * _UNITS_PER_MS
            self._detector = self._make_detector(turn_detection["threshold"])
        else:
            self._prefix = _SEMANTIC_PREFIX_MS * _UNITS_PER_MS
            self._silence = _SEMANTIC_SILENCE_MS[turn_detection["eagerness"]] * _UNITS_PER_MS
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
        self._written += len(data) * self._unit
        return iter(()) if self._detector is None else self._scan(self._detector)

    def _scan(self, detector: VoiceActivityDetector) -> Iterator[SpeechStarted | SpeechStopped]:
        unit, rate, size = self._unit, sample_rate(self._format), FRAME_MS * bytes_per_ms(self._format)
        while len(self._data) - self._scanned >= size:
            frame = bytes(self._data[self._scanned : self._scanned + size])
            begin = self._begin + self._scanned * unit
            end = begin + size * unit
            self._scanned += size
            if self._format != "audio/pcm":
                frame = g711_to_pcm16(frame, self._format)
            if detector.is_speech(frame, rate):
                self._run += 1
                if self._run == 1:
                    self._onset = begin
                self._last_speech = end
                if not self.speaking and self._run >= _ONSET_FRAMES:
                    self.speaking = True
                    self._start = max(self._onset - self._prefix, self._floor, self._begin)
                    yield SpeechStarted(self._start // _UNITS_PER_MS)
            else:
                self._run = 0
                if self.speaking and end - self._last_speech >= self._silence:
                    yield self._stop_at(end)
        if not self.speaking:
            self._drop_before(self._written - _IDLE_KEEP_MS * _UNITS_PER_MS - self._prefix)

    def stop(self) -> SpeechStopped:
        """End the turn with the last of the appended audio."""
        return self._stop_at(self._written)

    def _stop_at(self, end: int) -> SpeechStopped:
        scanned = self._begin + self._scanned * self._unit
        audio = self._take(self._start, end)
        self.speaking, self._run = False, 0
        self._scanned = max(0, (scanned - self._begin) // self._unit)
        return SpeechStopped(end // _UNITS_PER_MS, audio)

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
        return self.take_all()

    def take_all(self) -> bytes:
        """Empty the buffer and return the current turn where somebody speaks, else everything, however little."""
        audio = self._take(self._start if self.speaking else self._begin, self._written)
        self._forget_speech()
        return audio

    def clear(self) -> None:
        self._data.clear()
        self._forget_speech()

    def _offset(self, position: int) -> int:
        """Where in the data this position is, on a sample."""
        width = sample_bytes(self._format)
        return max(0, (position - self._begin) // self._unit) // width * width

    def _take(self, start: int, end: int) -> bytes:
        first, last = self._offset(start), self._offset(end)
        audio = bytes(self._data[first:last])
        del self._data[:last]
        self._floor = end
        return audio

    def _drop_before(self, position: int) -> None:
        surplus = self._offset(position)
        # In steps of a second, so that a stream of small appends does not move the buffer every time.
        if surplus >= 1000 * bytes_per_ms(self._format):
            del self._data[:surplus]
            self._scanned -= surplus
