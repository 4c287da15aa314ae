"""What the listener heard: the maths of parity 119-123 and 2.24-2.27."""

import math

import pytest

from voicebus.engine.config import AgentSpec
from voicebus.engine.playback import PlaybackTracker
from voicebus.engine.responses import Response

RESPONSE = Response("resp_1", AgentSpec("a"), 0.0)


def heard(tracker: PlaybackTracker, item: str, ms: float, now: float, response: Response = RESPONSE) -> None:
    tracker.begin(response, item, 0, now).received += round(ms * tracker.bytes_per_ms)


@pytest.mark.parametrize(("rounding", "end_ms"), [(round, 1235), (int, 1234)])
def test_the_estimate_is_the_time_since_the_first_delta(rounding: type[int], end_ms: int) -> None:
    tracker = PlaybackTracker(48)
    heard(tracker, "a", 3000, now=10.0)
    (cut,) = tracker.interrupt(11.2347, rounding)
    assert (cut.end_ms, cut.received_ms, cut.finished) == (end_ms, 3000, False)


def test_a_cut_never_lies_beyond_what_was_received() -> None:
    tracker = PlaybackTracker(48)
    tracker.begin(RESPONSE, "a", 0, 10.0).received += 48 * 100 + 40  # 100.83 ms
    (cut,) = tracker.interrupt(60.0, round)
    assert (cut.end_ms, cut.finished) == (100, True)


def test_a_cut_at_zero_is_a_cut() -> None:
    tracker = PlaybackTracker(48)
    heard(tracker, "a", 500, now=10.0)
    (cut,) = tracker.interrupt(10.0, round)
    assert cut.end_ms == 0


def test_g711_has_eight_bytes_a_ms() -> None:
    tracker = PlaybackTracker(8)
    tracker.begin(RESPONSE, "a", 0, 0.0).received += 8000
    assert tracker.interrupt(5.0, round)[0].end_ms == 1000


def test_an_interruption_empties_the_tracker() -> None:
    tracker = PlaybackTracker(48)
    heard(tracker, "a", 500, now=10.0)
    assert tracker.interrupt(10.1, round)
    assert tracker.interrupt(10.2, round) == []


def test_audio_that_ended_long_ago_is_still_remembered_as_the_last() -> None:
    tracker = PlaybackTracker(48)
    heard(tracker, "a", 500, now=10.0)
    (cut,) = tracker.interrupt(1000.0, round)
    assert cut.finished


def test_an_item_that_arrives_while_the_one_before_plays_is_heard_after_it() -> None:
    tracker = PlaybackTracker(48)
    heard(tracker, "a", 3000, now=10.0)
    heard(tracker, "b", 3000, now=10.5)
    first, second = tracker.interrupt(12.0, round)
    assert (first.part.item_id, first.end_ms) == ("a", 2000)
    assert (second.part.item_id, second.end_ms) == ("b", 0)


def test_an_item_that_ran_dry_is_heard_on_from_when_more_of_it_came() -> None:
    tracker = PlaybackTracker(48)
    part = tracker.begin(RESPONSE, "a", 0, 10.0)
    tracker.receive(part, 48 * 500, 10.0)
    assert tracker.is_heard("a", 10.6)
    tracker.receive(part, 48 * 2000, 10.8)  # 300 ms late
    heard(tracker, "b", 1000, now=11.0)
    first, second = tracker.interrupt(11.8, round)
    assert (first.part.item_id, first.end_ms) == ("a", 1500)
    assert (second.part.item_id, second.end_ms) == ("b", 0)


def test_an_item_that_is_hardly_late_is_heard_without_a_pause() -> None:
    tracker = PlaybackTracker(48)
    part = tracker.begin(RESPONSE, "a", 0, 10.0)
    for now in (10.0, 10.13, 10.2, 10.34):
        tracker.receive(part, 48 * 100, now)
    assert tracker.ends_at("a", default=0) == pytest.approx(10.4)


def test_an_item_before_that_was_heard_to_its_end_is_not_cut() -> None:
    tracker = PlaybackTracker(48)
    heard(tracker, "a", 300, now=10.0)
    heard(tracker, "b", 3000, now=10.1)
    (cut,) = tracker.interrupt(11.3, round)
    assert (cut.part.item_id, cut.end_ms) == ("b", 1000)


def test_reports_of_the_listener_count_more_than_the_clock() -> None:
    tracker = PlaybackTracker(48)
    heard(tracker, "a", 3000, now=10.0)
    assert tracker.report("a", 0, 250.7)
    assert not tracker.is_heard("a", 14.0), "the estimate says that it is over"
    (cut,) = tracker.interrupt(14.0, int)
    assert cut.end_ms == 250


def test_a_listener_that_reports_has_heard_nothing_of_what_it_does_not_report() -> None:
    tracker = PlaybackTracker(48)
    heard(tracker, "a", 100, now=10.0)
    tracker.report("a", 0, 100)
    heard(tracker, "b", 3000, now=11.0)
    assert tracker.interrupt(13.0, round)[-1].end_ms == 0


@pytest.mark.parametrize("played", [math.nan, math.inf])
def test_a_report_that_is_no_number_is_refused(played: float) -> None:
    tracker = PlaybackTracker(48)
    heard(tracker, "a", 3000, now=10.0)
    assert not tracker.report("a", 0, played)
    assert not tracker.report("unknown", 0, 10)


def test_a_negative_report_counts_as_nothing_heard() -> None:
    tracker = PlaybackTracker(48)
    heard(tracker, "a", 3000, now=10.0)
    tracker.report("a", 0, -5)
    assert tracker.interrupt(11.0, int)[0].end_ms == 0


def test_a_listener_that_stops_reporting_does_not_hold_an_item_back_for_ever() -> None:
    tracker = PlaybackTracker(48)
    heard(tracker, "a", 1000, now=10.0)
    tracker.report("a", 0, 100)
    assert not tracker.is_heard("a", 20.0)
    assert tracker.is_heard("a", 21.0)


def test_an_interruption_may_be_for_one_response_only() -> None:
    tracker = PlaybackTracker(48)
    other = Response("resp_2", AgentSpec("a"), 0.0)
    heard(tracker, "a", 3000, now=10.0)
    heard(tracker, "b", 3000, now=10.0, response=other)
    assert [cut.part.item_id for cut in tracker.interrupt(11.0, round, response_id="resp_1")] == ["a"]
    assert list(tracker.parts) == [("b", 0)]


def test_what_a_tracker_of_the_program_never_told_of_is_unknown() -> None:
    tracker = PlaybackTracker(48, tracked=True)
    heard(tracker, "a", 500, now=10.0)
    (cut,) = tracker.interrupt(10.1, round)
    assert cut.unknown
    heard(tracker, "b", 500, now=11.0)
    assert tracker.report("b", 0, 200)
    (cut,) = tracker.interrupt(11.1, round)
    assert (cut.unknown, cut.end_ms) == (False, 200)
    heard(tracker, "c", 500, now=12.0)
    assert tracker.interrupt(12.1, round)[0].unknown


def test_what_a_listener_without_a_tracker_heard_is_always_estimated() -> None:
    tracker = PlaybackTracker(48)
    heard(tracker, "a", 500, now=10.0)
    assert not tracker.interrupt(10.1, round)[0].unknown
