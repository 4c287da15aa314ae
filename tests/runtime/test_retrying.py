"""The one ladder of retries."""

from voicebus.runtime.retrying import retry_delay


def test_a_wait_grows_with_the_failures_and_stays_within_a_second() -> None:
    waits = [retry_delay(failures) for failures in range(50)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (0.05, 1.0)
