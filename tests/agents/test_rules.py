"""Guardrail functions that are ready to use: what they find, what they let pass, and what they refuse."""

import inspect
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebus import (
    GuardrailFunctionOutput,
    InputGuardrail,
    OutputGuardrail,
    RealtimeAgent,
    RunContextWrapper,
    UserError,
    forbidden_patterns,
    forbidden_words,
    leaked_secrets,
    only_languages,
    personal_data,
    prompt_leak,
)
from voicebus.agents.guardrails import text_is_final
from voicebus.agents.judge import judge

CONTEXT = RunContextWrapper[Any](None)
AGENT: RealtimeAgent[Any] = RealtimeAgent(
    "teller",
    instructions="You work in a bank.\nNever tell anybody the code of the door behind the counter. Be kind.",
)


WORDS = forbidden_words("vault", "back door", "door-s")


async def judged(rule: Any, text: str) -> GuardrailFunctionOutput:
    found = rule(CONTEXT, AGENT, text)
    found = await found if inspect.isawaitable(found) else found
    assert isinstance(found, GuardrailFunctionOutput)
    return found


async def trips(rule: Any, text: str) -> bool:
    return (await judged(rule, text)).tripwire_triggered


@pytest.mark.parametrize(
    ("text", "tripped"),
    [
        ("vault", True),
        ("The Vault, then.", True),
        ("in the vau\u200blt", True),
        ("in the v\u034fa\ufe0fu\u2066l\U000e0061t", True),
        ("the \uff56\uff41\uff55\uff4c\uff54", True),
        ("the vaulted room", False),
        ("a prevault", False),
        ("the back  door.", True),
        ("an über-Straße", True),
        ("", False),
    ],
)
async def test_forbidden_words_are_found_as_whole_words_however_they_are_written(text: str, tripped: bool) -> None:
    assert await trips(forbidden_words("vault", "back door", "straße"), text) == tripped


@pytest.mark.parametrize(
    ("word", "text", "tripped"),
    [
        ("straße", "eine STRASSE hier", True),
        ("STRASSE", "die straße", True),
        ("ﬁle", "the FILE", True),
        ("сейф", "Это СЕЙФ", True),
        ("сейф", "Это сейфы", False),
        ("金庫", "これは銀行の金庫の中です", True),
        ("金庫", "これは銀行の中です", False),
        ("サーバー", "そのサーバーは", True),
        ("金 庫", "その金 庫は", True),
        ("ตู้เซฟ", "นี่คือตู้เซฟของธนาคาร", True),
        ("금고", "은행의 금고를 연다", True),
        ("vault金庫", "the vault金庫の", True),
        ("vault金庫", "thevault金庫の", False),
        ("Acme", "当社はAcme社です", True),
        ("Acme", "Acme는", True),
        ("Acme", "ธนาคารAcmeครับ", True),
        ("Acme", "当社はAcmebank社です", False),
        ("Acme", "은행BigAcme는", False),
        ("4711", "暗証番号は4711です", True),
        ("4711", "暗証番号は47110です", False),
    ],
)
async def test_forbidden_words_are_found_in_scripts_without_spaces_and_in_capitals_of_two_letters(
    word: str, text: str, tripped: bool
) -> None:
    assert await trips(forbidden_words("nothing", word), text) == tripped


async def test_what_was_found_is_told_as_the_word_that_is_forbidden() -> None:
    assert (await judged(forbidden_words("vault", "back door"), "The Back  Door")).output_info == {"word": "back  door"}


@pytest.mark.parametrize(
    ("text", "tripped"),
    [
        ("the vault", False),  # it may become the vaulted room
        ("the vault ", True),
        ("the vault.", True),
        ("the vault\u200b", False),  # neither is this an end
        ("the \uff56\uff41\uff55\uff4c\uff54", True),  # and so of wide signs
        ("a back door", True),  # "back" has come to its end
        ("a back", False),
        ("金庫はvault", False),
        ("金庫はvaultで", True),  # a sign of a script without spaces is an end
    ],
)
async def test_while_more_may_come_the_last_word_is_not_judged_before_its_end(text: str, tripped: bool) -> None:
    rule = OutputGuardrail(forbidden_words("vault", "back door", "back"))
    found = await judge(rule, CONTEXT, AGENT, text, final=False, timeout=60)
    assert (found.tripped, found.error) == (tripped, None)
    assert (await judge(rule, CONTEXT, AGENT, text, timeout=60)).tripped


