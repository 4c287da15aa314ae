"""Which parts of an utterance could be the value of a parameter, told by their form, and how well each fits.

The single home of turning words into typed JSON values; choosing among the candidates is not done here.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from voicebus_services.model_simulator.brain.candidate import Candidate, sided
from voicebus_services.model_simulator.brain.choices import constants
from voicebus_services.model_simulator.brain.concepts import COLORS, LANGUAGES
from voicebus_services.model_simulator.brain.moments import moment_candidates
from voicebus_services.model_simulator.brain.numbers import currency_code
from voicebus_services.model_simulator.brain.quantities import number_cues, quantities
from voicebus_services.model_simulator.brain.schema import Parameter
from voicebus_services.model_simulator.brain.tokens import words
from voicebus_services.model_simulator.brain.utterance import Utterance
from voicebus_services.model_simulator.brain.yes_no import booleans

_SPOKEN_CAPITALS: Final = words("ok tv am pm usa uk us eu pc id zip gps dvd cd usd eur gbp it hr ceo")
_DIGITS_ONLY: Final = re.compile(
    r"(?<!letters and )\b(?:digits only|only digits|just digits|digits without)", re.IGNORECASE
)
_NO_SIGNS: Final = re.compile(
    r"\b(?:no|without) (?:spaces|dashes|hyphens)|\bdigits and letters only|\bletters and digits (?:only|without)",
    re.IGNORECASE,
)


def typed_candidates(parameter: Parameter, said: Utterance) -> list[Candidate]:
    """Candidates told by their form rather than by their place in the sentence, best first: constants of the schema,
    numbers, dates, addresses, codes, yes and no.
    """
    found = [c for c in _candidates(parameter, said) if _valid(parameter, c.value)]
    return sorted(found, key=lambda c: (-c.score, c.first, c.last))


def _candidates(parameter: Parameter, said: Utterance) -> Iterator[Candidate]:
    if "const" in parameter.schema:
        yield Candidate(3.0, parameter.schema["const"], 0, 0)
    elif parameter.enum:
        yield from constants(parameter, said)
    elif parameter.accepts("boolean"):
        yield from booleans(parameter, said)
    elif parameter.accepts("integer", "number"):
        yield from quantities(parameter, said)
    elif parameter.accepts("string"):
        yield from _string(parameter, said)


def _valid(parameter: Parameter, value: Any) -> bool:
    schema = parameter.schema
    if isinstance(value, bool):
        return True
    if isinstance(value, int | float):
        low, high = schema.get("minimum"), schema.get("maximum")
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        return not (
            (isinstance(low, int | float) and value < low)
            or (isinstance(high, int | float) and value > high)
            or (isinstance(above, int | float) and not isinstance(above, bool) and value <= above)
            or (isinstance(below, int | float) and not isinstance(below, bool) and value >= below)
        )
    if isinstance(value, str) and isinstance(schema.get("pattern"), str):
        return matches(schema["pattern"], value)
    return True


def matches(pattern: str, value: str) -> bool:
    """Whether a value fits a schema's pattern; a pattern that Python cannot read, or a huge one, fits anything."""
    if len(pattern) > 200 or len(value) > 200:
        return True
    try:
        return re.search(pattern, value) is not None
    except re.error:
        return True


# --- strings that are told by their form -----------------------------------------------------------------------------


def _string(parameter: Parameter, said: Utterance) -> Iterator[Candidate]:
    kind = parameter.kind
    if kind == "person" and {"email", "mail"} & set(parameter.hints):
        yield from (Candidate(3.0, p.value, p.first, p.last) for p in said.emails)
    if kind == "email":
        yield from (Candidate(3.0, p.value, p.first, p.last) for p in said.emails)
    elif kind == "url":
        yield from (Candidate(3.0, p.value, p.first, p.last) for p in said.urls)
    elif kind == "phone":
        yield from _phones(parameter, said)
    elif kind in {"date", "datetime", "time", "day", "weekday", "month"}:
        yield from moment_candidates(parameter, said)
    elif kind == "currency":
        yield from _currencies(parameter, said)
    elif kind in {"language", "color"}:
        names = LANGUAGES if kind == "language" else COLORS
        for at, token in enumerate(said.tokens):
            if token.low in names:
                value = token.text.capitalize() if kind == "language" else token.low
                yield sided(parameter, said, Candidate(3.0, value, at, at + 1))
    elif kind == "duration":
        yield from (
            Candidate(2.5, said.slice(n.first, n.last), n.first, n.last) for n in said.numbers if n.seconds is not None
        )
    elif kind == "identifier":
        yield from _identifiers(parameter, said)
    elif kind in {"count", "amount"}:
        yield from (
            Candidate(1.5 + number_cues(parameter, said, n), str(n.plain), n.first, n.last) for n in said.numbers
        )
    elif kind == "thing" and "pattern" not in parameter.schema:
        yield from (Candidate(2.2, p.value, p.first, p.last) for p in said.emails)
        yield from (Candidate(2.0, p.value, p.first, p.last) for p in said.phones)
        yield from (
            Candidate(2.6, c.value, c.first, c.last) for c in said.codes if said.word_before(c.first) in parameter.words
        )
    elif kind == "place" and {"zip", "postal", "postcod", "zipcod"} & set(parameter.hints):
        yield from (
            Candidate(2.0, c.value, c.first, c.last) for c in said.codes
            if c.value.isdigit() and len(c.value) in {4, 5} and c.first not in said.house_numbers
            and said.low(c.first - 1) in {"of", "in", "near", "around", "to", "code", "zip", ","}
        )  # fmt: skip
    elif isinstance(parameter.schema.get("pattern"), str):
        yield from _patterned(parameter.schema["pattern"], said)


