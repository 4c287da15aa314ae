"""Who a sentence speaks of: the single home of names told by being its subject or by owning something.

"Sarah Miller has moved", "Biscuit is due for her shots", "Priya's birthday is in April".
"""

from collections.abc import Iterator
from typing import Final

from voicebus_services.model_simulator.brain.associations import known
from voicebus_services.model_simulator.brain.candidate import Candidate
from voicebus_services.model_simulator.brain.schema import Parameter
from voicebus_services.model_simulator.brain.tokens import STOP_WORDS, words
from voicebus_services.model_simulator.brain.utterance import PREPOSITIONS, Utterance
from voicebus_services.model_simulator.brain.verbs import actions

_SUBJECT: Final = 3.2  # above a phrase that only its preposition speaks for
_MEASURED: Final = 1.6  # "Daisy weighs 412 kilos": rather a name than what is measured
_PREDICATES: Final = words(
    "is has was had needs wants wanted needed will would should can could got gets just and keeps does did"
)
_POSSESSIVES: Final = words("his her their its the my a an")
_PRONOUNS: Final = words("he she him her his hers")
_OPENERS: Final = words("so well okay ok hey hi hello please yes no and but also now actually")
_CALENDAR: Final = words(
    """monday tuesday wednesday thursday friday saturday sunday today tomorrow yesterday january february march april
    may june july august september october november december"""
)


def wants_name(parameter: Parameter) -> bool:
    """Whether the parameter holds somebody's or something's own name."""
    if parameter.enum or not parameter.accepts("string"):
        return False
    named = {"nam", "pet"} & {*parameter.words, *parameter.hints}
    return parameter.kind in {"person", "organization"} or (
        parameter.kind in {"thing", "title", "place"} and bool(named)
    )


def subjects(parameter: Parameter, said: Utterance, used: frozenset[int]) -> Iterator[Candidate]:
    """Names that a sentence begins with and goes on to speak of."""
    if not wants_name(parameter) or not said.text[:1].isupper():
        return
    for start in range(len(said.tokens)):
        if start and said.tokens[start - 1].text not in ".?!" and not (
            said.tokens[start - 1].text == "," and said.low(start - 2) in _OPENERS
        ):  # fmt: skip
            continue
        last = start
        while last < len(said.tokens) and _is_name_part(said, last, start):
            last += 1
        if last in {start, len(said.tokens)} or used & set(range(start, last)):
            continue
        text = said.slice(start, last)
        if text.endswith("'s") and said.tokens[last].is_word:
            yield Candidate(_SUBJECT, text.removesuffix("'s"), start, last)
        elif _is_told_of(said, start, last):
            yield Candidate(_SUBJECT, text, start, last)
        elif said.low(last).endswith("s") and any(n.first == last + 1 for n in said.numbers):
            yield Candidate(_SUBJECT if last - start > 1 else _MEASURED, text, start, last)


def _is_name_part(said: Utterance, at: int, start: int) -> bool:
    token = said.tokens[at]
    if not token.is_word or not token.text[0].isupper() or token.low in STOP_WORDS | _CALENDAR:
        return False
    return at == start or not said.tokens[at - 1].text.endswith("'s")


def _is_told_of(said: Utterance, start: int, last: int) -> bool:
    """Whether a predicate follows; of a single common word it must say more, as "Milk is out" names nobody."""
    verb = said.tokens[last]
    if not verb.is_word or verb.text != verb.low or verb.low in PREPOSITIONS:
        return False
    told = verb.low in _PREDICATES or said.low(last + 1) in _POSSESSIVES or verb.low.endswith("ed")
    if not told:
        return False
    if last - start > 1:
        return verb.low in _PREDICATES or not actions(said.stems[start])  # "Invite Anna …" is a request
    personal = _PRONOUNS & {said.low(i) for i in range(last, len(said.tokens))}
    return not known(said.stems[start]) or bool(personal)