@given(st.lists(st.sampled_from(["vault", "vau", "lt", "ed", " ", "-", "_", "back", "door", "\n", "s"]), max_size=8))
async def test_a_check_of_a_part_forbids_what_the_whole_does_and_nothing_else(pieces: list[str]) -> None:
    async def tripped(text: str, *, final: bool) -> bool:
        token = text_is_final.set(final)
        try:
            return await trips(WORDS, text)
        finally:
            text_is_final.reset(token)

    parts = ["".join(pieces[:count]) for count in range(len(pieces) + 1)]
    found = [await tripped(part, final=False) for part in parts]
    whole = await tripped(parts[-1], final=True)
    assert found == sorted(found), "what has come to its end is forbidden for ever"
    assert whole or not any(found), "nothing is forbidden that the whole may say"
    for number, part in enumerate(parts[:-1]):
        ended = not (parts[number + 1][len(part) :][:1].isalnum() or parts[number + 1][len(part) :][:1] == "_")
        if ended and await tripped(part, final=True):
            assert found[number + 1], "the sign behind a word is enough"


async def test_a_word_with_signs_of_regular_expressions_is_a_word() -> None:
    rule = forbidden_words("c++", "$100")
    assert await trips(rule, "I like C++!")
    assert await trips(rule, "for $100")
    assert not await trips(rule, "ccc")


@pytest.mark.parametrize("words", [(), ("",), (" ",), ("\u200b",), (None,)])
def test_forbidden_words_have_to_be_words(words: Any) -> None:
    with pytest.raises(UserError, match="forbidden_words needs words"):
        forbidden_words(*words)


async def test_a_pattern_is_named_by_what_trips_over_it() -> None:
    rule = forbidden_patterns(r"\bpin \d{4}\b", "(?i)key")
    assert (await judged(rule, "The pin 1234")).output_info == {"pattern": r"\bpin \d{4}\b"}
    assert await trips(rule, "KEY")
    assert not await trips(rule, "pin 12")


async def test_no_pattern_takes_longer_than_its_text_is_long() -> None:
    assert not await trips(forbidden_patterns(r"^(a+)+$"), "a" * 50_000 + "b")


@pytest.mark.parametrize("pattern", ["(a", r"(?<=a)b", r"(a)\1"])
def test_a_pattern_that_cannot_be_is_refused(pattern: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="no regular expression of RE2"):
        forbidden_patterns(pattern)
    assert capfd.readouterr().err == ""
    with pytest.raises(UserError, match="needs patterns"):
        forbidden_patterns()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("mail me at ann@example.org", "email"),
        ("my card is 4111 1111 1111 1111", "card"),
        ("my card is 4111 1111 1111 1112", None),
        ("it is 4111, 1111, 1111, 1111.", "card"),
        ("it is 4 1 1 1, 1 1 1 1, 1 1 1 1, 1 1 1 1", "card"),
        ("it is 3782, 822463, 10005", "card"),
        ("Four one one one, one one one one, one one one one, one one one one.", "card"),
        ("it is four triple one one one one one double one one one one one one one", "card"),
        ("the parcel 9400 1000 0000 0000 0000 00", None),
        ("my number is 078 05 1120", "ssn"),
        ("one, two, three, four, five, six, seven, go", None),
        ("There is one of six, and two of nine.", None),
        ("it goes to DE89 3704 0044 0532 0130 00 today", "iban"),
        ("it goes to DE88 3704 0044 0532 0130 00 today", None),
        ("number 078-05-1120", "ssn"),
        ("from 192.168.0.12", "ip"),
        ("from 999.168.0.12", None),
        ("call +49 170 1234567", "phone"),
        ("order 12345 of 2026", None),
    ],
)
async def test_personal_data_is_told_by_kind_and_place_and_not_itself(text: str, kind: str | None) -> None:
    found = await judged(personal_data(), text)
    assert [one["kind"] for one in found.output_info or ()] == ([] if kind is None else [kind])
    assert found.tripwire_triggered == (kind is not None)


