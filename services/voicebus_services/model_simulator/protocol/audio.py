"""Wire formats of audio: sizes, base64, and the conversions between PCM 24 kHz and the two G.711 laws at 8 kHz.

Decoding G.711 is two `bytes.translate` calls (low halves, high halves); encoding reads a 64 Ki table. 24 kHz and 8 kHz
differ by exactly three, so resampling is a mean of three samples one way and a straight line the other way.
"""

import sys
from array import array
from functools import cache
from operator import add

import pybase64

PCM_RATE = 24_000
G711_RATE = 8_000
MAX_APPEND_BYTES = 15 * 1024 * 1024

_BYTES_PER_MS = {"audio/pcm": 48, "audio/pcmu": 8, "audio/pcma": 8}
SILENCE = {"audio/pcm": b"\x00", "audio/pcmu": b"\xff", "audio/pcma": b"\xd5"}


def bytes_per_ms(audio_format: str) -> int:
    return _BYTES_PER_MS[audio_format]


def sample_bytes(audio_format: str) -> int:
    return 2 if audio_format == "audio/pcm" else 1


def sample_rate(audio_format: str) -> int:
    return PCM_RATE if audio_format == "audio/pcm" else G711_RATE


def decode_base64(text: str) -> bytes:
    """Raises: ValueError: not base64, whole or in part."""
    return pybase64.b64decode(text, validate=True)


def base64_text(data: bytes) -> str:
    return pybase64.b64encode(data).decode("ascii")


def _samples(pcm: bytes) -> "array[int]":
    samples = array("h", pcm)
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def _bytes(samples: "array[int]") -> bytes:
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


def _ulaw_to_linear(code: int) -> int:
    code = ~code & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << ((code & 0x70) >> 4)) - 0x84
    return -magnitude if code & 0x80 else magnitude


def _alaw_to_linear(code: int) -> int:
    code ^= 0x55
    magnitude = (code & 0x0F) << 4
    segment = (code & 0x70) >> 4
    magnitude += 8 if segment == 0 else 0x108
    if segment > 1:
        magnitude <<= segment - 1
    return magnitude if code & 0x80 else -magnitude


@cache
def _decode_tables(audio_format: str) -> tuple[bytes, bytes]:
    law = _ulaw_to_linear if audio_format == "audio/pcmu" else _alaw_to_linear
    linear = [law(code) & 0xFFFF for code in range(256)]
    return bytes(value & 0xFF for value in linear), bytes(value >> 8 for value in linear)


@cache
def _encode_table(audio_format: str) -> bytes:
    """For each 16-bit sample (as unsigned), the code whose value is nearest."""
    law = _ulaw_to_linear if audio_format == "audio/pcmu" else _alaw_to_linear
    # µ-law has two codes for zero; 0xFF is the one that silence uses, so it comes last and wins.
    ordered = sorted({law(code): code for code in range(256)}.items())
    table = bytearray(65_536)
    place = 0
    for value in range(-32_768, 32_768):
        while place + 1 < len(ordered) and abs(ordered[place + 1][0] - value) <= abs(ordered[place][0] - value):
            place += 1
        table[value & 0xFFFF] = ordered[place][1]
    return bytes(table)


def g711_to_pcm16(data: bytes, audio_format: str) -> bytes:
    """PCM16 at 8 kHz."""
    low, high = _decode_tables(audio_format)
    pcm = bytearray(2 * len(data))
    pcm[0::2] = data.translate(low)
    pcm[1::2] = data.translate(high)
    return bytes(pcm)


def to_pcm16_24k(data: bytes, audio_format: str) -> bytes:
    """What ears get: PCM16 at 24 kHz, whatever came over the wire."""
    if audio_format == "audio/pcm":
        return data if len(data) % 2 == 0 else data[:-1]
    slow = _samples(g711_to_pcm16(data, audio_format))
    if not slow:
        return b""
    following = slow[1:]
    following.append(slow[-1])
    fast = array("h", bytes(6 * len(slow)))
    fast[0::3] = slow
    fast[1::3] = array("h", [(2 * here + there) // 3 for here, there in zip(slow, following, strict=True)])
    fast[2::3] = array("h", [(here + 2 * there) // 3 for here, there in zip(slow, following, strict=True)])
    return _bytes(fast)


def from_pcm16_24k(pcm: bytes, audio_format: str) -> bytes:
    """What goes over the wire for a voice's PCM16 at 24 kHz."""
    if audio_format == "audio/pcm":
        return pcm
    fast = _samples(pcm[: len(pcm) // 6 * 6])
    sums = map(add, map(add, fast[0::3], fast[1::3]), fast[2::3])
    table = _encode_table(audio_format)
    return bytes([table[total // 3 & 0xFFFF] for total in sums])
