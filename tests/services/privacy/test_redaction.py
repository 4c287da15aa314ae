"""Texts without what a tenant does not keep: whole, as JSON, and in pieces."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from voicebus.detection import Detector, Place
from voicebus_services.privacy.policy import read_policies
from voicebus_services.privacy.redaction import WITHHELD, Redaction, Rule

CARD = "4111 1111 1111 1111"


def rules(tmp_path: Path, *redact: Any) -> Redaction:
    file = tmp_path / "privacy.json"
    file.write_text(json.dumps({"default": {"redact": redact}}))
    return read_policies(file).default.redaction


def text(redaction: Redaction, written: str) -> str:
    return redaction.text(written, Counter())


def test_each_rule_leaves_its_own_word_in_the_place(tmp_path: Path) -> None:
    redaction = rules(
        tmp_path,
        "email",
        {"kind": "card", "replacement": "(a card)"},
        {"name": "order", "pattern": r"\bORD-\d+\b", "replacement": ""},
    )
    counts = Counter[str]()
    assert redaction.text(f"ann@example.org has {CARD} for ORD-12, bob@example.org", counts) == (
        "[email] has (a card) for , [email]"
    )
    assert counts == {"email": 2, "card": 1, "order": 1}


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("It is four one one one, one one one one, one one one one, one one one one, yes", "It is [card], yes"),
        ("It is four triple one double one one one double one one one double one one one.", "It is [card]."),
        ("ü 4111, 1111, 1111, 1111, three of six", "ü [card], three of six"),
        ("One two three four five six seven, testing", "One two three four five six seven, testing"),
    ],
)
def test_a_number_goes_as_it_was_said(tmp_path: Path, said: str, kept: str) -> None:
    assert text(rules(tmp_path, "card"), said) == kept


def failures() -> float:
    return REGISTRY.get_sample_value("voicebus_redaction_failures_total", {"rule": "names"}) or 0.0


def failing(text: str) -> Iterator[Place]:
    if "ann" in text:
        raise IndexError(text)
    yield from ()


@pytest.mark.parametrize(
    ("detect", "unfinished"),
    [
        (failing, None),
        (lambda text: iter([Place(0, len(text) + 9)] if "\u0c67" in text or "ann" in text else []), None),
        (lambda text: iter(()), failing),
    ],
    ids=["raises", "tells of what is not there", "raises at the end of a text that was cut off"],
)
def test_of_a_text_at_which_a_rule_fails_nothing_is_kept(detect: Detector, unfinished: Detector | None) -> None:
    sound = Rule("order", lambda text: iter([Place(0, 3)] if text.startswith("ORD") else []), "[order]")
    redaction = Redaction([sound, Rule("names", detect, "[name]", unfinished)])
    assert redaction.said("ann \N{THAI DIGIT ZERO} is here", "ann \N{THAI DIGIT ZERO}", Counter(), cut=True) == (
        WITHHELD,
        WITHHELD,
    )
    assert redaction.said("ORD is here", "ORD", Counter(), cut=True) == ("[order] is here", "[order]")


def test_a_rule_that_fails_is_told_once_without_the_text_and_counted_each_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    redaction = Redaction([Rule("names", failing, "[name]")])
    before = failures()
    assert [text(redaction, "I am ann") for _ in range(3)] == [WITHHELD] * 3
    assert text(redaction, '{"who": "ann", "what": "tea"}') == '{"who": "[withheld]", "what": "tea"}'
    assert redaction.value({"who": ["ann", "tea"]}, Counter()) == {"who": [WITHHELD, "tea"]}
    assert failures() == before + 5
    assert caplog.text.count("a rule fails") == 1
    assert "ann" not in caplog.text


def test_half_a_number_that_was_said_in_words_goes_too(tmp_path: Path) -> None:
    said = "It is four one one one one one one one one one one one one one one one"
    redaction = rules(tmp_path, "card")
    assert redaction.said(said, said[:30], Counter(), cut=False) == ("It is [card]", "It is [card]")
    assert redaction.said(said[:38], None, Counter(), cut=True) == ("It is [card]", None)


def test_of_a_pattern_with_the_group_redact_the_group_alone_goes(tmp_path: Path) -> None:
    redaction = rules(tmp_path, {"name": "pin", "pattern": r"(?i)\bpin is (?P<redact>\d{4})"})
    assert text(redaction, "My PIN is 1234, in 1234 words") == "My PIN is [pin], in 1234 words"


def test_places_that_overlap_go_as_one_in_the_name_of_the_first_rule(tmp_path: Path) -> None:
    redaction = rules(tmp_path, "card", {"name": "digits", "pattern": r"\d+"})
    assert text(redaction, f"{CARD} 7") == "[card] [digits]"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ('{"mail": "ann\\u0040example.org", "n": 1.50}', '{"mail": "[email]", "n": 1.50}'),
        ('{"card": 4111111111111111, "more": [true, null, 12]}', '{"card": "[card]", "more": [true, null, 12]}'),
        ('{"ann@example.org": 1}', '{"[email]": 1}'),
        ('[{"body": "{\\"to\\": \\"ann\\\\u0040example.org\\"}"}]', '[{"body": "{\\"to\\": \\"[email]\\"}"}]'),
        ('{"half": "\\ud800 ann@example.org"}', '{"half": "\\ud800 [email]"}'),
        ("{not json, ann@example.org", "{not json, [email]"),
        ("[" * 100_000 + "ann@example.org", "[" * 100_000 + "[email]"),
    ],
)
def test_json_stays_json_and_hides_nothing(tmp_path: Path, written: str, kept: str) -> None:
    assert text(rules(tmp_path, "email", "card"), written) == kept


def test_values_of_json_lose_it_wherever_it_stands(tmp_path: Path) -> None:
    redaction = rules(tmp_path, "email", "card")
    value = {"ann@example.org": [4111111111111111, True, None, {"x": "bob@example.org"}]}
    assert redaction.value(value, Counter()) == {"[email]": ["[card]", True, None, {"x": "[email]"}]}


@pytest.mark.parametrize(
    ("heard", "kept"),
    [
        ("My card is 4111 1111 11", "My card is [card]"),
        ("My card is", "My card is"),
        ("", ""),
        (None, None),
        ("Another text with 4111 1111 11", "Another text with [card]"),
    ],
)
def test_half_a_number_that_was_heard_goes_where_the_whole_was_said(
    tmp_path: Path, heard: str | None, kept: str | None
) -> None:
    said = f"My card is {CARD}, yes."
    redacted = rules(tmp_path, "card").said(said, heard, Counter(), cut=False)
    assert redacted == ("My card is [card], yes.", kept)


def test_a_number_that_was_cut_off_in_the_middle_goes_too(tmp_path: Path) -> None:
    redaction = rules(tmp_path, "card", "email")
    assert redaction.said("It is 4111 1111 1", None, Counter(), cut=True) == ("It is [card]", None)
    assert redaction.said("It is 4111 1111 1", None, Counter(), cut=False) == ("It is 4111 1111 1", None)
    assert redaction.said("I am ann@exa", None, Counter(), cut=True) == ("I am [email]", None)


@given(st.text(max_size=40), st.text(max_size=40), st.integers(0, 200))
def test_nothing_of_a_card_number_is_left_in_what_was_said_or_heard(before: str, after: str, cut: int) -> None:
    # Digits beside it would make another number of it.
    before, after = (part.translate({ord(sign): "x" for sign in part if sign.isdecimal()}) for part in (before, after))
    said = f"{before} {CARD} {after}"
    redaction = SHARED
    plain, heard = redaction.said(said, said[:cut], Counter(), cut=False)
    for kept in (plain, heard or ""):
        assert "4111" not in kept
        assert "1111" not in kept


def _shared() -> Redaction:
    from voicebus.detection import detector
    from voicebus_services.privacy.redaction import Rule

    return Redaction([Rule("card", detector("card"), "[card]")])


SHARED = _shared()
