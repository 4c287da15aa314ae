"""How long calls take, by those that ended last."""

from voicebus.runtime.durations import Durations


def test_too_few_calls_tell_nothing() -> None:
    took = Durations()
    for _ in range(3):
        took.ended(5)
        assert took.quick_ms() is None
    took.ended(5)
    assert took.quick_ms() == 5


def test_of_quick_and_slow_ones_the_quick_count_and_old_ones_are_forgotten() -> None:
    took = Durations()
    for took_ms in (1, 9000, 9000, 9000, 9000, 9000, 9000, 2):
        took.ended(took_ms)
    assert took.quick_ms() == 9000
    took.ended(3)
    assert took.quick_ms() == 3
    for _ in range(32):
        took.ended(70)
    assert took.quick_ms() == 70


def test_the_mean_counts_once_one_long_call_is_not_most_of_it() -> None:
    took = Durations()
    for _ in range(15):
        took.ended(100)
        assert took.mean_ms() is None
    took.ended(1700)
    assert took.mean_ms() == 200
