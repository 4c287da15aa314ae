"""The query of an upgrade to the native face."""

import pytest

from voicebus.errors import UsageError
from voicebus_services.gateway.faces.native_address import MAX_SEQ, Wishes, wishes


def test_what_is_left_out_has_its_default() -> None:
    assert (
        wishes({}) == wishes({"seq": "", "audio": "", "raw": "", "observe": ""}) == Wishes(0, None, False, False, None)
    )


def test_each_wish_is_understood() -> None:
    query = {"seq": "007", "audio": "json", "raw": "true", "observe": "1", "record": "0"}
    assert wishes(query) == Wishes(7, "json", raw=True, observes=True, consent=False)


@pytest.mark.parametrize("digits", [1, 16, 17, 40, 5000])
def test_a_seq_beyond_all_that_can_be_is_the_highest(digits: int) -> None:
    assert wishes({"seq": "9" * digits}).after_seq == min(int("9" * min(digits, 20)), MAX_SEQ)
    assert wishes({"seq": "0" * digits + "5"}).after_seq == 5


@pytest.mark.parametrize("seq", ["abc", "-1", "1.5", "٣", "1e3", "0x1"])
def test_a_seq_that_is_none_is_refused(seq: str) -> None:
    with pytest.raises(UsageError, match=r"^seq is .* a whole number from 0 on, is allowed$"):
        wishes({"seq": seq})
