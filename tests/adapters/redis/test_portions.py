"""How many entries are asked for at once, by what those before weighed."""

import pytest

from voicebus.adapters.redis.portions import ALL_BYTES, FIRST, LEAST_BYTES, MOST, Portion

RESULT = 262_144
"""The largest result of a tool, by default."""


def read(portion: Portion, size: int, *, times: int = 1) -> int:
    """Entries of this size, as many as are asked for each time; how many the next time."""
    for _ in range(times):
        portion.took([{"data": "x" * size}] * portion.count)
    return portion.count


def test_small_entries_are_soon_read_by_hundreds() -> None:
    assert read(Portion(16), 300, times=7) == MOST


def test_the_first_of_a_shard_are_few_and_large_ones_stay_few() -> None:
    portion = Portion(16)
    assert portion.count == FIRST
    assert read(portion, RESULT) == ALL_BYTES // 16 // RESULT == 4
    assert read(portion, 2 * ALL_BYTES) == 1
    assert read(portion, 2 * ALL_BYTES) == 1, "one at least is always read"


def test_one_that_is_large_does_not_keep_the_small_ones_after_it_waiting() -> None:
    portion = Portion(16)
    read(portion, 2 * ALL_BYTES)
    assert read(portion, 300, times=9) == MOST


def test_where_a_few_come_at_a_time_a_few_are_asked_for_as_a_backlog_of_others_may_follow() -> None:
    portion = Portion(16)
    read(portion, 300, times=9)
    portion.took([{"data": "x" * 300}] * 3)
    assert portion.count == FIRST
    portion.took([{"data": "x" * 300}] * FIRST)
    assert portion.count == 2 * FIRST


@pytest.mark.parametrize("shards", [1, 16, 128])
def test_all_shards_together_hold_what_a_pod_has_room_for(shards: int) -> None:
    portion, size = Portion(shards), 10_000
    held = shards * read(portion, size, times=20) * size
    assert held <= max(ALL_BYTES, shards * LEAST_BYTES)


def test_nothing_to_read_changes_nothing() -> None:
    portion = Portion(16)
    before = read(portion, 300, times=3)
    portion.took([])
    assert portion.count == before
