"""G.711 and the sizes of audio."""

import pytest

from voicebus_services.model_simulator.protocol.audio import (
    SILENCE,
    base64_text,
    decode_base64,
    from_pcm16_24k,
    g711_to_pcm16,
    to_pcm16_24k,
)

# Linear values of the codes as ITU-T G.711 tabulates them, at 16-bit scale.
REFERENCE = {
    "audio/pcmu": {0x00: -32124, 0x80: 32124, 0xFF: 0, 0x7F: 0, 0xF0: 120, 0x70: -120},
    "audio/pcma": {0xAA: 32256, 0x2A: -32256, 0xD5: 8, 0x55: -8, 0x80: 5504, 0x00: -5504},
}


@pytest.mark.parametrize("law", REFERENCE)
def test_codes_decode_to_the_values_of_the_standard(law: str) -> None:
    for code, value in REFERENCE[law].items():
        assert int.from_bytes(g711_to_pcm16(bytes([code]), law), "little", signed=True) == value


@pytest.mark.parametrize("law", REFERENCE)
def test_every_code_survives_decoding_and_encoding(law: str) -> None:
    codes = bytes(code for code in range(256) if not (law == "audio/pcmu" and code == 0x7F))
    for code in codes:
        held = to_pcm16_24k(bytes([code]) * 3, law)
        assert from_pcm16_24k(held, law) == bytes([code]) * 3


@pytest.mark.parametrize("law", SILENCE)
def test_silence_is_the_silence_of_the_format(law: str) -> None:
    assert set(from_pcm16_24k(bytes(960), law)) == set(SILENCE[law])


@pytest.mark.parametrize("law", REFERENCE)
def test_a_second_stays_a_second(law: str) -> None:
    assert len(from_pcm16_24k(bytes(48_000), law)) == 8000
    assert len(to_pcm16_24k(bytes(8000), law)) == 48_000
    assert to_pcm16_24k(b"", law) == b""


def test_base64_is_checked() -> None:
    assert decode_base64(base64_text(b"\x00\x01")) == b"\x00\x01"
    for wrong in ("A", "AA", "AAA$", "AA==AA=="):
        with pytest.raises(ValueError):  # noqa: PT011 - binascii's own, whose text is not ours
            decode_base64(wrong)
