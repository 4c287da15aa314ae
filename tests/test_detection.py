"""Where personal data and secrets are found in a text, however it is written, and how long that may take."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebus.detection import KINDS, Usual, detector, every_secret, unfinished

CARD = "4111 1111 1111 1111"
WIDE = "\uff14\uff11\uff11\uff11 1111\u20111111\u00a01111"
# What is in them is made up.
GITHUB, GITLAB, GITLAB_BUILD = "ghp_" + "a1B2" * 9, "glpat-" + "a1B2_" * 4, "glcbt-" + "a1B2" * 5
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
IBAN = "DE89 3704 0044 0532 0130 00"


def found(kind: str, text: str, **options: str) -> list[str]:
    usual = Usual(text)
    detect = every_secret() if kind == "secrets" else detector(kind, **options)
    return sorted({text[slice(*place)] for place in usual.within(detect(usual.text))}, key=text.index)


@pytest.mark.parametrize(
    ("kind", "text", "what"),
    [
        ("email", "to müller@exämple.de, please.", ["müller@exämple.de"]),
        ("card", f"{CARD} 12 27", [CARD]),
        ("card", f"12 {CARD}", [CARD]),
        ("card", f"{WIDE}!", [WIDE]),
        ("card", "4111\u200b111111111111", ["4111\u200b111111111111"]),
        ("card", "11112222333344445555666677778888", []),
        ("iban", f"pay {IBAN} BITTE SOFORT", [IBAN]),
        ("iban", "it is de89370400440532013000.", ["de89370400440532013000"]),
        ("iban", f"{IBAN} GB82 WEST 1234 5698 7654 32", [IBAN, "GB82 WEST 1234 5698 7654 32"]),
        ("email", "to cafe\u0301@example.org or संपर्क@उदाहरण.भारत", ["cafe\u0301@example.org", "संपर्क@उदाहरण.भारत"]),
        ("ip", "from 10.0.0.1 and 999.0.0.1", ["10.0.0.1"]),
        ("ip", "at 2001:db8::8a2e:370: or [::1]:80", ["2001:db8::8a2e:370", "::1"]),
        ("ip", "::ffff:10.0.0.1, fe80:0:0:0:204:61ff:fe9d:f156", ["::ffff:10.0.0.1", "fe80:0:0:0:204:61ff:fe9d:f156"]),
        ("ip", "at 10:30:45, std::bad, 00:1A:2B:3C:4D:5E", []),
        ("ip", "IP:2001:db8::1, at 10:30:45:10.0.0.1, host::10.0.0.2", ["2001:db8::1", "10.0.0.1", "10.0.0.2"]),
        ("secrets", "AKIAIOSFODNN7EXAMPLE, then", ["AKIAIOSFODNN7EXAMPLE"]),
        ("secrets", "x" * 8190 + " AKIAIOSFODNN7EXAMPLE", ["AKIAIOSFODNN7EXAMPLE"]),
        ("secrets", f"a ghost has token={GITHUB}, gho", [GITHUB]),
        ("secrets", f"{GITLAB} and {GITLAB_BUILD}.", [GITLAB, GITLAB_BUILD]),
        ("secrets", f"Bearer {JWT}", [JWT]),
        ("secrets", "https://ann:s3cretword@example.org", ["s3cretword"]),
    ],
)  # fmt: skip
def test_what_is_found_is_what_was_written(kind: str, text: str, what: list[str]) -> None:
    assert found(kind, text) == what


def test_of_a_private_key_all_is_found_and_not_its_first_line_alone() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIBOg\nabcdef\n-----END RSA PRIVATE KEY-----"
    assert key in found("secrets", f"here: {key} (mine)")
    assert f"{key[:50]}" in found("secrets", f"here: {key[:50]}"), "also one that was cut off"


@pytest.mark.parametrize(
    ("kind", "text", "what"),
    [
        ("card", "My number is 4111 1111 ", "4111 1111 "),
        ("phone", "It is +49 (170) 12", "+49 (170) 12"),
        ("iban", "It is DE89 3704", "DE89 3704"),
        ("email", "I am ann.smith@exam", "ann.smith@exam"),
        ("card", "I have 12", None),
        ("card", "4111 1111, and", None),
    ],
)
def test_what_a_text_that_was_cut_off_was_about_to_say_is_found(kind: str, text: str, what: str | None) -> None:
    assert [text[slice(*place)] for place in unfinished(kind)(text)] == ([] if what is None else [what])


@given(st.text(st.sampled_from("4111 ,a@.-\u0664\u200b\uff14\ud800é+DE89"), max_size=60))
def test_places_lie_in_the_text_whatever_its_signs(text: str) -> None:
    usual = Usual(text)
    for kind in KINDS:
        for start, end in usual.within(detector(kind)(usual.text)):
            assert 0 <= start < end <= len(text)


@pytest.mark.parametrize("bad", ["://a:", "DE11 ", "aws ", "a@", "1"])
def test_no_text_takes_the_square_of_its_length(bad: str) -> None:
    def taken(length: int) -> float:
        text = bad * (length // len(bad))
        began = time.process_time()
        for kind in ("card", "email", "iban", "secrets"):
            found(kind, text)
        return time.process_time() - began

    taken(10_000)
    assert taken(160_000) < 16 * 4 * max(taken(10_000), 0.002)
