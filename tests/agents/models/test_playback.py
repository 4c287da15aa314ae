"""What a program's playback tracker counts, and whom it tells."""

import asyncio
import threading

import pytest

from support.waiting import wait_until
from voicebus.agents.models.playback import RealtimePlaybackState, RealtimePlaybackTracker

Reports = list[tuple[str, int, float]]


def tracker_with_reports() -> tuple[RealtimePlaybackTracker, Reports]:
    reports: Reports = []
    tracker = RealtimePlaybackTracker()
    tracker.bind(lambda item_id, index, ms: reports.append((item_id, index, ms)))
    return tracker, reports


def test_nothing_is_current_before_anything_was_played() -> None:
    assert RealtimePlaybackTracker().get_state() == {
        "current_item_id": None,
        "current_item_content_index": None,
        "elapsed_ms": None,
    }


def test_played_time_adds_up_and_another_part_starts_at_zero() -> None:
    tracker = RealtimePlaybackTracker()
    tracker.on_play_ms("a", 0, 20)
    tracker.on_play_ms("a", 0, 20.5)
    assert tracker.get_state() == {"current_item_id": "a", "current_item_content_index": 0, "elapsed_ms": 40.5}
    tracker.on_play_ms("a", 1, 10)
    assert tracker.get_state() == {"current_item_id": "a", "current_item_content_index": 1, "elapsed_ms": 10}
    tracker.on_play_ms("b", 0, 0)
    assert tracker.get_state() == {"current_item_id": "b", "current_item_content_index": 0, "elapsed_ms": 0}


def test_nothing_is_current_once_playback_was_interrupted() -> None:
    tracker = RealtimePlaybackTracker()
    tracker.on_play_ms("a", 0, 20)
    tracker.on_interrupted()
    assert tracker.get_state()["current_item_id"] is None
    tracker.on_play_ms("a", 0, 5)
    assert tracker.get_state()["elapsed_ms"] == 5


@pytest.mark.parametrize(
    ("audio_format", "ms"),
    [
        (None, 100),
        ("pcm16", 100),
        ({"type": "audio/pcm", "rate": 24000}, 100),
        ("g711_ulaw", 600),
        ("audio/pcma", 600),
        ({"type": "audio/pcmu"}, 600),
        ("unheard-of", 100),
    ],
)
def test_bytes_count_by_the_format_of_the_output(audio_format: "str | dict[str, object] | None", ms: float) -> None:
    tracker = RealtimePlaybackTracker()
    if audio_format is not None:
        tracker.set_audio_format(audio_format)
    tracker.on_play_bytes("a", 0, bytes(4800))
    assert tracker.get_state()["elapsed_ms"] == ms


async def test_whoever_is_bound_hears_at_once_what_was_played_until_unbound() -> None:
    tracker, reports = tracker_with_reports()
    tracker.on_play_ms("a", 0, 20)
    tracker.on_play_bytes("a", 0, bytes(480))
    assert reports == [("a", 0, 20), ("a", 0, 30)]
    tracker.unbind()
    tracker.on_play_ms("a", 0, 20)
    assert len(reports) == 2


async def test_a_tracker_that_keeps_the_account_itself_is_asked_for_it_until_unbound() -> None:
    class Player(RealtimePlaybackTracker):
        item: str | None = None
        at_ms = 0.0
        asked = 0

        def get_state(self) -> RealtimePlaybackState:
            self.asked += 1
            return {"current_item_id": self.item, "current_item_content_index": 0, "elapsed_ms": self.at_ms}

    reports: Reports = []
    player = Player()
    player.bind(lambda item_id, index, ms: reports.append((item_id, index, ms)))
    player.item, player.at_ms = "a", 20
    await wait_until(lambda: reports == [("a", 0, 20)], description="the first report")
    asked = player.asked
    await wait_until(lambda: player.asked > asked, description="the next question")
    player.at_ms = 40
    await wait_until(lambda: len(reports) > 1, description="the second report")
    player.item = None
    player.unbind()
    asked = player.asked
    assert reports == [("a", 0, 20), ("a", 0, 40)]
    await asyncio.sleep(0.05)
    assert player.asked == asked


async def test_a_tracker_that_cannot_tell_now_is_asked_again_and_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    class Player(RealtimePlaybackTracker):
        device: str | None = None
        asked = 0

        def get_state(self) -> RealtimePlaybackState:
            self.asked += 1
            if self.device is None:
                raise OSError("no device")
            return {"current_item_id": "a", "current_item_content_index": 0, "elapsed_ms": 20}

    reports: Reports = []
    player = Player()
    player.bind(lambda item_id, index, ms: reports.append((item_id, index, ms)))
    await wait_until(lambda: player.asked > 2, description="more questions")
    player.device = "speaker"
    await wait_until(lambda: reports, description="the report")
    player.unbind()
    assert reports == [("a", 0, 20)]
    assert caplog.text.count("a playback tracker does not tell") == 1


async def test_reports_of_an_audio_thread_arrive_on_the_loop() -> None:
    threads: list[int] = []
    tracker = RealtimePlaybackTracker()
    arrived = asyncio.Event()

    def hear(item_id: str, index: int, ms: float) -> None:
        threads.append(threading.get_ident())
        arrived.set()

    tracker.bind(hear)
    device = threading.Thread(target=tracker.on_play_bytes, args=("a", 0, bytes(480)))
    device.start()
    device.join()
    await asyncio.wait_for(arrived.wait(), 5)
    assert threads == [threading.get_ident()]


async def test_a_report_may_come_back_as_an_interruption() -> None:
    tracker = RealtimePlaybackTracker()
    tracker.bind(lambda *_: tracker.on_interrupted())
    tracker.on_play_ms("a", 0, 20)
    assert tracker.get_state()["current_item_id"] is None
