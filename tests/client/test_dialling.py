"""One attempt to open a connection, and how long to wait before the next."""

import pytest

from voicebus.client.dialling import LONGEST_DELAY_S, delay


@pytest.mark.parametrize("attempt", [0, 1, 10, 2_000, 1_000_000])
def test_however_often_it_was_tried_the_next_attempt_is_soon(attempt: int) -> None:
    assert 0 < delay(attempt) <= LONGEST_DELAY_S
