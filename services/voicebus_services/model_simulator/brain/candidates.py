"""Which parts of an utterance could be the value of a parameter, told by their form, and how well each fits.

The single home of turning words into typed JSON values; choosing among the candidates is not done here.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from voicebus_services.model_simulator.brain.associations import similarity
from voicebus_services.model_simulator.brain.candidate import Candidate, sided
from voicebus_services.model_simulator.brain.choices import constants
from voicebus_services.model_simulator.brain.concepts import COLORS, LANGUAGES, same_concept
from voicebus_services.model_simulator.brain.moments import moment_candidates
from voicebus_services.model_simulator.brain.numbers import SECONDS_PER, Number, currency_code
from voicebus_services.model_simulator.brain.schema import Parameter
from voicebus_services.model_simulator.brain.utterance import Utterance
from voicebus_services.model_simulator.brain.yes_no import booleans


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
        yield from _numeric(parameter, said)
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


# --- numbers ---------------------------------------------------------------------------------------------------------


def _numeric(parameter: Parameter, said: Utterance) -> Iterator[Candidate]:
    timed = {m.first for m in said.moments} | {i for m in said.moments for i in range(m.first, m.last)}
    for number in said.numbers:
        if number.first in said.house_numbers:
            continue
        if number.first in timed and parameter.kind not in {"day", "month", "time"}:
            continue
        value, score = _measured(parameter, number)
        if score is None:
            continue
        if "number" not in parameter.types and not float(value).is_integer():
            continue
        value = int(value) if float(value).is_integer() else value
        score += _number_cues(parameter, said, number)
        if score > 0:
            # "four people": the noun that is counted belongs to the number where the parameter speaks of it.
            counted = number.unit and number.last < len(said.tokens) and said.stems[number.last] == number.unit
            last = number.last + (
                1
                if counted
                and (number.unit in parameter.hints or (parameter.kind == "count" and _is_party(number.unit)))
                else 0
            )
            yield sided(parameter, said, Candidate(score, value, number.first, last))
    if parameter.kind == "identifier":
        yield from (
            Candidate(2.0, int(c.value), c.first, c.last)
            for c in said.codes
            if c.value.isdigit() and c.last - c.first > 1
        )
    if parameter.kind == "count":
        yield from _counted_party(parameter, said)


def _is_party(unit: str) -> bool:
    return same_concept(unit, "peopl")


def _counted_party(parameter: Parameter, said: Utterance) -> Iterator[Candidate]:
    """ "for me and my wife" is two; "for myself" is one."""
    for at in range(len(said.tokens) - 1):
        words = [said.low(i) for i in range(at, at + 4)]
        if words[:2] in (["for", "myself"], ["just", "me"]):
            yield Candidate(1.2, 1, at, at + 2)


def _measured(parameter: Parameter, number: Number) -> tuple[float, float | None]:
    """The value in the parameter's own unit, and how well the unit fits; None when it cannot be meant."""
    own = [w for w in (*parameter.words, *parameter.hints) if w in SECONDS_PER and w not in {"second", "sec"}] or [
        w for w in (*parameter.words, *parameter.hints) if w in SECONDS_PER
    ]
    if number.seconds is not None:
        in_name = [w for w in parameter.words if w in SECONDS_PER]
        unit = (in_name or own or [""])[0]
        if unit:
            converted = number.seconds / SECONDS_PER[unit]
            exact = unit == number.unit or {unit, number.unit} == {"day", "night"}
            return round(converted, 6), 2.0 if exact or parameter.kind == "duration" else 1.4
        if parameter.kind == "duration":
            return number.plain, 1.0
        return number.plain, -0.5 if parameter.kind == "count" else -2.0
    if parameter.kind == "duration" and number.unit and number.unit not in parameter.hints:
        return number.plain, 0.0
    if number.currency:
        return number.plain, {"amount": 2.0, "thing": 0.8}.get(parameter.kind, -1.0)
    if number.percent:
        return number.plain, 2.0 if {"percent", "percentag", "level", "rate", "tip"} & set(parameter.hints) else 0.5
    if number.ordinal:
        return number.plain, 0.6 if {"floor", "position", "index", "rank", "number", "day", "row", "page"} & set(
            parameter.hints
        ) else -1.0
    return number.plain, 0.6


def _number_cues(parameter: Parameter, said: Utterance, number: Number) -> float:
    score = 0.0
    before = said.word_before(number.first)
    hints = set(parameter.hints)
    if number.unit and number.seconds is None and not number.currency:
        if number.unit in parameter.words:
            score += 2.0
        elif number.unit in hints:
            score += 1.4
        elif any(same_concept(number.unit, w) for w in parameter.words):
            score += 1.2
        elif max((similarity(number.unit, w) for w in hints), default=0.0) > 0.45 or parameter.kind == "count":
            score += 0.7
        elif parameter.kind == "amount":
            score -= 0.4
    if before and before in parameter.words:
        score += 1.6
    elif before and before in hints:
        score += 0.8
    if said.low(number.first - 1) == "for" and parameter.kind == "count":
        score += 0.8
    if parameter.kind == "identifier" and not number.unit:
        score += 0.6
    if said.low(number.first) == "one" and not number.unit:
        score -= 0.5
    return score


# --- strings that are told by their form -----------------------------------------------------------------------------


def _string(parameter: Parameter, said: Utterance) -> Iterator[Candidate]:
    kind = parameter.kind
    if kind == "email":
        yield from (Candidate(3.0, p.value, p.first, p.last) for p in said.emails)
    elif kind == "url":
        yield from (Candidate(3.0, p.value, p.first, p.last) for p in said.urls)
    elif kind == "phone":
        yield from _phones(said)
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
            Candidate(1.5 + _number_cues(parameter, said, n), str(n.plain), n.first, n.last) for n in said.numbers
        )
    elif isinstance(parameter.schema.get("pattern"), str):
        yield from _patterned(parameter.schema["pattern"], said)


def _phones(said: Utterance) -> Iterator[Candidate]:
    for piece in said.phones:
        yield Candidate(3.0, piece.value, piece.first, piece.last)
    if not said.phones:
        yield from (
            Candidate(2.0, c.value, c.first, c.last) for c in said.codes if c.value.isdigit() and len(c.value) > 2
        )


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
        value = code.value
        if isinstance(pattern, str) and not matches(pattern, value):
            value = next((v for v in _respelled(value) if matches(pattern, v)), value)
        before = said.word_before(code.first)
        score = 1.6 + 0.2 * min(len(value), 6) + (1.0 if before in parameter.hints else 0.0)
        number = next((n for n in said.numbers if n.first == code.first), None)
        if number is not None and (
            number.seconds is not None or number.currency or (number.unit and before not in parameter.hints)
        ):
            score -= 2.0
        if score > 0:
            yield Candidate(score, value, code.first, code.last)
    for number in said.numbers:
        if number.seconds is None and not number.currency and not number.literal and number.first not in timed:
            yield Candidate(1.0 + _number_cues(parameter, said, number), str(number.plain), number.first, number.last)


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
