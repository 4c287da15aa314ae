"""Which constant of a schema was meant. The single home of choosing among `enum` values.

A value counts as spelled, by a turn of phrase, by a word of the same meaning or descent, or by what the parameter's
description says of it ("noise: crackling or static").
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any, Final

from voicebus_services.model_simulator.brain.associations import similarity
from voicebus_services.model_simulator.brain.candidate import Candidate, sided
from voicebus_services.model_simulator.brain.choice_words import is_denied, sayings
from voicebus_services.model_simulator.brain.concepts import same_choice, same_concept
from voicebus_services.model_simulator.brain.numbers import currency_code
from voicebus_services.model_simulator.brain.schema import Parameter
from voicebus_services.model_simulator.brain.tokens import STOP_WORDS, split_name, stem, stemmed_words, stems, words
from voicebus_services.model_simulator.brain.utterance import Utterance
from voicebus_services.model_simulator.brain.verbs import opposite

# Spelled like a small word of the sentence, these constants are seldom meant.
_WEAK_CONSTANTS: Final = frozenset({"a", "i", "in", "to", "the", "is", "all", "any", "none", "other"})
_EMPTY_WORDS: Final = frozenset({"mod", "level", "typ", "kind"})
SAID: Final = 2.4  # a turn of phrase; below a value that is spelled
_NEAR: Final = 2.2  # times how near the meaning is
_UNWANTED: Final = stemmed_words("avoid exclude excluded without except allergies remove skip omit hold unwanted")
_FREE_OF: Final = stemmed_words("free no without less non low")
_HALF: Final = 0.5  # of a value's words must be told
_ENDINGS: Final = words(
    """y ist ic ics ing ation ion ions er or al ment ance ence ed ive ly iz r ry ian ness abl s es t d able ful ology
    ologist ional e ant ent ary"""
) | {""}


def constants(parameter: Parameter, said: Utterance) -> Iterator[Candidate]:
    """Values named in the utterance: as they are spelled, else by what people say for them, else by near meaning."""
    spelled = [c for value in parameter.enum for c in _spelled(parameter, said, value)]
    yield from (_measuring(parameter, said, c) for c in spelled)
    if any(c.score >= SAID for c in spelled) and not parameter.role:
        return
    told = [_measuring(parameter, said, c) for c in _told(parameter, said)]
    yield from told
    if not told:
        yield from _near(parameter, said)


def _spoken(value: Any) -> tuple[str, ...]:
    return tuple(stem(w) for w in split_name(str(value))) or (str(value).lower(),)


def _measuring(parameter: Parameter, said: Utterance, candidate: Candidate) -> Candidate:
    """The unit beside a number is what is converted from: "how many miles is 42 kilometers"."""
    if parameter.role not in {"from", "to"} or not any(
        n.last in {candidate.first, candidate.last} for n in said.numbers
    ):
        return candidate
    return replace(candidate, score=candidate.score + (1.5 if parameter.role == "from" else -1.5))


def _wants_denied(parameter: Parameter) -> bool:
    """Whether the parameter holds what is not wanted: "no tolls" names something to avoid."""
    return bool(_UNWANTED & set(parameter.hints))


def _words(said: Utterance) -> tuple[list[str], list[int]]:
    """The stems without hyphens, so that "part-time" is two words, and the place of each."""
    places = [at for at, token in enumerate(said.tokens) if token.text != "-"]
    return [said.stems[at] for at in places], places


def _spelled(parameter: Parameter, said: Utterance, value: Any) -> Iterator[Candidate]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield from (Candidate(2.5, value, n.first, n.last) for n in said.numbers if n.value == value)
        return
    own = list(_spoken(value))
    if parameter.kind == "currency" or (code_like := re.fullmatch(r"[A-Z]{3}", str(value))):
        for at in range(len(said.tokens)):
            for last in (at + 2, at + 1):
                if last <= len(said.tokens) and currency_code(said.slice(at, last)) == str(value).upper():
                    yield sided(parameter, said, Candidate(3.0, value, at, last))
        if not (parameter.kind != "currency" and code_like):
            return
    size = len(own)
    spoken, places = _words(said)
    for index in range(len(spoken) - size + 1):
        if spoken[index : index + size] == own:
            before = f" {' '.join(spoken[:index])} "
            if not _wants_denied(parameter) and is_denied(before, len(before)):
                continue
            at, last = places[index], places[index + size - 1] + 1
            weak = size == 1 and said.low(at) in _WEAK_CONSTANTS
            written = [said.low(places[i]) for i in range(index, index + size)] == split_name(str(value))
            # "check" at the head of a request is its verb, not a checking account.
            score = (
                1.2 if weak or (not written and size == 1 and at == 0) else 3.0 + 0.2 * size + (0.4 if written else 0.0)
            )
            yield sided(parameter, said, Candidate(score, value, at, last))
    joined = "".join(own)
    if size > 1 or "-" in str(value) or "_" in str(value):
        for at, token in enumerate(said.tokens):
            if token.stem == joined or token.low == str(value).lower():
                yield Candidate(3.0, value, at, at + 1)
    elif size == 1 and len(joined) > 5:  # "check in" for "checkin"
        for index in range(len(spoken) - 1):
            at, last = places[index], places[index + 1]
            if said.low(at) + said.low(last) == str(value).lower():
                yield Candidate(3.0, value, at, last + 1)


def _told(parameter: Parameter, said: Utterance) -> Iterator[Candidate]:
    spoken, places = _words(said)
    text = f" {' '.join(spoken)} "
    for value in parameter.enum:
        for pattern in sayings(_spoken(value)):
            for match in pattern.finditer(text):
                # "No gluten" asks for what is free of it.
                free = _wants_denied(parameter) or bool(_FREE_OF & set(_spoken(value)))
                if not free and is_denied(text, match.start()):
                    continue
                index = text.count(" ", 0, match.start()) - 1
                first, last = places[index], places[index + match[0].count(" ")] + 1
                # The longer phrase knows better: "not delivered" against "delivered".
                yield sided(
                    parameter, said, Candidate(SAID + min(len(match[0]), 24) / 40, value, first, last)
                )  # fmt: skip


def _near(parameter: Parameter, said: Utterance) -> Iterator[Candidate]:
    spoken = {value: [w for w in _spoken(value) if w not in _EMPTY_WORDS] for value in parameter.enum}
    glosses = _glosses(parameter)
    labels = set(parameter.words) - {w for words in spoken.values() for w in words}
    common = Counter(w for words in spoken.values() for w in set(words))
    tokens = [
        (at, t.stem, t.low) for at, t in enumerate(said.tokens)
        if t.is_word and len(t.low) > 2 and t.stem not in labels
        and (t.low not in STOP_WORDS or t.low in {"where", "not"} or t.stem in common)
    ]  # fmt: skip
    best: list[tuple[float, Any, int]] = []
    for value, own in spoken.items():
        telling = [w for w in own if common[w] == 1] or own
        near, at = _coverage(telling, tokens, associated=parameter.required)
        gloss = [w for w in glosses.get(value, ()) if w not in own]
        if gloss:
            worth, place = max(
                ((_nearness(s, w, low, associated=False), i) for i, s, low in tokens for w in gloss), default=(0.0, -1)
            )
            if worth >= 0.8 and 0.8 * worth > near:
                near, at = 0.8 * worth, place
        if near >= _HALF and at >= 0:
            best.append((near, value, at))
    best.sort(key=lambda b: -b[0])
    for near, value, at in best:
        yield Candidate(near * _NEAR, value, at, at + 1)


def _coverage(words: Sequence[str], tokens: Sequence[tuple[int, str, str]], *, associated: bool) -> tuple[float, int]:
    """How much of a value's words the utterance tells, and the place of the best told one."""
    total, top, place = 0.0, 0.0, -1
    for word in words:
        worth, at = max(
            ((0.0 if opposite(s, word) else _nearness(s, word, low, associated=associated), i) for i, s, low in tokens),
            default=(0.0, -1),
        )
        total += worth if worth >= 0.5 else 0.0
        if worth > top:
            top, place = worth, at
    return (total / len(words) if words else 0.0), place


