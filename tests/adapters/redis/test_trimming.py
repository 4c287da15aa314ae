"""Places in a stream."""

from voicebus.adapters.redis.trimming import after, position


def test_ids_compare_as_numbers_also_those_without_a_second_part() -> None:
    assert max(["9-9", "10-2", "10-10"], key=position) == "10-10"
    assert position("7") == position("7-0")
    assert after("10-9") == "10-10"