async def test_phone_numbers_of_a_country_are_found_where_it_is_named() -> None:
    assert not await trips(personal_data(["phone"]), "call (212) 555-0123")
    assert await trips(personal_data(["phone"], region="US"), "call (212) 555-0123")
    assert await trips(personal_data(["phone"], region="US"), "call two one two, five five five, oh one two three")
    with pytest.raises(UserError, match="personal_data: region 'UK' was read; two capital letters of ISO 3166"):
        personal_data(["phone"], region="UK")


@pytest.mark.parametrize("kinds", [["shoe size"], []])
def test_kinds_of_personal_data_have_to_exist(kinds: Any) -> None:
    with pytest.raises(UserError, match="personal_data: kinds must be some of email"):
        personal_data(kinds)


async def test_keys_and_tokens_are_found_and_ordinary_speech_is_not() -> None:
    rule = leaked_secrets()
    assert (await judged(rule, "it is ghp_" + "a1B2" * 9)).output_info == ["GitHub Token"]
    assert await trips(rule, "AKIA" + "IOSFODNN7EXAMPLE")
    assert not await trips(rule, "The password is hunter2, your order is AB12CD34EF56, from 10.0.0.1.")


async def test_other_languages_are_told_from_the_allowed_ones() -> None:
    rule = only_languages("en", "de")
    assert not await trips(rule, "Good morning, how can I help you today?")
    assert not await trips(rule, "Guten Morgen, wie kann ich Ihnen heute helfen?")
    found = await judged(rule, "Bonjour, comment puis-je vous aider aujourd'hui ?")
    assert (found.tripwire_triggered, found.output_info["language"]) == (True, "fr")
    found = await judged(rule, "La reserva está confirmada para mañana.")  # or Galician, or Portuguese
    assert (found.tripwire_triggered, found.output_info["language"]) == (True, "es")
    assert not await trips(rule, "Oui, merci.")  # too short to say
    assert not await trips(rule, "0123 4567 8901 2345 6789 0123")
    assert not await trips(rule, "\U0001f600" * 30)
    assert not await trips(rule, "Yes, the Hotel Königshof on Maximilianstraße is open.")
    with pytest.raises(UserError, match="needs languages such as"):
        only_languages("klingon")


@pytest.mark.parametrize(
    ("text", "tripped"),
    [
        ("I must never tell anyone the code of the door behind the counter.", True),
        ("My rules: NEVER TELL ANYBODY THE CODE OF THE DOOR BEHIND THE COUNTER", True),
        ("You work at a bank, I guess.", False),
        ("The door is behind the counter.", False),
        ("Be kind.", False),
    ],
)
async def test_a_line_of_the_instructions_is_found_word_for_word_and_nearly(text: str, tripped: bool) -> None:
    assert await trips(prompt_leak(), text) == tripped


async def test_other_texts_may_be_protected_instead() -> None:
    rule = prompt_leak("The launch is on the fourth of May, at noon.")
    assert await trips(rule, "the launch is on the fourth of may, at noon")
    assert not await trips(rule, "Never tell anybody the code of the door behind the counter.")


def test_they_serve_as_guardrails_of_either_kind_under_their_own_names() -> None:
    assert OutputGuardrail(forbidden_words("vault"), mode="hold").get_name() == "forbidden_words"
    assert OutputGuardrail(forbidden_words("vault")).is_async
    assert InputGuardrail(personal_data()).get_name() == "personal_data"


def test_a_library_that_is_not_there_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(UserError, match=r"needs re2: pip install 'voicebus\[guardrails\]'"):
        forbidden_words("vault")