@lru_cache(maxsize=65_536)
def _nearness(word: str, wanted: str, low: str, *, associated: bool) -> float:
    """From 0 to 1: how surely a stem of the utterance stands for a stem of the schema."""
    if word == wanted:
        return 1.0
    if same_choice(word, wanted):
        return 0.9
    if related(word, wanted):
        return 0.85
    if associated and same_concept(word, wanted):
        return 0.75
    close = similarity(word, wanted)
    alike = SequenceMatcher(None, low, wanted).ratio() if len(low) > 4 and len(wanted) > 4 else 0.0
    return max(close if close >= 0.55 else 0.0, alike * 0.85 if alike >= 0.8 else 0.0)


@lru_cache(maxsize=65_536)
def related(left: str, right: str) -> bool:
    """Whether two stems descend from one word: "dermatologist" and "dermatology", "install" and "installation"."""
    size = 0
    while size < min(len(left), len(right)) and left[size] == right[size]:
        size += 1
    return size >= 5 and left[size:] in _ENDINGS and right[size:] in _ENDINGS


@lru_cache(maxsize=512)
def _read_glosses(description: str, values: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found = []
    for value in values:
        match = re.search(
            rf"(?<!\w)['\"`]?{re.escape(value)}['\"`]?\s*(?:[:=(]|-|means|for|if|when)\s*([^;,.)\n]+)", description
        )
        if match:
            found.append((value, tuple(stems(match[1]))))
    counted = Counter(w for _, words in found for w in set(words))
    return tuple((value, tuple(w for w in words if counted[w] == 1)) for value, words in found)


def _glosses(parameter: Parameter) -> dict[Any, tuple[str, ...]]:
    """What the description says of each value, words that it says of several left out."""
    named = {str(value): value for value in parameter.enum}
    return {named[name]: words for name, words in _read_glosses(parameter.description[:600], tuple(named))}


def number_glosses(parameter: Parameter) -> dict[int, tuple[str, ...]]:
    """What the description says of single numbers: "0 = fully closed, 100 = fully open"."""
    pairs = re.findall(r"(?<![\d.])(\d{1,3})\s*(?:=|:|is|means|\()\s*([a-z][^;,.)\n\d]*)", parameter.description[:400])
    return {int(number): tuple(stems(text)) for number, text in pairs}
