"""Names of several phrases: the single home of joining what small words hold together ("Lord of the Rings")."""

import re
from collections.abc import Iterator
from typing import Final

from voicebus_services.model_simulator.brain.candidate import Candidate
from voicebus_services.model_simulator.brain.schema import Parameter, Tool
from voicebus_services.model_simulator.brain.tokens import stemmed_words, words
from voicebus_services.model_simulator.brain.utterance import Utterance

_CORNER: Final = re.compile(
    r"\b(?:corner|intersection|junction) of (?:\w+ ){1,3}and \w+"
    r"(?: (?:Street|Avenue|Road|Lane|Drive|Boulevard|Ave|St)\b)?",
    re.IGNORECASE,
)
_STREETS: Final = stemmed_words("street avenue road lane drive square boulevard way court place terrace")
_JOINERS: Final = words("""of the and de la del & a in on to for - '""")


def corners(said: Utterance) -> Iterator[Candidate]:
    """ "The corner of Main and 5th" is one place."""
    for match in _CORNER.finditer(said.text):
        first, last = said.range_of(match.start(), match.end())
        if first < last:
            yield Candidate(3.5, said.slice(first, last), first, last, long=True)


def street_numbers(said: Utterance) -> Iterator[Candidate]:
    """ "Green Street 5": a number behind a street's name belongs to the address."""
    for number in said.numbers:
        first = number.first
        if not follows_street(said, first):
            continue
        while first > 0 and said.tokens[first - 1].is_word and said.tokens[first - 1].text[0].isupper():
            first -= 1
        chunk = next((c for c in said.chunks if c.first <= first < c.last), None)
        near = 1.0 if chunk is not None and chunk.preposition in {"at", "from", "in", "to"} else 0.0
        yield Candidate(2.0 + near, said.slice(first, number.first + 1), first, number.first + 1, long=True)


def follows_street(said: Utterance, at: int) -> bool:
    """Whether the number at a place stands right behind a street's name written with capitals."""
    if at < 2 or not said.low(at).rstrip("abc").isdigit():
        return False
    words_before = said.tokens[at - 2 : at]
    return said.stems[at - 1] in _STREETS and all(t.is_word and t.text[0].isupper() for t in words_before)


def extended(tool: Tool, said: Utterance, used: frozenset[int], short: list[Candidate]) -> Iterator[Candidate]:
    """A title with what belongs to it, where no parameter takes that: "lunch with Sarah"."""
    kinds = {p.kind for p in tool.parameters} | {p.items.kind for p in tool.parameters if p.items}
    joins = {"with": "person", "about": "query"}
    for candidate in short:
        preposition = said.low(candidate.last)
        following = next((c for c in said.chunks if candidate.last < c.first <= candidate.last + 2), None)
        if following is None or joins.get(preposition, "") in kinds | {""} or following.preposition != preposition:
            continue
        if not used & set(range(following.first, following.last)):
            text = said.slice(candidate.first, following.last)
            yield Candidate(candidate.score + 0.2, text, candidate.first, following.last, long=True)


def long_names(
    parameter: Parameter, said: Utterance, used: frozenset[int], short: list[Candidate]
) -> Iterator[Candidate]:
    """Names that hold small words: "Lord of the Rings", "Simon and Garfunkel"."""
    joiners = (
        _JOINERS
        if parameter.kind == "title"
        else {"of", "the", "de", "la", "del", "&", "-", "'"}
        | ({"and"} if parameter.kind in {"creator", "organization"} else set())
    )
    for candidate in short:
        first, last = candidate.first, candidate.last
        if first > 1 and said.tokens[first - 1].text in {"The", "A", "An"} and said.tokens[first - 2].text not in ".?!":
            first -= 1
        while True:
            end = last
            while end < len(said.tokens) and said.low(end) in joiners and end not in used:
                end += 1
            if end == last or end >= len(said.tokens) or end in used or not said.tokens[end].text[0].isupper():
                break
            if not said.tokens[last - 1].text[0].isupper():
                break
            while (
                end < len(said.tokens)
                and said.tokens[end].is_word
                and said.tokens[end].text[0].isupper()
                and end not in used
            ):
                end += 1
            last = end
        if last > candidate.last:
            yield Candidate(candidate.score + 0.3, said.slice(first, last), first, last, long=True)
