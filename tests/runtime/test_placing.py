"""Where the caller's frames lie on the call's clock. Frames are 20 ms, times in ms."""

import base64
from collections.abc import Iterable, Sequence

import pytest

from voicebus.runtime.frames import append_frame
from voicebus.runtime.placing import HELD_UP, LATE, PCM, RATE, SETTLING, Frame, Placing, quiet_ticks

MS = RATE // 1000
BEGAN = 100.0  # s


def frame(samples: bytes = bytes(960)) -> Frame:
    return Frame(append_frame(base64.b64encode(samples).decode()), PCM, len(samples) // 2)


def heard(placing: Placing, came: Iterable[float]) -> list[Frame]:
    frames = []
    for ms in came:
        frames.append(frame())
        placing.hear(frames[-1], BEGAN + ms / 1000)
    return frames


def begins(frames: Sequence[Frame]) -> list[float]:
    return [each.begins / MS for each in frames]


def in_a_row(first: float, count: int) -> list[float]:
    return [first + 20 * number for number in range(count)]


def test_what_was_held_up_and_comes_at_once_lies_where_it_was_spoken() -> None:
    placing = Placing(BEGAN)
    frames = heard(placing, [*in_a_row(20, 50), *[1320] * 15, *in_a_row(1340, 50)])
    assert begins(frames) == in_a_row(0, 115)


def test_what_is_late_is_awaited_until_it_is_seen_that_nothing_makes_up_for_it() -> None:
    placing = Placing(BEGAN)
    (before, late, *_) = heard(placing, [20, 400, 420, 440])
    assert (before.is_placed, late.is_placed) == (True, False)
    placing.settle(400 * MS + SETTLING)
    assert not late.is_placed
    placing.settle(400 * MS + SETTLING + 1)
    assert (late.begins, late.is_placed) == (380 * MS, True)


def test_of_a_delay_that_is_made_up_for_in_part_the_rest_is_a_pause() -> None:
    placing = Placing(BEGAN)
    frames = heard(placing, [20, *[320] * 5, *in_a_row(340, 60)])
    placing.settle(10_000 * MS)
    assert begins(frames) == [0, *in_a_row(220, 65)]


def test_a_gap_is_made_up_for_as_far_as_anything_can_have_been_held_up() -> None:
    placing = Placing(BEGAN)
    frames = heard(placing, [20, *[5020] * 200])
    assert begins(frames) == [0, *in_a_row(5020 - HELD_UP / MS, 200)]


def test_what_was_decided_for_a_question_stays() -> None:
    placing = Placing(BEGAN)
    (late,) = heard(placing, [400])
    assert placing.moment(late, 10 * MS) == pytest.approx(BEGAN + 0.39)
    heard(placing, [400] * 20)
    assert late.begins == 380 * MS


def test_what_lies_before_the_process_had_the_session_is_not_its_own() -> None:
    placing = Placing(BEGAN, since=BEGAN + 7)
    assert begins(heard(placing, [7001])) == [7000]


def test_frames_that_are_hardly_late_lie_behind_the_one_before() -> None:
    placing = Placing(BEGAN)
    frames = heard(placing, [20 + 20 * number + (LATE / MS if number % 2 else 0) for number in range(40)])
    assert begins(frames) == in_a_row(0, 40)


def test_a_frame_is_quiet_up_to_its_first_loud_sample() -> None:
    loud = (5000).to_bytes(2, "little")
    assert quiet_ticks(frame(bytes(960))) == 480
    assert quiet_ticks(frame(b"\x7f\x00\x81\xff" * 100 + loud * 40)) == 200
    assert quiet_ticks(frame(loud)) == 0


def test_thousands_of_tiny_frames_that_are_ever_later_are_placed_without_a_look_at_each_for_each() -> None:
    looks = 0

    class Looked(Frame, gc=False):
        def __getattribute__(self, name: str) -> object:
            nonlocal looks
            looks += name == "came"
            return super().__getattribute__(name)

    placing = Placing(BEGAN)
    data = append_frame("AAA=")
    for number in range(20_000):
        placing.hear(Looked(data, PCM, 1), BEGAN + 0.4 + number / RATE)
    placing.settle(10_000 * MS)
    assert looks < 40 * 20_000
