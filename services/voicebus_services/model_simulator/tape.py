"""Speech without a model: audio whose samples carry their own words.

`record()` turns text into sound that any energy detector takes for speech, about 60 ms per character, and `play_back()`
reads the words out of it again. It is the default voice and the default ears of the simulator, so that two simulators
(or a test and a simulator) can talk to each other and each knows exactly what the other said.

How the words are in the samples: a 200 Hz buzz whose loudness changes every 30 ms. Each 30 ms symbol has one of 16
loudness levels, a geometric series, and so carries four bits, compared with the loudest symbol of the preamble. A
recording is

    preamble (8 symbols: F 0 F F 0 0 F 0) · length (4 symbols) · UTF-8 bytes (2 symbols each) · checksum (2 symbols)

Levels are ratios, so gain does not matter; they differ by more than G.711 blurs. What precedes the preamble may be
silence of any length, and a cut-off end loses only the words after the cut. Several recordings may follow each other.
"""

import math
import sys
from array import array
from functools import cache
from itertools import accumulate
from operator import mul

_RATE = 24_000
_SYMBOL = 720  # samples: 30 ms
_PERIOD = 120  # samples: 200 Hz
_LEVELS = 16
_STEP = 1.17
_LOUDEST = 20_000
_PREAMBLE = (15, 0, 15, 15, 0, 0, 15, 0)
_LENGTH_SYMBOLS = 4
_SILENCE_BELOW = 300
# Symbols are measured on their middle two periods... of four and a half: clear of the edges that resampling smears.
_MARGIN = 180
MAX_TEXT_BYTES = 65_535
# What the voice says at most: four minutes, longer than any response may last.
_LONGEST_SAID = 4096


@cache
def _symbol(level: int) -> bytes:
    peak = _LOUDEST / _STEP ** (_LEVELS - 1 - level)
    # A few harmonics, so that detectors made for voices take it for one; cosines, so that the first sample is loud.
    partials = [(1, 0.5), (2, 0.3), (3, 0.25), (5, 0.15), (7, 0.08)]
    top = sum(weight for _, weight in partials)
    wave = [
        int(peak / top * sum(weight * math.cos(2 * math.pi * k * n / _PERIOD) for k, weight in partials))
        for n in range(_PERIOD)
    ]
    samples = array("h", wave * (_SYMBOL // _PERIOD))
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


def _nibbles(data: bytes) -> list[int]:
    return [nibble for byte in data for nibble in (byte >> 4, byte & 15)]


def _checksum(data: bytes) -> int:
    return (sum(data) * 31 + len(data)) & 0xFF


def record(text: str) -> bytes:
    """PCM16 at 24 kHz, mono, whose samples carry `text`; about 60 ms per character and 420 ms of frame.

    Raises:
        ValueError: the text is longer than 65 535 bytes in UTF-8.
    """
    data = text.encode()
    if len(data) > MAX_TEXT_BYTES:
        raise ValueError(f"a tape holds at most {MAX_TEXT_BYTES} bytes of text, this one has {len(data)}")
    symbols = [
        *_PREAMBLE,
        *_nibbles(len(data).to_bytes(2, "big")),
        *_nibbles(data),
        *_nibbles(bytes([_checksum(data)])),
    ]
    return b"".join([_symbol(level) for level in symbols])


def play_back(pcm16_24k: bytes) -> str:
    """The words in this audio, of all recordings in it joined with a space; "" where there are none.

    A recording that is cut off gives the words before the cut.
    """
    samples = array("h", pcm16_24k[: len(pcm16_24k) // 2 * 2])
    if sys.byteorder == "big":
        samples.byteswap()
    texts: list[str] = []
    position = 0
    while (onset := _next_sound(samples, position)) is not None:
        found = _read(samples, onset)
        if found is None:
            position = onset + _SYMBOL
            continue
        text, position = found
        texts.append(text)
    return " ".join(text for text in texts if text)


def _next_sound(samples: "array[int]", start: int) -> int | None:
    for begin in range(start, len(samples), _SYMBOL):
        block = samples[begin : begin + _SYMBOL]
        if max(block) > _SILENCE_BELOW:
            return begin + next(place for place, value in enumerate(block) if value > _SILENCE_BELOW)
    return None


def _level(samples: "array[int]", begin: int) -> float:
    """The loudness (root mean square) of the symbol that begins here; 0.0 beyond the end."""
    middle = samples[begin + _MARGIN : begin + _SYMBOL - _MARGIN : 3]
    if len(middle) < (_SYMBOL - 2 * _MARGIN) // 3:
        return 0.0
    return math.sqrt(sum(map(mul, middle, middle)) / len(middle))


def _read(samples: "array[int]", onset: int) -> tuple[str, int] | None:
    """The recording whose preamble begins here, and where it ends; None where no preamble begins."""
    heads = [_level(samples, onset + index * _SYMBOL) for index in range(len(_PREAMBLE))]
    loud = sum(level for level, bit in zip(heads, _PREAMBLE, strict=True) if bit) / sum(map(bool, _PREAMBLE))
    if not loud:
        return None

    def decode(level: float) -> int | None:
        if level < loud / _STEP ** (_LEVELS + 2):
            return None
        value = round(_LEVELS - 1 + math.log(level / loud, _STEP))
        return min(max(value, 0), _LEVELS - 1)

    near = [decode(level) for level in heads]
    if any(value is None or abs(value - wanted) > 1 for value, wanted in zip(near, _PREAMBLE, strict=True)):
        return None
    starts = accumulate(
        [_SYMBOL] * (_LENGTH_SYMBOLS + 2 * MAX_TEXT_BYTES + 2), initial=onset + len(_PREAMBLE) * _SYMBOL
    )
    values: list[int] = []
    wanted, end = _LENGTH_SYMBOLS, onset
    for begin in starts:
        if len(values) == wanted:
            break
        end = begin + _SYMBOL
        value = decode(_level(samples, begin))
        if value is None:
            break
        values.append(value)
        if len(values) == _LENGTH_SYMBOLS:
            wanted += 2 * (values[0] << 12 | values[1] << 8 | values[2] << 4 | values[3]) + 2
    body = values[_LENGTH_SYMBOLS:]
    data = bytes(high << 4 | low for high, low in zip(body[0::2], body[1::2], strict=False))
    if len(values) == wanted and wanted > _LENGTH_SYMBOLS:
        data, check = data[:-1], data[-1]
        if check != _checksum(data):
            return None
    return data.decode(errors="ignore"), end


class TapeEars:
    """Ears that read what a tape carries; anything else transcribes as ""."""

    async def transcribe(self, pcm16_24k: bytes) -> str:
        return play_back(pcm16_24k)


class TapeVoice:
    """A voice that carries its words."""

    async def speak(self, text: str) -> bytes:
        return record(text.encode()[:_LONGEST_SAID].decode(errors="ignore"))
