"""Lists: the single home of reading several values from one phrase, as in "two pizzas, a salad and a coke"."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import Final

from voicebus_services.model_simulator.brain.candidate import Candidate
from voicebus_services.model_simulator.brain.candidates import typed_candidates
from voicebus_services.model_simulator.brain.choices import related
from voicebus_services.model_simulator.brain.concepts import same_concept
from voicebus_services.model_simulator.brain.phrases import phrase_candidates, spelled
from voicebus_services.model_simulator.brain.schema import JsonObject, Parameter, Tool
from voicebus_services.model_simulator.brain.tokens import STOP_WORDS, stemmed_words, words
from voicebus_services.model_simulator.brain.utterance import DETERMINERS, PREPOSITIONS, Utterance
from voicebus_services.model_simulator.brain.verbs import actions

_CONTAINERS: Final = stemmed_words(
    """carton loaf loaves bottle can bag box pack packet piece slice cup glass jar tin bunch bar tube roll bowl kilo
    kilogram gram liter litre pound dozen pair portion serving head stick"""
)
_NOTHING: Final = words("nothing anything something everything else more none stuff things")
_STATES: Final = words("lying left sitting waiting remaining hanging standing available handy ready")
_JOINTS: Final = words("and , plus & also")
_PART_OF_ITEM: Final = words("of one two three four five six seven eight nine ten some couple half") | {"-", "'"}


def elements(parameter: Parameter, tool: Tool, said: Utterance, used: frozenset[int]) -> list[Candidate]:
    """The list of scalars: all that are told by form, else the chain of noun phrases that fits best."""
    items = parameter.items
    assert items is not None  # noqa: S101 - the caller checked
    typed = [c for c in typed_candidates(items, said) if c.score >= 1.2 and not c.tokens & used]
    chosen: list[Candidate] = []
    for candidate in typed:
        if not any(candidate.tokens & other.tokens for other in chosen):
            chosen.append(candidate)
    if chosen or items.enum or not items.accepts("string"):
        return chosen
    phrases = sorted(
        (_list_member(items, c, said) for c in phrase_candidates(items, tool, said, used)),
        key=lambda c: (-c.score, c.first),
    )
    phrases = [t for c in phrases if (t := _without_state(items, c, said)) is not None]
    if not phrases:
        return []
    chain_of = {i: c.chain for c in said.chunks for i in range(c.first, c.last)}
    size = Counter(chain_of.get(c.first) for c in phrases)
    # A list of several is rather meant than a phrase by itself.
    best = chain_of.get(max(phrases, key=lambda c: c.score + 0.4 * (size[chain_of.get(c.first)] - 1)).first)
    same = [c for c in phrases if chain_of.get(c.first) == best]
    same += [c for c in phrases if c not in same and said.low(c.last) == "too"]  # "… and potatoes too"
    if len(same) < int(parameter.schema.get("minItems") or 0):
        same = phrases  # "compare this with that"
    return [
        next(iter(group))
        for _, group in groupby(sorted(same, key=lambda c: (c.first, -c.score)), key=lambda c: c.first)
    ]


def _without_state(parameter: Parameter, candidate: Candidate, said: Utterance) -> Candidate | None:
    """The item without what is said of where it is ("coconut milk lying around"); None for what names nothing."""
    last = candidate.last
    for at in range(candidate.first + 1, last):
        if said.low(at) in _STATES and (at + 1 == last or said.low(at + 1) in PREPOSITIONS):
            last = at
            break
    if all(said.low(at) in _NOTHING for at in range(candidate.first, last)):
        return None
    if last == candidate.last:
        return candidate
    return replace(candidate, value=spelled(parameter, said, candidate.first, last), last=last)


def _list_member(parameter: Parameter, candidate: Candidate, said: Utterance) -> Candidate:
    """Less likely where a preposition of place leads in: "put eggs on the list", "burgers to Elm Street"."""
    chunk = next((c for c in said.chunks if c.first <= candidate.first < c.last), None)
    if any(n.last == candidate.first and same_concept(n.unit, "peopl") for n in said.numbers):
        return replace(candidate, score=candidate.score - 2.0)  # "for four people" names nobody
    told = chunk is not None and any(related(said.word_before(chunk.first), w) for w in parameter.words)
    if chunk is not None and not told and chunk.preposition in {"to", "at", "from", "near", "on", "into"}:
        return replace(candidate, score=candidate.score - 1.2)
    return candidate


def records(parameter: Parameter, tool: Tool, said: Utterance, used: frozenset[int]) -> list[Candidate]:
    """A list of objects, one for each item of a list: "two pizzas and a coke"."""
    text = next((f for f in parameter.fields if f.types == {"string"} and not f.enum), None)
    if text is None:
        return _paired(parameter, said, used)
    best = _counted_item(parameter, said, used)
    if best is None:
        phrases = [_list_member(parameter, c, said) for c in phrase_candidates(text, tool, said, used)]
        if not phrases:
            return []
        best = max(phrases, key=lambda c: (c.score, -c.first))
    found: list[Candidate] = []
    for first, last in _items(said, best, used):
        record = _record(parameter, text, said, first, last)
        if record is not None and all(f.name in record for f in parameter.fields if f.required):
            found.append(Candidate(best.score, record, first, last))
    return found


def _paired(parameter: Parameter, said: Utterance, used: frozenset[int]) -> list[Candidate]:
    """Objects of a constant and a number: "hotel 240 euros, taxi 18 euros"."""
    kind = next((f for f in parameter.fields if f.enum), None)
    value = next((f for f in parameter.fields if f.accepts("integer", "number") and not f.enum), None)
    if kind is None or value is None or any(f.required for f in parameter.fields if f not in {kind, value}):
        return []
    numbers = [n for n in said.numbers if n.first not in used]
    found: dict[int, Candidate] = {}
    named = [c for c in typed_candidates(kind, said) if c.score >= 1.2 and not c.tokens & used]
    for candidate in sorted(named, key=lambda c: c.first):
        free = [n for n in numbers if n.first not in found and not candidate.tokens & set(range(n.first, n.last))]
        if not free or any(candidate.first == other.value[""] for other in found.values()):
            continue
        number = min(free, key=lambda n: min(abs(n.first - candidate.last), abs(candidate.first - n.last)))
        record = {"": candidate.first, kind.name: candidate.value, value.name: number.plain}
        first, last = min(number.first, candidate.first), max(number.last, candidate.last)
        found[number.first] = Candidate(candidate.score, record, first, last)
    for candidate in found.values():
        candidate.value.pop("")
    return list(found.values())


def _counted_item(parameter: Parameter, said: Utterance, used: frozenset[int]) -> Candidate | None:
    """The first thing that is counted ("two chairs"), where the objects of the list hold a number."""
    if not any(f.accepts("integer", "number") and not f.enum for f in parameter.fields):
        return None
    timed = used | {i for m in said.moments for i in range(m.first, m.last)}
    for number in said.numbers:
        at = number.last
        if number.currency or number.percent or number.ordinal or number.first in timed or number.first == at:
            continue
        if at < len(said.tokens) and (
            said.low(at) == "of" or (said.tokens[at].is_word and said.low(at) not in STOP_WORDS)
        ):
            return Candidate(2.0, None, number.first, at + 1)
    return None


def _items(said: Utterance, best: Candidate, used: frozenset[int]) -> Iterator[tuple[int, int]]:
    """The places of the items of the list that the best phrase stands in."""
    barred = used | {i for m in said.moments for i in range(m.first, m.last)}
    numbered = {i for n in said.numbers for i in range(n.first, n.last)}
    priced = _prices(said)

    def belongs(at: int) -> bool:
        low = said.low(at)
        if not 0 <= at < len(said.tokens) or (at in barred and at not in priced):
            return False
        if at in priced:
            return True
        if low in _JOINTS or low in _PART_OF_ITEM or low in DETERMINERS or at in numbered:
            return True
        if not said.tokens[at].is_word or low in PREPOSITIONS or low in STOP_WORDS:
            return False
        return not (actions(said.stems[at]) and (at == 0 or said.low(at - 1) in STOP_WORDS))

    first, last = best.first, best.last
    while belongs(first - 1):
        opens = first in numbered or said.low(first) in DETERMINERS
        if opens and said.low(first - 1) not in _JOINTS | _PART_OF_ITEM and first - 1 not in numbered | priced:
            break  # "bill two lamps": an item begins with its number
        first -= 1
    while belongs(last):
        last += 1
    start = first
    for at in range(first, last + 1):
        if at == last or said.low(at) in _JOINTS:
            if start < at:
                yield start, at
            start = at + 1


def _prices(said: Utterance) -> set[int]:
    """The places of prices of single items: "at $12 each", "for 3 euros apiece", "at $90 an hour"."""
    found: set[int] = set()
    for number in said.numbers:
        if found and said.low(number.first - 1) == "at" and not number.unit:
            found |= {number.first - 1, *range(number.first, number.last)}  # "… and two tables at 150"
        each = said.low(number.last) in {"each", "apiece", "per", "a", "an"}
        if said.low(number.first - 1) in {"at", "for"} and (number.currency or each):
            found |= set(range(number.first - 1, number.last + int(each)))
            if each and said.low(number.last) in {"per", "a", "an"}:
                found.add(number.last + 1)
    return found


def _record(parameter: Parameter, text: Parameter, said: Utterance, first: int, last: int) -> JsonObject | None:
    """One item as an object: its number, its constants, and the words that are left as its name."""
    record: JsonObject = {}
    taken: set[int] = set()
    for inner in parameter.fields:
        if inner is text or not (inner.enum or inner.accepts("boolean")):
            continue
        near = [c for c in typed_candidates(inner, said) if first <= c.first and c.last <= last and c.score >= 1.2]
        if near:
            record[inner.name] = near[0].value
            taken |= near[0].tokens
    priced = _prices(said)
    taken |= {i for i in priced if first <= i < last}
    inside = [n for n in said.numbers if first <= n.first and n.last <= last]
    number = next((n for n in inside if n.first not in priced and not n.currency), None)
    price = next((n for n in inside if n.first in priced or n.currency), None)
    if number is not None:
        taken |= set(range(number.first, number.last))
    numeric = [f for f in parameter.fields if f.accepts("integer", "number") and not f.enum]
    amount = next((f for f in numeric if f.kind == "amount" or "pric" in f.hints), None)
    if amount is not None and price is not None:
        record[amount.name] = price.plain
    for inner in [f for f in numeric if f is not amount][:1]:
        if number is not None:
            record[inner.name] = number.plain
        elif inner.required:
            record[inner.name] = 1
    for inner in parameter.fields:
        if inner.required and inner.name not in record and inner is not text and inner.nullable:
            record[inner.name] = None
    begin = first
    while begin < last and (begin in taken or said.low(begin) in DETERMINERS):
        begin += 1
    if begin + 2 < last and said.stems[begin] in _CONTAINERS and said.low(begin + 1) == "of":
        begin += 2
    elif begin + 1 < last and said.low(begin) == "of":
        begin += 1
    end = next((i for i in range(begin, last) if i in taken), last)
    if begin >= end or not any(said.tokens[i].is_word for i in range(begin, end)):
        return None
    record[text.name] = spelled(text, said, begin, end)
    return {f.name: record[f.name] for f in parameter.fields if f.name in record}
