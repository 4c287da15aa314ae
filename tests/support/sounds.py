"""Recordings as a player sees them: read by FFmpeg's demuxer and decoder, which are not what wrote them."""

import io

import av
import numpy as np
from numpy.typing import NDArray

from voicebus.adapters.recordings.encoding import StereoEncoder
from voicebus.adapters.recordings.timeline import Piece
from voicebus.runtime.placing import PCM, RATE

Channel = NDArray[np.float32]

_RATE = 48_000


def opened(data: bytes) -> tuple[float, Channel, Channel]:
    """The duration that a player shows (s), and the samples of the caller and of the agent."""
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.name, stream.channels, stream.rate) == ("opus", 2, _RATE)
        assert container.duration is not None
        duration = container.duration / 1_000_000
        caller, agent = np.concatenate([frame.to_ndarray() for frame in container.decode(stream)], axis=1)
    return duration, caller, agent


def stretch(channel: Channel) -> tuple[float, float]:
    """From when to when (s) a channel is loud."""
    loud = np.flatnonzero(np.abs(channel) > 0.02)
    return float(loud[0]) / _RATE, float(loud[-1]) / _RATE


def stretches(channel: Channel, *, pause_s: float = 0.1) -> list[tuple[float, float]]:
    """The stretches that are loud (s), with pauses of at least `pause_s` between them."""
    loud = np.flatnonzero(np.abs(channel) > 0.02)
    if not len(loud):
        return []
    ends = np.flatnonzero(np.diff(loud) > pause_s * _RATE)
    firsts, lasts = loud[np.concatenate([[0], ends + 1])], loud[np.concatenate([ends, [len(loud) - 1]])]
    return [(float(first) / _RATE, float(last) / _RATE) for first, last in zip(firsts, lasts, strict=True)]


def tone(ms: int) -> bytes:
    """Samples of a tone, as a recording takes them."""
    t = np.arange(RATE * ms // 1000) / RATE
    samples: bytes = (np.sin(2 * np.pi * 440 * t) * 12_000).astype("<i2").tobytes()
    return samples


def sound(ms: int) -> Piece:
    return Piece(RATE * ms // 1000, PCM, tone(ms))


def silence(ms: int) -> Piece:
    return Piece(RATE * ms // 1000)


def parts(seconds: int, *, ended: bool = True) -> list[bytes]:
    """A segment of a recording as it is written, a part a second: the caller is heard, the agent is silent."""
    encoder = StereoEncoder()
    written = [encoder.write([sound(1000)], [silence(1000)]) for _ in range(seconds)]
    return [part for part in (*written, encoder.close() if ended else b"") if part]
