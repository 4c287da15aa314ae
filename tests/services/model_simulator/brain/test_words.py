"""Numbers, dates, codes and addresses as people say them and as recognisers write them."""

from datetime import date, time

import pytest

from voicebus_services.model_simulator.brain.associations import similarity
from voicebus_services.model_simulator.brain.schema import read_tool
from voicebus_services.model_simulator.brain.tokens import as_written, clean, split_name, stem
from voicebus_services.model_simulator.brain.utterance import Utterance

MONDAY = date(2026, 11, 23)


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("twenty five", 25), ("twenty-five", 25), ("two hundred and fifty", 250), ("1,200", 1200), ("3.5", 3.5),
        ("one thousand two hundred", 1200), ("two and a half", 2.5), ("three point one four", 3.14), ("a dozen", 12),
        ("minus five", -5), ("a hundred", 100), ("$20", 20), ("fifty percent", 50), ("two million", 2_000_000),
    ],
)  # fmt: skip
def test_a_number_is_read_from_words_and_figures(said: str, value: float) -> None:
    assert [n.value for n in Utterance(f"it is {said} please", MONDAY).numbers] == [value]


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("ten minutes", 600),
        ("half an hour", 1800),
        ("an hour and a half", 5400),
        ("1 hour and 30 minutes", 5400),
        ("90 seconds", 90),
    ],
)
def test_a_length_of_time_is_read_in_seconds(said: str, seconds: float) -> None:
    assert [n.seconds for n in Utterance(said, MONDAY).numbers] == [seconds]


@pytest.mark.parametrize(
    ("said", "day"),
    [
        ("tomorrow", date(2026, 11, 24)), ("the day after tomorrow", date(2026, 11, 25)),
        ("next Friday", date(2026, 11, 27)),
        ("on Monday", date(2026, 11, 30)), ("the 3rd of May", date(2027, 5, 3)), ("December 24th", date(2026, 12, 24)),
        ("May 3 2028", date(2028, 5, 3)), ("2026-12-01", date(2026, 12, 1)), ("in three days", date(2026, 11, 26)),
        ("two weeks ago", date(2026, 11, 9)), ("Friday next week", date(2026, 12, 4)), ("the 30th", date(2026, 11, 30)),
        ("last Friday", date(2026, 11, 20)),
    ],
)  # fmt: skip
def test_a_date_is_counted_from_today(said: str, day: date) -> None:
    assert [m.day for m in Utterance(said, MONDAY).moments] == [day]


@pytest.mark.parametrize(
    ("said", "clock"),
    [
        ("at 7 p.m.", time(19)), ("at 7pm", time(19)), ("half past three", time(15, 30)),
        ("quarter to eight", time(7, 45)),
        ("at ten thirty a.m.", time(10, 30)), ("19:30", time(19, 30)), ("at noon", time(12)), ("at six", time(18)),
        ("eight o'clock in the morning", time(8)), ("at 12 am", time(0)), ("ten past nine", time(9, 10)),
    ],
)  # fmt: skip
def test_a_time_of_day_is_read(said: str, clock: time) -> None:
    assert [m.clock for m in Utterance(said, MONDAY).moments] == [clock]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("order A B 1 2 3", "AB123"),
        ("number XK-2040", "XK-2040"),
        ("4 5 6 7", "4567"),
        ("4-5-6-7", "4567"),
        ("code ABC 123", "ABC123"),
    ],
)
def test_a_spelled_code_is_joined(said: str, code: str) -> None:
    assert code in [c.value for c in Utterance(said, MONDAY).codes]


def test_a_spoken_email_address_is_written_out() -> None:
    said = Utterance("send it to anna dot lee at example dot com please", MONDAY)
    assert [p.value for p in said.emails] == ["anna.lee@example.com"]


def test_contractions_are_understood_apart_and_written_together() -> None:
    assert clean("I won't").split() == ["I", "will", "not"]
    assert as_written(clean("I won't, said Dr. Lee")) == "I won't, said Dr. Lee"


@pytest.mark.parametrize(
    ("left", "right"),
    [("bookings", "booking"), ("cancelled", "cancel"), ("cities", "city"), ("scheduling", "schedule")],
)
def test_forms_of_a_word_share_a_stem(left: str, right: str) -> None:
    assert stem(left) == stem(right)


def test_names_are_split_however_they_are_written() -> None:
    assert split_name("getOrderStatus") == split_name("get_order-status") == ["get", "order", "status"]


def test_related_words_are_nearer_than_unrelated_ones() -> None:
    assert similarity(stem("umbrella"), stem("rain")) > 0.4 > similarity(stem("bank"), stem("weather"))


def test_references_unions_and_nesting_of_a_schema_are_resolved() -> None:
    tool = read_tool(
        {
            "name": "f",
            "parameters": {
                "$defs": {
                    "Stay": {"type": "object", "properties": {"nights": {"type": "integer"}}, "required": ["nights"]}
                },
                "type": "object",
                "properties": {
                    "stay": {"$ref": "#/$defs/Stay"},
                    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "size": {"anyOf": [{"const": "small"}, {"const": "large"}]},
                },
                "required": ["stay", "note"],
            },
        }
    )
    nights, note, size = tool.parameters
    assert nights.path == ("stay", "nights")
    assert (nights.required, nights.types) == (True, frozenset({"integer"}))
    assert (note.nullable, note.types) == (True, frozenset({"string"}))
    assert (size.enum, size.required) == (("small", "large"), False)
