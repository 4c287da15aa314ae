"""The query of an upgrade to the native face."""

import json

import pytest

from voicebus.errors import UsageError
from voicebus_services.gateway.faces.native_address import MAX_SEQ, Wishes, wishes


def test_what_is_left_out_has_its_default() -> None:
    nothing = Wishes(0, None, raw=False, observes=False, consent=None, turns=())
    assert wishes({}) == wishes({"seq": "", "audio": "", "raw": "", "observe": "", "turns": ""}) == nothing


def test_each_wish_is_understood() -> None:
    query = {"seq": "007", "audio": "json", "raw": "true", "observe": "1", "record": "0", "turns": '[["a:b",5],["",0]]'}
    turns = (("a:b", 5), ("", 0))
    assert wishes(query) == Wishes(7, "json", raw=True, observes=True, consent=False, turns=turns)


@pytest.mark.parametrize("digits", [1, 16, 17, 40, 5000])
def test_a_seq_beyond_all_that_can_be_is_the_highest(digits: int) -> None:
    assert wishes({"seq": "9" * digits}).after_seq == min(int("9" * min(digits, 20)), MAX_SEQ)
    assert wishes({"seq": "0" * digits + "5"}).after_seq == 5


@pytest.mark.parametrize(
    "turns", ["a", "{}1", '{"a": 1}', "7", "[1]", '[["a"]]', '[["a", "1"]]', "[[1, 1]]", '[["a", true]]', "[" * 9000]
)
def test_turns_that_are_none_are_refused(turns: str) -> None:
    with pytest.raises(UsageError, match=r"^turns is .* a JSON list of at most 32 pairs"):
        wishes({"turns": turns})


def test_more_turns_than_anybody_keeps_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^turns is "):
        wishes({"turns": json.dumps([["a", 1]] * 33)})


@pytest.mark.parametrize("seq", ["abc", "-1", "1.5", "٣", "1e3", "0x1"])
def test_a_seq_that_is_none_is_refused(seq: str) -> None:
    with pytest.raises(UsageError, match=r"^seq is .* a whole number from 0 on, is allowed$"):
        wishes({"seq": seq})
