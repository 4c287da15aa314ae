"""How often credentials may fail."""

import pytest

from voicebus_services.access import failures as module
from voicebus_services.access.failures import Failures


def test_without_a_limit_nothing_is_counted() -> None:
    failures = Failures(0)
    for _ in range(1000):
        failures.failed("10.0.0.1", "wrong")
    assert failures.wait("10.0.0.1", "wrong") == 0


def test_what_is_known_is_bounded_and_who_fails_on_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KNOWN", 10)
    failures = Failures(10, clock=lambda: 0.0)
    for number in range(100):
        failures.failed("10.0.0.1", "guessed!")
        failures.failed(f"10.1.0.{number}", "wrong")
    assert failures.wait("10.0.0.1", "guessed!") > 0
    assert failures.wait("10.1.0.0", "wrong") == 0, "forgotten"
    assert len(failures._buckets) == 10


def test_who_has_a_whole_network_of_addresses_has_no_more_tries() -> None:
    failures = Failures(1, clock=lambda: 0.0)
    failures.failed("2001:db8::1", "wrong")
    assert failures.wait("2001:db8::ffff:1", "other") == 60.0
    assert failures.wait("2001:db8:0:1::1", "other") == 0


def test_a_client_without_an_address_is_counted_as_well() -> None:
    failures = Failures(1, clock=lambda: 0.0)
    failures.failed(None, "\udcff")
    assert failures.wait(None, "\udcff") == 60.0


def test_whom_it_turned_away_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    times = iter([0.0, 1.0, 59.0, 60.0])
    failures = Failures(1, clock=lambda: next(times))
    for _ in range(3):
        failures.turned_away("10.0.0.1")
    assert caplog.text.count("too many wrong credentials from one address") == 1
    assert "address=10.0.0.1" in caplog.text
    failures.turned_away("10.0.0.2")
    assert caplog.text.count("too many wrong credentials from one address") == 2
    assert "address=10.0.0.2" in caplog.text
