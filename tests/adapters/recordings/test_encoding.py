"""Two channels as Ogg Opus: judged by FFmpeg's demuxer and decoder, which is not what wrote them."""

import pytest

from support.sounds import opened, silence, sound, stretch, stretches, tone
from voicebus.adapters.recordings.encoding import StereoEncoder, stitch
from voicebus.adapters.recordings.timeline import Piece
from voicebus_services.model_simulator.protocol.audio import from_pcm16_24k


def test_both_channels_keep_their_places() -> None:
    encoder = StereoEncoder()
    data = encoder.write([silence(1000), sound(500)], [silence(2000), sound(700)])
    data += encoder.write([silence(2500)], [silence(1300)])
    duration, caller, agent = opened(data + encoder.close())
    assert duration == pytest.approx(4.0, abs=0.05)
    assert stretch(caller) == pytest.approx((1.0, 1.5), abs=0.03)
    assert stretch(agent) == pytest.approx((2.0, 2.7), abs=0.03)


@pytest.mark.parametrize("kind", ["audio/pcmu", "audio/pcma"])
def test_telephone_sound_keeps_its_place_beside_the_other_format(kind: str) -> None:
    encoder, data = StereoEncoder(), b""
    coded = from_pcm16_24k(tone(1000), kind)
    for start in range(0, len(coded), 160):
        data += encoder.write([Piece(480, kind, coded[start : start + 160])], [sound(20)])
    data += encoder.write([silence(1000)], [silence(1000)])
    duration, caller, agent = opened(data + encoder.close())
    assert duration == pytest.approx(2.0, abs=0.05)
    assert stretch(caller) == pytest.approx(stretch(agent), abs=0.03)


@pytest.mark.parametrize(("kind", "quiet"), [("audio/pcmu", b"\xff"), ("audio/pcma", b"\xd5")])
def test_a_silence_of_the_telephone_takes_no_room(kind: str, quiet: bytes) -> None:
    encoder, data = StereoEncoder(), b""
    for _ in range(20):
        data += encoder.write([Piece(24_000, kind, quiet * 8000)], [silence(1000)])
    assert len(data + encoder.close()) < 20 * 1000  # 8 kbit/s


@pytest.mark.parametrize("kind", ["audio/pcmu", "audio/pcma"])
def test_the_loudest_sound_of_the_telephone_is_heard_as_it_is(kind: str) -> None:
    samples = tone(1000)
    square = b"".join(b"\xff\x7f" if samples[at + 1] < 128 else b"\x00\x80" for at in range(0, len(samples), 2))
    encoder = StereoEncoder()
    data = encoder.write([Piece(24_000, kind, from_pcm16_24k(square, kind))], [silence(1000)])
    _, caller, _ = opened(data + encoder.close())
    # One that has run over would jump from one end to the other within a period, where it is to stay.
    assert abs(float((caller[4800:-4800] > 0.5).mean()) - 0.5) < 0.05


def test_what_was_written_so_far_is_a_file_too() -> None:
    encoder = StereoEncoder()
    data = b"".join(encoder.write([sound(1000)], [silence(1000)]) for _ in range(10))
    duration, caller, _ = opened(data)
    assert 8.5 <= duration <= 10
    assert stretch(caller)[1] == pytest.approx(duration, abs=0.1)


def test_the_last_sound_of_the_caller_ends_with_the_call() -> None:
    encoder = StereoEncoder()
    data = encoder.write([sound(3000)], [silence(1000)]) + encoder.close()
    assert opened(data)[0] == pytest.approx(1.0, abs=0.05)
    encoder = StereoEncoder()
    data = encoder.write([sound(500)], [silence(1000)]) + encoder.close()
    assert opened(data)[0] == pytest.approx(1.0, abs=0.05)


def test_segments_become_one_recording_with_silence_between_them() -> None:
    def segment(ms: int) -> bytes:
        encoder = StereoEncoder()
        return encoder.write([sound(ms)], [silence(ms)]) + encoder.close()

    duration, caller, _ = opened(stitch([(500, segment(1000)), (2000, segment(1000)), (2500, segment(1000))]))
    assert duration == pytest.approx(3.5, abs=0.05)
    assert stretches(caller) == [pytest.approx((0.5, 1.5), abs=0.03), pytest.approx((2.0, 3.5), abs=0.03)]


def test_nothing_at_all_is_a_recording_of_no_length() -> None:
    assert StereoEncoder().close().startswith(b"OggS")
