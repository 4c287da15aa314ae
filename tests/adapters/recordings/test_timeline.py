"""Where sound lies on the clock of a call."""

import base64
from collections.abc import Iterable, Iterator
from random import Random

import pytest

from voicebus.adapters.recordings.timeline import LAG, AgentTrack, CallerTrack, Piece
from voicebus.engine.config import AgentSpec
from voicebus.engine.playback import PlaybackTracker
from voicebus.engine.responses import Response
from voicebus.runtime.frames import append_frame
from voicebus.runtime.placing import RATE, Frame, Placing, ticks_of

MS = RATE // 1000


def pcm(ms: float, value: int = 1) -> bytes:
    return value.to_bytes(2, "little") * round(ms * MS)


class Caller(CallerTrack):
    """A caller's track that has their frames placed itself."""

    def __init__(self, begins: int = 0) -> None:
        self.placing = Placing(0.0, since=begins / RATE)
        super().__init__(self.placing, begins)

    def say(self, kind: str, samples: bytes, came: int) -> None:
        text = base64.b64encode(samples).decode()
        frame = Frame(append_frame(text), kind, ticks_of(kind, len(samples)))
        self.placing.hear(frame, came / RATE)
        self.hear(frame)


def layout(pieces: Iterable[Piece]) -> list[tuple[int, int, int]]:
    """`(value, from, to)` in ms of each stretch of sound; silence is what is left out."""
    at, found = 0, list[tuple[int, int, int]]()
    for piece in pieces:
        if piece.samples:
            value = int.from_bytes(piece.samples[:2], "little")
            begins, ends = round(at / MS), round((at + piece.ticks) / MS)
            if found and found[-1][0] == value and found[-1][2] == begins:
                begins = found.pop()[1]
            found.append((value, begins, ends))
        at += piece.ticks
    return found


def taken(track: Caller | AgentTrack, upto_ms: int, every_ms: int = 1000) -> list[Piece]:
    """All pieces, asked for again and again."""
    return [piece for ms in range(0, upto_ms, every_ms) for piece in track.take(ms * MS)] + list(
        track.take(upto_ms * MS)
    )


def length(pieces: Iterable[Piece]) -> int:
    return sum(piece.ticks for piece in pieces) // MS


# --- the caller -----------------------------------------------------------------------------------


def test_a_frame_ends_when_it_came() -> None:
    track = Caller()
    track.say("audio/pcm", pcm(20), 500 * MS)
    assert layout(track.take(2000 * MS)) == [(1, 480, 500)]


