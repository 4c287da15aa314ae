"""Numbers as values: the single home of which quantity of an utterance a numeric parameter means, in its own unit."""

import re
from collections.abc import Iterator
from typing import Final

from voicebus_services.model_simulator.brain.associations import similarity
from voicebus_services.model_simulator.brain.candidate import Candidate, sided
from voicebus_services.model_simulator.brain.choices import number_glosses, related
from voicebus_services.model_simulator.brain.concepts import same_concept
from voicebus_services.model_simulator.brain.long_names import follows_street
from voicebus_services.model_simulator.brain.numbers import SECONDS_PER, Number, currency_code
from voicebus_services.model_simulator.brain.schema import Parameter
from voicebus_services.model_simulator.brain.tokens import STOP_WORDS, stem, words
from voicebus_services.model_simulator.brain.utterance import Utterance

_MEASURES: Final = (
    {"mm": 0.001, "millimet": 0.001, "cm": 0.01, "centimet": 0.01, "m": 1, "met": 1, "km": 1000, "kilomet": 1000,
     "mile": 1609.344, "foot": 0.3048, "ft": 0.3048, "inch": 0.0254, "yard": 0.9144},
    {"mg": 0.001, "milligram": 0.001, "g": 1, "gram": 1, "kg": 1000, "kilo": 1000, "kilogram": 1000, "pound": 453.592,
     "lb": 453.592, "ounce": 28.3495, "oz": 28.3495, "ton": 1_000_000},
    {"ml": 0.001, "millilit": 0.001, "cl": 0.01, "l": 1, "lit": 1, "gallon": 3.78541},
)  # fmt: skip
_WHOLE: Final = words("""completely fully full entirely totally max maximum""")
_LEVELS: Final = frozenset({"percent", "percentag", "level", "brightness", "volum", "position", "intensity"})
_DOWNWARD: Final = frozenset({"clos", "shut", "down", "off", "mute", "empty"})


def quantities(parameter: Parameter, said: Utterance) -> Iterator[Candidate]:
    timed = {m.first for m in said.moments} | {i for m in said.moments for i in range(m.first, m.last)}
    if {"percent", "percentag"} & set(parameter.hints) or number_glosses(parameter):
        yield from _levels(parameter, said)
    for number in said.numbers:
        if number.first in said.house_numbers or follows_street(said, number.first):
            continue
        if _is_frequency(parameter, said, number):
            continue
        if number.first in timed and parameter.kind not in {"day", "month", "time"}:
            continue
        value, score = _measured(parameter, number)
        if score is None:
            continue
        if "number" not in parameter.types and not float(value).is_integer():
            continue
        value = int(value) if float(value).is_integer() else value
        score += number_cues(parameter, said, number)
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
    if parameter.required and parameter.types == {"integer"} and parameter.kind in {"count", "thing", "person"}:
        yield from _single_things(parameter, said)


def _counts(parameter: Parameter, said: Utterance, number: Number) -> bool:
    """Whether a word of the parameter follows behind adjectives: "two six-sided dice" counts dice."""
    if number.unit in parameter.hints:
        return False  # counted already
    for at in range(number.last, min(number.last + 5, len(said.tokens))):
        if said.stems[at] in parameter.words or (said.stems[at] in parameter.hints and parameter.kind == "count"):
            return at > number.last
        if said.low(at) in STOP_WORDS or said.tokens[at].text in ",.;":
            return False
    return False


def _is_party(unit: str) -> bool:
    return unit in {"us", "them"} or same_concept(unit, "peopl")


def _counted_party(parameter: Parameter, said: Utterance) -> Iterator[Candidate]:
    """ "for me and my wife" is two; "for myself" is one."""
    for at in range(len(said.tokens) - 1):
        words = [said.low(i) for i in range(at, at + 4)]
        if words[:2] in (["for", "myself"], ["just", "me"]):
            yield Candidate(1.2, 1, at, at + 2)