def _phones(parameter: Parameter, said: Utterance) -> Iterator[Candidate]:
    for piece in said.phones:
        yield Candidate(3.0, _plain_code(parameter, piece.value), piece.first, piece.last)
    if not said.phones:
        yield from (
            Candidate(2.0, _plain_code(parameter, c.value), c.first, c.last)
            for c in said.codes if c.value.lstrip("+").replace("-", "").isdigit() and len(c.value) > 2
        )  # fmt: skip


def _plain_code(parameter: Parameter, code: str) -> str:
    """The code without spaces and dashes where the description or the pattern wants digits alone."""
    if _DIGITS_ONLY.search(parameter.description) or str(parameter.schema.get("pattern", "")).startswith(r"^\d"):
        return re.sub(r"\D", "", code)
    return re.sub(r"[\s().-]", "", code) if _NO_SIGNS.search(parameter.description) else code


def _currencies(parameter: Parameter, said: Utterance) -> Iterator[Candidate]:
    for at in range(len(said.tokens)):
        for last in (at + 2, at + 1):
            if last > len(said.tokens):
                continue
            if code := currency_code(said.slice(at, last)):
                held = next((n for n in said.numbers if n.first <= at and n.last >= last), None)
                candidate = sided(parameter, said, Candidate(2.5, code, at, last))
                if held is not None and parameter.role == "from":
                    candidate = replace(candidate, score=candidate.score + 1.5)
                elif held is not None and parameter.role == "to":
                    candidate = replace(candidate, score=candidate.score - 1.5)
                yield candidate
                break
    for number in said.numbers:
        if number.currency and said.tokens[number.first].low[0] in "$€£¥":
            yield Candidate(2.5 + (1.5 if parameter.role == "from" else -1.5 if parameter.role == "to" else 0),
                            number.currency, number.first, number.first)  # fmt: skip


def _identifiers(parameter: Parameter, said: Utterance) -> Iterator[Candidate]:
    pattern = parameter.schema.get("pattern")
    timed = {i for m in said.moments for i in range(m.first, m.last)}
    for code in said.codes:
        if code.first in timed or code.first in said.house_numbers:
            continue
        value = _plain_code(parameter, code.value)
        if isinstance(pattern, str) and not matches(pattern, value):
            value = next((v for v in _respelled(value) if matches(pattern, v)), value)
        before = said.word_before(code.first)
        score = 1.6 + 0.2 * min(len(value), 6) + (1.0 if before in parameter.hints else 0.0)
        number = next((n for n in said.numbers if n.first == code.first), None)
        if number is not None and (
            number.seconds is not None
            or number.currency
            or (number.unit and before not in parameter.hints and value.isdigit())
        ):
            score -= 2.0
        if "." in value or (value.isdigit() and not parameter.required and before not in parameter.hints):
            score -= 1.2  # a bare number is rather a quantity
        if score > 0:
            yield Candidate(score, value, code.first, code.last)
    yield from _capitals(parameter, said)
    for number in said.numbers:
        if number.seconds is None and not number.currency and not number.literal and number.first not in timed and (
            float(number.value).is_integer()
        ):  # fmt: skip
            yield Candidate(1.0 + number_cues(parameter, said, number), str(number.plain), number.first, number.last)


def _capitals(parameter: Parameter, said: Utterance) -> Iterator[Candidate]:
    """A word in capitals ("TSLA") among others that are not."""
    if said.text.isupper():
        return
    for at, token in enumerate(said.tokens):
        if (
            token.text.isalpha()
            and token.text.isupper()
            and 2 <= len(token.text) <= 12
            and token.low not in _SPOKEN_CAPITALS
        ):
            near = 1.0 if said.word_before(at) in parameter.hints else 0.0
            yield Candidate(1.4 + near, token.text, at, at + 1)


def _respelled(code: str) -> Iterable[str]:
    split = re.sub(r"(?<=[A-Za-z])(?=\d)", "-", code)
    return (code.upper(), code.lower(), split, split.upper(), split.lower(), code.replace("-", ""), "#" + code)


def _patterned(pattern: str, said: Utterance) -> Iterator[Candidate]:
    for code in said.codes:
        for value in (code.value, *_respelled(code.value)):
            if matches(pattern, value):
                yield Candidate(2.5, value, code.first, code.last)
                break
    for at, token in enumerate(said.tokens):
        if token.is_word and any(c.isdigit() for c in token.low):
            yield Candidate(1.5, token.text, at, at + 1)