def jittered(late: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Frames of 20 ms that were spoken without a break, and came so late."""
    arrived = 0
    for number, by in enumerate(late, start=1):
        arrived = max(arrived, number * 20 + by)
        yield arrived, pcm(20)


@pytest.mark.parametrize(
    "late", [[0] * 200, [3, 17, 0, 9, 30] * 40, [0] * 50 + [300] + [0] * 149, [25, 0, 38] * 60], ids=str
)
def test_frames_of_one_breath_stay_together_however_the_network_delays_them(late: list[int]) -> None:
    track, pieces, asked = Caller(), list[Piece](), 0
    for came, frame in jittered(late):
        # Asked for every second, as a recording does, of what lies a while back.
        while came * MS >= asked + RATE:
            asked += RATE
            pieces += track.take(max(0, asked - LAG))
        track.say("audio/pcm", frame, came * MS)
    pieces += track.take(len(late) * 20 * MS)
    ((value, begins, ends),) = layout(pieces)
    assert value == 1
    assert [begins, ends] == pytest.approx([0, len(late) * 20], abs=40)


def test_a_pause_is_silence_of_its_length() -> None:
    track = Caller()
    for came in (20, 40, 60, 1500, 1520):
        track.say("audio/pcm", pcm(20), came * MS)
    assert layout(taken(track, 3000, 100)) == [(1, 0, 60), (1, 1480, 1520)]


def test_sound_that_came_at_once_begins_when_it_came_and_lasts_as_long_as_it_does() -> None:
    track = Caller()
    track.say("audio/pcm", pcm(5000), 1000 * MS)
    assert layout(track.take(9000 * MS)) == [(1, 800, 5800)]


def test_sound_that_is_too_far_ahead_of_the_clock_is_left_out_and_counted() -> None:
    track = Caller()
    for _ in range(7):
        track.say("audio/pcm", pcm(10_000), 0)
    assert track.dropped == 10 * RATE
    assert length(track.take(70 * RATE)) == 70_000


@pytest.mark.parametrize(
    ("kind", "quiet", "loud"),
    [
        ("audio/pcm", b"\x05\x00" * 480, b"\x00\x10" * 480),
        ("audio/pcmu", b"\xff\x7e" * 80, b"\x90" * 160),
        ("audio/pcma", b"\xd5\x54" * 80, b"\x35" * 160),
    ],
)
def test_a_caller_who_is_back_and_says_again_what_was_lost_is_in_time_after_the_next_quiet_moment(
    kind: str, quiet: bytes, loud: bytes
) -> None:
    track = Caller(1000 * MS)
    track.placing.back()
    for frame in [quiet] * 100 + [loud] * 25:  # two seconds of nothing, and half a second of speech
        track.say(kind, frame, 1000 * MS)
    for number in range(1, 201):
        track.say(kind, loud if number > 100 else quiet, (1000 + 20 * number) * MS)
    pieces = [Piece(1000 * MS), *track.take(6000 * MS)]
    at = 0
    begins = []
    for piece in pieces:
        if piece.samples == loud:
            begins.append(at / MS)
        at += piece.ticks
    assert begins[:25] == pytest.approx([1000 + 20 * number for number in range(25)], abs=45)
    assert begins[25:] == pytest.approx([3000 + 20 * number for number in range(100)], abs=45)


def test_who_was_never_away_and_sends_it_all_at_once_has_every_pause_of_it_kept() -> None:
    track = Caller()
    for value in (9000, 1, 9000):
        for _ in range(50):
            track.say("audio/pcm", pcm(20, value), 0)
    assert layout(taken(track, 5000)) == [(9000, 0, 1000), (1, 1000, 2000), (9000, 2000, 3000)]


@pytest.mark.parametrize("seed", range(20))
def test_however_frames_come_each_sample_is_there_once_and_in_its_order(seed: int) -> None:
    random = Random(seed)
    track, pieces, now, asked, said = Caller(), list[Piece](), 0.0, 0, list[int]()
    while now < 20_000:
        now += random.choices([0, 20, random.uniform(0, 300), random.uniform(0, 3000)], [30, 50, 15, 5])[0]
        while now * MS >= asked + RATE:
            asked += RATE
            pieces += track.take(max(0, asked - LAG))
        ms = random.choice([1, 20, 20, 50, 100, 500])
        said.append(ms)
        track.say("audio/pcm", pcm(ms, len(said)), round(now * MS))
    pieces += track.take(200 * RATE)
    assert length([piece for piece in pieces if piece.samples]) == sum(said)
    values = [int.from_bytes(piece.samples[:2], "little") for piece in pieces if piece.samples]
    assert values == sorted(values)


# --- the agent ------------------------------------------------------------------------------------


def test_an_answer_that_comes_faster_than_it_is_heard_lies_where_it_is_heard() -> None:
    track = AgentTrack()
    for _ in range(10):
        track.say("a", 0, "audio/pcm", pcm(100), 500 * MS)
    track.say("b", 0, "audio/pcm", pcm(50, 2), 600 * MS)
    assert layout(taken(track, 2000, 130)) == [(1, 500, 1500), (2, 1500, 1550)]


def test_an_answer_that_comes_as_it_is_spoken_has_no_holes() -> None:
    track = AgentTrack()
    for number, late in enumerate([0, 9, 3, 31, 12, 0, 5]):
        track.say("a", 0, "audio/pcm", pcm(50), (100 + number * 50 + late) * MS)
    assert layout(track.take(1000 * MS)) == [(1, 100, 450)]


def test_an_answer_that_runs_dry_goes_on_when_it_comes() -> None:
    track = AgentTrack()
    track.say("a", 0, "audio/pcm", pcm(50), 100 * MS)
    track.say("a", 0, "audio/pcm", pcm(50), 400 * MS)
    assert layout(track.take(1000 * MS)) == [(1, 100, 150), (1, 400, 450)]


def test_what_was_not_heard_of_an_interrupted_answer_is_not_there_and_the_next_one_begins_at_once() -> None:
    track = AgentTrack()
    for _ in range(4):
        track.say("a", 0, "audio/pcm", pcm(300), 100 * MS)
    before = list(track.take(200 * MS))
    track.cut("a", 0, 450)
    track.say("b", 0, "audio/pcm", pcm(100, 2), 600 * MS)
    assert layout([*before, *track.take(2000 * MS)]) == [(1, 100, 550), (2, 600, 700)]


def test_a_cut_before_what_is_written_already_leaves_that() -> None:
    track = AgentTrack()
    track.say("a", 0, "audio/pcm", pcm(1000), 0)
    before = list(track.take(500 * MS))
    track.cut("a", 0, 300)
    track.say("b", 0, "audio/pcm", pcm(100, 2), 550 * MS)
    assert layout([*before, *track.take(1000 * MS)]) == [(1, 0, 500), (2, 550, 650)]


def test_while_nobody_listens_the_sound_stands_still_and_then_goes_on() -> None:
    track = AgentTrack()
    track.say("a", 0, "audio/pcm", pcm(1000), 0)
    track.hold(400 * MS)
    track.say("b", 0, "audio/pcm", pcm(100, 2), 900 * MS)
    before = list(track.take(1500 * MS))
    track.go_on(2000 * MS)
    assert layout([*before, *track.take(4000 * MS)]) == [(1, 0, 400), (1, 2000, 2600), (2, 2600, 2700)]


def test_the_transcript_and_the_recording_agree_where_each_part_of_an_answer_lies() -> None:
    came = [(0, "a", 300), (200, "a", 300), (1000, "a", 400), (1035, "a", 1500), (1500, "b", 800), (4000, "b", 500)]
    track, tracker = AgentTrack(), PlaybackTracker(48)
    begun = dict[str, float]()
    for now_ms, item, ms in came:
        now, part = now_ms / 1000, tracker.parts.get((item, 0))
        if part is None:
            part = tracker.begin(Response("resp", AgentSpec("a"), 0.0), item, 0, now)
            begun[item] = tracker.starts_at(part, now) * 1000
        tracker.receive(part, ms * 48, now)
        track.say(item, 0, "audio/pcm", pcm(ms, 1 if item == "a" else 2), now_ms * MS)
    pieces = layout(track.take(9000 * MS))
    assert pieces == [(1, 0, 600), (1, 1000, 2900), (2, 2900, 3700), (2, 4000, 4500)]
    assert begun == pytest.approx({"a": 0, "b": 2900})
    assert tracker.ends_at("b", default=0) * 1000 == pytest.approx(4500)


def test_sound_that_is_far_ahead_of_its_being_heard_is_left_out_and_counted() -> None:
    track = AgentTrack()
    for _ in range(61):
        track.say("a", 0, "audio/pcm", pcm(10_000), 0)
    assert track.dropped == 10 * RATE


@pytest.mark.parametrize("kind", ["audio/pcmu", "audio/pcma"])
def test_a_byte_of_g711_is_three_ticks(kind: str) -> None:
    assert ticks_of(kind, 8000) == RATE
    track = AgentTrack()
    track.say("a", 0, kind, bytes(8000), 0)
    pieces = taken(track, 1000, 37)
    assert length(pieces) == 1000
    assert sum(len(piece.samples) for piece in pieces) == 8000
