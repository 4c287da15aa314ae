"""A token bucket."""

from voicebus_services.bucket import Bucket


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_given_at_once_and_the_rate_after_it() -> None:
    clock = Clock()
    bucket = Bucket(3, 30, clock=clock)
    assert [bucket.spend(10) for _ in range(4)] == [True, True, True, False]
    clock.now = 3.0
    assert not bucket.spend(10)
    clock.now = 3.5
    assert bucket.spend(10)


def test_more_than_a_burst_is_given_to_a_full_bucket_and_worked_off() -> None:
    clock = Clock()
    bucket = Bucket(3, 30, clock=clock)
    assert bucket.spend(90)
    clock.now = 20.0
    assert not bucket.spend(1)
    clock.now = 20.5
    assert bucket.spend(1)


def test_what_is_taken_all_the_same_says_how_long_it_has_to_be_worked_off() -> None:
    clock = Clock()
    bucket = Bucket(10, 20, clock=clock)
    assert [bucket.take(10), bucket.take(10), bucket.take(5)] == [0.0, 0.0, 0.5]
    clock.now = 100.0
    assert [bucket.take(20), bucket.take(1)] == [0.0, 0.1]
