"""What is logged of something that fails again and again."""

import logging

import pytest

from voicebus.telemetry.logging import get_logger
from voicebus.telemetry.outage import REMIND_S, Outage


def test_an_outage_is_told_at_its_beginning_rarely_and_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    outage = Outage(get_logger("voicebus.tried"), "not sent")
    outage.over(0.0)
    assert caplog.messages == []
    assert outage.failed(1.0, error="gone")
    for second in range(2, 140):
        assert not outage.failed(float(second), error="gone")
    outage.over(140.5)
    outage.over(141.5)
    assert outage.failed(200.0, error="again")
    assert REMIND_S == 60.0
    assert caplog.messages == [
        "event=not sent error=gone",
        "event=not sent, still since_s=60 times=61 error=gone",
        "event=not sent, still since_s=120 times=121 error=gone",
        "event=not sent: over after_s=139.5 times=139",
        "event=not sent error=again",
    ]