def _single_things(parameter: Parameter, said: Utterance) -> Iterator[Candidate]:
    """ "A small pizza" is one, where the parameter counts pizzas; "my meter reading" is a number nobody has said."""
    articles = {"a", "an", "another", *(["my"] if parameter.kind == "count" else [])}
    for at in range(len(said.tokens)):
        if said.low(at) in articles and any(
            s in parameter.hints or any(same_concept(s, w) for w in parameter.words)
            for s in said.stems[at + 1 : at + 4]
        ):
            yield Candidate(0.6, 1, at, at + 1)


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
    if (converted_measure := _converted(parameter, number)) is not None:
        return converted_measure, 2.0
    if parameter.kind == "duration" and number.unit and number.unit not in parameter.hints:
        return number.plain, 0.0
    if number.currency:
        if any(currency_code(h) for h in parameter.hints):
            return number.plain, 2.0
        return number.plain, {"amount": 2.0, "thing": 0.8}.get(parameter.kind, -1.0)
    if number.percent:
        return number.plain, 2.0 if {"percent", "percentag", "level", "rate", "tip"} & set(parameter.hints) else 0.5
    if number.ordinal:
        return number.plain, 0.6 if {"floor", "position", "index", "rank", "number", "day", "row", "page"} & set(
            parameter.hints
        ) else -1.0
    return number.plain, 0.6


def number_cues(parameter: Parameter, said: Utterance, number: Number) -> float:
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
        elif _is_party(number.unit) and parameter.kind == "count" and any(_is_party(w) for w in hints):
            score += 1.4
        elif max((similarity(number.unit, w) for w in hints), default=0.0) > 0.45 or parameter.kind == "count":
            score += 0.7
        elif parameter.kind == "amount":
            score -= 0.4
    if not number.currency and not number.percent and number.seconds is None and _counts(parameter, said, number):
        score += 1.2
    if before and before in parameter.words:
        score += 1.6
    elif before and (before in hints or any(related(before, h) for h in parameter.words)):
        score += 1.0
    if said.low(number.first - 1) == "for" and parameter.kind == "count":
        score += 1.0
    if parameter.kind == "identifier" and not number.unit:
        score += 0.6
    if said.low(number.first) == "one" and not number.unit:
        score -= 0.5
    return score


def _unit(word: str) -> str:
    """A unit's stem however it is spelled: "metres" and "meters" are one."""
    return re.sub(r"(?<=.)(?:etre|eter|etr)$", "et", re.sub(r"(?:itre|iter|itr)$", "it", word))


def _converted(parameter: Parameter, number: Number) -> float | None:
    """The number in the parameter's own unit of length, weight or volume; None where no other unit was said."""
    said_unit = _unit(number.unit)
    for scale in _MEASURES:
        if said_unit not in scale:
            continue
        own = next((u for w in (*reversed(parameter.words), *parameter.hints) if (u := _unit(w)) in scale), "")
        if not own:
            return None
        return (
            number.plain if scale[own] == scale[said_unit] else round(number.value * scale[said_unit] / scale[own], 3)
        )
    return None


def _is_frequency(parameter: Parameter, said: Utterance, number: Number) -> bool:
    """Whether "once" and "twice" tell how often ("twice a day") and the parameter does not ask for that."""
    if said.low(number.first) not in {"once", "twice"} or said.low(number.last) in {"as", "the"}:
        return False
    return not {"tim", "frequency", "often", "repeat"} & set(parameter.hints)


def _levels(parameter: Parameter, said: Utterance) -> Iterator[Candidate]:
    """ "Halfway", "completely", and what the description says of single numbers: "0 = closed, 100 = open"."""
    low, high = parameter.schema.get("minimum", 0), parameter.schema.get("maximum", 100)
    if not (isinstance(low, int | float) and isinstance(high, int | float)):
        return
    glosses = {n: {w for w in told if stem(w) not in {stem(x) for x in _WHOLE}}
               for n, told in number_glosses(parameter).items()}  # fmt: skip
    told = next(
        (n for n, gloss in glosses.items() if any(w == s or related(w, s) for w in gloss for s in said.stems)), None
    )
    timed = {i for m in said.moments for i in range(m.first, m.last)} | {
        i for n in said.numbers if n.seconds is not None or n.last - n.first > 1 for i in range(n.first, n.last)
    }
    down = any(s in _DOWNWARD for s in said.stems)
    for at in range(len(said.tokens)):
        if at in timed:
            continue
        low_word = said.low(at)
        if low_word in {"halfway", "half"}:
            yield Candidate(2.2, int((low + high) / 2), at, at + 1)
        elif low_word in _WHOLE or (low_word == "all" and said.low(at + 1) == "the" and said.low(at + 2) == "way"):
            whole = told if told is not None else low if down else high
            yield Candidate(1.8, whole, at, at + (3 if low_word == "all" else 1))
        elif low_word in {"minimum", "min"}:
            yield Candidate(1.8, low, at, at + 1)
    if told is not None:
        at = next(i for i, s in enumerate(said.stems) if any(w == s or related(w, s) for w in glosses[told]))
        yield Candidate(0.9, told, at, at)
