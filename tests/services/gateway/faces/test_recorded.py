"""What a session's owner remembers of its recorded events, where another gateway had begun it."""

from types import SimpleNamespace

import pytest

from voicebus_services.gateway.faces import recorded
from voicebus_services.gateway.faces.recorded import Recorded, RecordedLog


@pytest.mark.parametrize(("grace_s", "lasts_s"), [(0, 60), (60, 60), (600, 600)])
def test_what_a_former_gateway_told_beyond_what_it_wrote_counts_as_unknown_while_its_readers_come_back(
    monkeypatch: pytest.MonkeyPatch, grace_s: float, lasts_s: float
) -> None:
    now = 1000.0
    monkeypatch.setattr(recorded, "time", SimpleNamespace(monotonic=lambda: now))
    log = RecordedLog()
    log.inherit(5, grace_s=grace_s)
    for seq in (6, 7):
        log.add(Recorded(seq, "turn_ended", b"{}"))
    now += lasts_s - 1
    assert [log.known(seq) for seq in (4, 5, 6, 9)] == [4, 5, 5, 5]
    assert [event.seq for event in log.after(log.known(9))] == [6, 7]
    now += 2
    assert [log.known(seq) for seq in (4, 6, 9)] == [4, 6, 7]


def test_who_has_read_more_than_there_is_of_a_session_that_has_ended_hears_of_its_end_and_of_all_that_may_be_void(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(recorded, "time", SimpleNamespace(monotonic=lambda: now))
    log = RecordedLog()
    log.inherit(5)
    for seq, kind in ((6, "turn_ended"), (7, "turn_ended"), (8, "session_ended")):
        log.add(Recorded(seq, kind, b"{}"))
    log.close()
    assert [log.known(seq) for seq in (4, 8, 9)] == [4, 5, 5]
    now += 61
    assert [log.known(seq) for seq in (4, 8, 9)] == [4, 8, 7]


def test_a_log_that_nobody_had_before_knows_what_it_has_told() -> None:
    log = RecordedLog()
    log.add(Recorded(1, "session_started", b"{}"))
    assert [log.known(seq) for seq in (0, 1, 3)] == [0, 1, 1]
