"""How much of a voice's audio is speech: pauses tell nothing of how far the voice has come.

What is far below the loudest that was heard of the same part is a pause. Until anything was heard nothing is known to
be one, and everything counts as speech.
"""

from array import array
from collections.abc import Sequence
from typing import Final

# One look at so many samples: 20 ms at 24 kHz, 60 ms at 8 kHz. Of linear samples every so manyth is looked at.
_FRAME: Final = 480
_EVERY: Final = 6
# A pause has less of the loudest sample's height than this: -30 dB.
_QUIET: Final = 0.03
# Of 32767: less is the noise of silence.
_FLOOR: Final = 64


def _linear(code: int) -> int:
    """The height that a companded sample stands for, roughly in both laws: steps of a size that doubles."""
    return (((code & 15) * 2 + 33) << (code >> 4)) - 33


_ULAW: Final = bytes(0x7F - (byte & 0x7F) for byte in range(256))
_ALAW: Final = bytes((byte ^ 0x55) & 0x7F for byte in range(256))
_COMPANDED: Final = {"audio/pcmu": _ULAW, "audio/pcma": _ALAW}


class Loudness:
    """The loudest of one part so far."""

    def __init__(self) -> None:
        self._loudest = _FLOOR

    def share(self, samples: bytes, kind: str) -> float:
        """How much of more `samples`, of the protocol's format `kind`, is speech (0 to 1)."""
        heights = _heights(samples, kind)
        self._loudest = max(self._loudest, *heights) if heights else self._loudest
        if self._loudest == _FLOOR or not heights:
            return 1.0
        return sum(height > self._loudest * _QUIET for height in heights) / len(heights)


def _heights(samples: bytes, kind: str) -> Sequence[int]:
    """The height of each frame."""
    table = _COMPANDED.get(kind)
    if table is not None:
        codes = samples.translate(table)
        return [_linear(max(codes[start : start + _FRAME])) for start in range(0, len(codes), _FRAME)]
    values = array("h", samples[: len(samples) // 2 * 2])
    pieces = (values[start : start + _FRAME : _EVERY] for start in range(0, len(values), _FRAME))
    return [max(*piece, -min(piece)) for piece in pieces]
