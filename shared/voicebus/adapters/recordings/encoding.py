"""Two channels into Ogg Opus and back, through libsndfile and libsoxr. Everything here blocks: run it in a thread.

The bytes of an encoder, one `write` after another, are whole pages of one stream: whatever of them was kept, from the
first on, is a file that players open.
"""

import io
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from voicebus.adapters.recordings.timeline import Piece
from voicebus.runtime.placing import PCM, RATE
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

MEDIA_TYPE: Final = "audio/ogg"
_G711_RATE: Final = 8_000
_LEAST, _MOST = np.iinfo(np.int16).min, np.iinfo(np.int16).max
_LAWS: Final = {"audio/pcmu": "ULAW", "audio/pcma": "ALAW"}
# libsndfile's measure of Opus: about 60 kbit/s for both channels while somebody speaks.
_COMPRESSION: Final = 0.9
_BLOCK: Final = RATE * 10

Samples = NDArray[np.int16]


class StereoEncoder:
    """Left is the caller, right the agent. `write` gives the bytes that are complete, `close` the last ones."""

    def __init__(self) -> None:
        self._sink = _Sink()
        self._channels = (_Channel(), _Channel())
        self._file = soundfile.SoundFile(
            self._sink, "w", samplerate=RATE, channels=2, format="OGG", subtype="OPUS", compression_level=_COMPRESSION
        )

    def write(self, caller: Iterable[Piece], agent: Iterable[Piece]) -> bytes:
        """Encode what both channels have by now; the rest of the longer one waits for the other."""
        for channel, pieces in zip(self._channels, (caller, agent), strict=True):
            for piece in pieces:
                channel.feed(piece)
        self._encode(min(channel.ready for channel in self._channels))
        return self._sink.take()

    def close(self) -> bytes:
        """Encode the rest, as long as the agent's channel, which ends with the call."""
        caller, agent = self._channels
        for channel in self._channels:
            channel.settle()
        caller.pad(agent.ready)
        self._encode(agent.ready)
        self._file.close()
        return self._sink.take()

    def _encode(self, ticks: int) -> None:
        if ticks:
            frames = np.stack([channel.take(ticks) for channel in self._channels], axis=1)
            self._file.buffer_write(frames.tobytes(), dtype="int16")
            self._file.flush()


class _Channel:
    """Samples of one channel at `RATE`, `ready` of them; those of G.711 run through a filter that is a little late."""

    def __init__(self) -> None:
        self._ready: list[Samples] = []
        self.ready: int = 0
        self._filter: soxr.ResampleStream | None = None
        self._owed = 0

    def feed(self, piece: Piece) -> None:
        if not piece.samples:
            self.settle()
            self._add(np.zeros(piece.ticks, np.int16))
        elif piece.kind == PCM:
            self.settle()
            self._add(np.frombuffer(piece.samples, np.dtype("<i2")).astype(np.int16, copy=False))
        else:
            if self._filter is None:
                # In floats: to whole numbers it rounds with a noise, which takes as much room in a silence as speech.
                self._filter = soxr.ResampleStream(_G711_RATE, RATE, 1, dtype="float32", quality="MQ")
            self._owed += piece.ticks
            self._filtered(self._filter.resample_chunk(_expand(piece.kind, piece.samples)))

    def settle(self) -> None:
        """Have out of the filter what is in it: something else follows."""
        if self._filter is not None:
            self._filtered(self._filter.resample_chunk(np.zeros(0, np.float32), last=True))
            self._add(np.zeros(self._owed, np.int16))
            self._filter, self._owed = None, 0

    def pad(self, ticks: int) -> None:
        if self.ready < ticks:
            self._add(np.zeros(ticks - self.ready, np.int16))

    def take(self, ticks: int) -> Samples:
        whole = np.concatenate(self._ready)
        self._ready, self.ready = [whole[ticks:]], self.ready - ticks
        return whole[:ticks]

    def _filtered(self, samples: NDArray[np.float32]) -> None:
        samples = samples[: self._owed]
        self._owed -= len(samples)
        self._add(np.clip(np.rint(samples), _LEAST, _MOST).astype(np.int16))

    def _add(self, samples: Samples) -> None:
        self._ready.append(samples)
        self.ready += len(samples)


def _expand(kind: str, samples: bytes) -> NDArray[np.float32]:
    """The linear samples of G.711, by the measure of 16 bits."""
    expanded, _ = soundfile.read(
        io.BytesIO(samples), format="RAW", subtype=_LAWS[kind], channels=1, samplerate=_G711_RATE, dtype="int16"
    )
    return np.asarray(expanded, np.float32)


class _Sink(io.RawIOBase):
    """What libsndfile writes to; for Ogg it only ever appends."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._taken = 0

    def write(self, data: Any) -> int:
        self._bytes += data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if (offset if whence == io.SEEK_SET else offset + self.tell()) != self.tell():
            raise OSError("an Ogg stream is written in order")
        return self.tell()

    def tell(self) -> int:
        return self._taken + len(self._bytes)

    def take(self) -> bytes:
        taken = bytes(self._bytes)
        self._taken += len(taken)
        self._bytes.clear()
        return taken


def stitch(segments: Iterable[tuple[int, bytes]]) -> bytes:
    """One recording of several, each with where on the call's clock (ms) it begins; between them is silence.

    One that cannot be read is silence, too: a process that was given up may have left its last words alone.
    """
    sink, position = _Sink(), 0
    with soundfile.SoundFile(
        sink, "w", samplerate=RATE, channels=2, format="OGG", subtype="OPUS", compression_level=_COMPRESSION
    ) as whole:
        for begins_ms, data in segments:
            if not _readable(data):
                log.warning("a segment of a recording cannot be read", begins_ms=begins_ms, size=len(data))
                continue
            begins = begins_ms * RATE // 1000
            while position < begins:
                silence = min(_BLOCK, begins - position)
                whole.write(np.zeros((silence, 2), np.int16))
                position += silence
            with soundfile.SoundFile(io.BytesIO(data)) as segment:
                # Two owners may have recorded the same moment: the first one's counts.
                segment.read(position - begins, dtype="int16", always_2d=True)
                for block in segment.blocks(_BLOCK, dtype="int16", always_2d=True):
                    whole.write(block)
                    position += len(block)
    return sink.take()


def _readable(data: bytes) -> bool:
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as segment:
            return bool(segment.channels == 2 and segment.samplerate == RATE)
    except soundfile.LibsndfileError:
        return False
