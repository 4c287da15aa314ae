"""Filling a tool's arguments from an utterance. The single home of deciding which words become which argument."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

from voicebus_services.model_simulator.brain.candidate import Candidate
from voicebus_services.model_simulator.brain.candidates import typed_candidates
from voicebus_services.model_simulator.brain.choices import SAID
from voicebus_services.model_simulator.brain.concepts import LANGUAGES
from voicebus_services.model_simulator.brain.defaults import span_of_hours, stated_default
from voicebus_services.model_simulator.brain.lists import elements, records
from voicebus_services.model_simulator.brain.phrases import phrase_candidates, spelled
from voicebus_services.model_simulator.brain.schema import JsonObject, Parameter, Tool
from voicebus_services.model_simulator.brain.texts import free_text, labelled_text, marked_text, telling_clause
from voicebus_services.model_simulator.brain.tokens import split_name, stem, stemmed_words, stems, words
from voicebus_services.model_simulator.brain.utterance import Utterance
from voicebus_services.model_simulator.brain.yes_no import unmentioned

_ENOUGH_REQUIRED = 0.5
_ENOUGH_OPTIONAL = 1.5
_AS_GOOD = 0.75  # the score that the unit said only once may cost
_PURPOSES = stemmed_words("purpose reason occasion")
_PLACED_KINDS = words("""place person organization creator title thing query text""")


@dataclass(slots=True)
class Filling:
    """What an utterance says about a tool's arguments.

    Attributes:
        values: path of the parameter -> value.
        strength: path -> how sure the value is.
        missing: required parameters that nothing was said about.
        used: tokens that became values.
        loose: those of the used tokens that only hint at a value ("sore throat" for a specialty); a text may tell them
            again.
        others: for the one parameter that was given several values, the further ones ("in Paris and in London").
    """

    values: dict[tuple[str, ...], Any] = field(default_factory=dict)
    strength: dict[tuple[str, ...], float] = field(default_factory=dict)
    missing: list[Parameter] = field(default_factory=list)
    used: frozenset[int] = frozenset()
    others: dict[tuple[str, ...], list[Any]] = field(default_factory=dict)
    places: dict[tuple[str, ...], int] = field(default_factory=dict)
    currencies: set[tuple[str, ...]] = field(default_factory=set)
    loose: frozenset[int] = frozenset()

    def set(self, parameter: Parameter, candidate: Candidate) -> None:
        self.values[parameter.path] = candidate.value
        self.strength[parameter.path] = candidate.score
        self.places[parameter.path] = candidate.first
        if parameter.kind == "currency":
            self.currencies.add(parameter.path)
        self.used |= candidate.tokens


def fill(
    tool: Tool, said: Utterance, known: Mapping[tuple[str, ...], Any] | None = None, *, formal_only: bool = False
) -> Filling:
    """Fill what can be filled. Values in ``known`` are kept and not looked for again.

    Args:
        formal_only: take only values told by their form or marked as text, as in an answer to a question, where loose
            words belong to what was asked.
    """
    filling = Filling(values=dict(known or {}))
    filling.strength = dict.fromkeys(filling.values, 3.0)
    open_parameters = [p for p in tool.parameters if p.path not in filling.values]
    claimed = _claim_marked(open_parameters, said)
    _assign_typed(open_parameters, tool, said, filling, claimed)
    _order_numbers(open_parameters, said, filling)
    _split_names(tool, said, filling)
    if not claimed:
        _assign_left_number(open_parameters, said, filling)
    _order_dates(open_parameters, said, filling)
    _end_on_the_first_day(tool, said, filling)
    if formal_only:
        open_parameters = [p for p in open_parameters if p.path in claimed]
    _assign_lists(open_parameters, tool, said, filling, claimed)
    _assign_phrases(open_parameters, tool, said, filling, claimed)
    _assign_texts(open_parameters, tool, said, filling, claimed)
    _complete_objects(tool, said, filling)
    _settle_booleans(tool, filling)
    for parameter in tool.required:
        if parameter.path not in filling.values and not _dispensable(parameter):
            value = span_of_hours(parameter, said)
            value = stated_default(parameter, said.today) if value is None else value
            if value is not None:
                filling.values[parameter.path] = value
    filling.missing = [p for p in tool.required if p.path not in filling.values and not _dispensable(p)]
    _further_values(tool, said, filling)
    return filling


def arguments(tool: Tool, filling: Filling) -> JsonObject:
    """The arguments as the client gets them: nested again, with null or the default where strict schemas want every
    key.
    """
    result: JsonObject = {}
    for parameter in tool.parameters:
        if parameter.path in filling.values:
            value = filling.values[parameter.path]
        elif parameter.required and parameter.has_default:
            value = parameter.schema["default"]
        elif parameter.required and parameter.nullable:
            value = None
        elif parameter.required and parameter.accepts("array"):
            value = []
        else:
            continue
        inner = result
        for key in parameter.path[:-1]:
            inner = inner.setdefault(key, {})
        inner[parameter.name] = value
    return result


def _complete_objects(tool: Tool, said: Utterance, filling: Filling) -> None:
    """An optional object that got a value needs its other required ones too, or it has to go."""
    for parameter in tool.parameters:
        if parameter.required or not parameter.needed_inside or len(parameter.path) < 2 or (
            parameter.path in filling.values
        ):  # fmt: skip
            continue
        if not any(path[: len(parameter.path) - 1] == parameter.path[:-1] for path in filling.values):
            continue
        needed = replace(parameter, required=True)
        fitting = [
            c for c in typed_candidates(needed, said) if c.score >= _enough(needed) and not c.tokens & filling.used
        ]
        value = fitting[0].value if fitting else stated_default(needed, said.today)
        if value is not None:
            filling.values[parameter.path] = value


def _settle_booleans(tool: Tool, filling: Filling) -> None:
    """Required booleans that nobody spoke of, where something else was told or all the tool wants is yes or no."""
    told = [p for p in tool.parameters if p.path in filling.values and not p.accepts("boolean")]
    for parameter in tool.required:
        if not parameter.accepts("boolean") or parameter.path in filling.values or parameter.nullable:
            continue
        beside = any(not p.required and (p.accepts("integer", "number") or p.kind == "color") for p in told)
        value = unmentioned(parameter, mentioned=beside)
        if value is not None and not parameter.has_default:
            filling.values[parameter.path] = value


def _dispensable(parameter: Parameter) -> bool:
    optional_list = (
        parameter.accepts("array")
        and not parameter.schema.get("minItems")
        and "optional" in parameter.description.lower()
    )
    return parameter.has_default or parameter.nullable or optional_list


def _enough(parameter: Parameter) -> float:
    needed = parameter.required and not _dispensable(parameter)
    return _ENOUGH_REQUIRED if needed else _ENOUGH_OPTIONAL


def _claim_marked(parameters: list[Parameter], said: Utterance) -> dict[tuple[str, ...], tuple[int, int]]:
    """Text that the utterance marks as text: behind the parameter's own name ("with the subject …"), and what is to be
    said or remembered, for the first parameter that takes text; required ones first.
    """
    takers = [p for p in parameters if p.types == {"string"} and not p.enum]
    claimed = {p.path: place for p in takers if (place := labelled_text(p, said)) is not None}
    takers.sort(key=lambda p: (not p.required, {"text": 0, "title": 1, "query": 2}.get(p.kind, 3)))
    for parameter in takers:
        if parameter.path in claimed:
            continue
        place = marked_text(parameter, said)
        if place is None or place[0] >= place[1] or any(place[0] <= first < place[1] for first, _ in claimed.values()):
            continue
        return {**claimed, parameter.path: place}
    return claimed


def _assign_typed(
    parameters: list[Parameter], tool: Tool, said: Utterance, filling: Filling,
    claimed: Mapping[tuple[str, ...], tuple[int, int]],
) -> None:  # fmt: skip
    """Best pairs of parameter and candidate first; no token serves twice."""
    numeric = [p for p in parameters if p.accepts("integer", "number") and not p.enum]
    free_numbers = [n for n in said.numbers if not any(m.first <= n.first < m.last for m in said.moments)]
    alone = 1.0 if len(numeric) == len(free_numbers) == 1 else 0.0
    inside = {i for first, last in claimed.values() for i in range(first, last)}
    takes_moment = {i for m in said.moments for i in range(m.first, m.last)}
    # "How do you say good night in Italian": the language ends the text rather than being part of it.
    takes_moment |= {i for i in inside if said.low(i) in LANGUAGES and said.low(i - 1) in {"in", "into", "to"}}
    pairs = [
        (candidate.score + (0.25 if parameter.required else 0.0), -order, candidate, parameter)
        for order, parameter in enumerate(parameters)
        if parameter.path not in claimed
        for candidate in typed_candidates(parameter, said)
        if candidate.score + (alone if parameter in numeric else 0.0) >= _enough(parameter)
        and not (parameter.enum and not parameter.required and _says_what_the_tool_says(candidate, tool, said))
        and not ((candidate.tokens - takes_moment) & inside)
    ]
    pairs.sort(key=lambda pair: (-pair[0], -pair[1], pair[2].first))
    for _, _, candidate, parameter in pairs:
        if parameter.path in filling.values or parameter.accepts("array"):
            continue
        if candidate.tokens & filling.used and not _shares(parameter, candidate, filling, said):
            continue
        filling.set(parameter, candidate)
        if parameter.enum:
            evidence = [
                c for _, _, c, p in pairs if p is parameter and c.value == candidate.value and c.score >= SAID - 0.5
            ]
            more = frozenset(i for c in evidence for i in c.tokens)
            filling.used |= more
            if not any(stem(w) in {said.stems[i] for i in candidate.tokens} for w in split_name(str(candidate.value))):
                filling.loose |= more | candidate.tokens


def _order_numbers(parameters: list[Parameter], said: Utterance, filling: Filling) -> None:
    """Numbers that fit two parameters equally well are meant in the order of the schema ("five by six meters")."""
    numeric = [p for p in parameters if p.accepts("integer", "number") and not p.enum and p.path in filling.places]
    for left, right in pairwise(numeric):
        if filling.places[left.path] < filling.places[right.path]:
            continue
        by_place = [{c.first: c for c in reversed(typed_candidates(p, said))} for p in (left, right)]
        here, there = filling.places[left.path], filling.places[right.path]
        if not {said.low(i) for i in range(there, here)} & {"by", "x", "over"}:
            continue
        if not (there in by_place[0] and here in by_place[1] and here in by_place[0] and there in by_place[1]):
            continue
        now = by_place[0][here].score + by_place[1][there].score
        swapped = by_place[0][there].score + by_place[1][here].score
        if swapped > now - _AS_GOOD:
            filling.set(left, by_place[0][there])
            filling.set(right, by_place[1][here])


def _split_names(tool: Tool, said: Utterance, filling: Filling) -> None:
    """First and last name are found as one name and taken apart."""
    for first_name in tool.parameters:
        if split_name(first_name.name)[:1] not in (["first"], ["given"]) or first_name.path in filling.values:
            continue
        last_name = next(
            (p for p in tool.parameters if p.path[:-1] == first_name.path[:-1] and p.path not in filling.values
             and (set(split_name(p.name)) & {"last", "family", "surname"})), None,
        )  # fmt: skip
        if last_name is None:
            continue
        whole = replace(first_name, kind="person", words=(stem("name"), *first_name.words))
        found = [c for c in phrase_candidates(whole, tool, said, filling.used) if len(str(c.value).split()) >= 2]
        if not found or found[0].score < _ENOUGH_REQUIRED:
            continue
        given, _, family = str(found[0].value).rpartition(" ")
        filling.set(first_name, replace(found[0], value=given))
        filling.set(last_name, replace(found[0], value=family))


def _assign_left_number(parameters: list[Parameter], said: Utterance, filling: Filling) -> None:
    """The one number that is left goes to the one parameter that still wants one."""
    wanting = [p for p in parameters if p.path not in filling.values and p.accepts("integer", "number") and not p.enum]
    timed = {i for m in said.moments for i in range(m.first, m.last)} | said.house_numbers
    left = [n for n in said.numbers if n.first not in filling.used | timed and not n.ordinal]
    if len(wanting) != 1 or len(left) != 1 or said.low(left[0].first) in {"one", "once", "twice", "a", "an"}:
        return
    for candidate in typed_candidates(wanting[0], said):
        if candidate.first == left[0].first and candidate.score >= _ENOUGH_REQUIRED:
            filling.set(wanting[0], candidate)
            return


def _says_what_the_tool_says(candidate: Candidate, tool: Tool, said: Utterance) -> bool:
    """Whether the words that would choose an optional constant only name the tool ("heating" for `mode: heat`)."""
    words = {said.stems[i] for i in candidate.tokens}
    if {said.low(i) for i in candidate.tokens} >= set(split_name(str(candidate.value))):
        return False
    return bool(words) and words <= {*map(stem, split_name(tool.name)), *stems(tool.description)}


def _order_dates(parameters: list[Parameter], said: Utterance, filling: Filling) -> None:
    """ "From Monday to Friday" ends after it begins: an end that was named by its weekday moves on by weeks."""
    dated = {p.role: p for p in parameters if p.kind == "date" and p.path in filling.values and p.role}
    if not {"from", "to"} <= dated.keys():
        return
    start, end = dated["from"], dated["to"]
    moment = next((m for m in said.moments if m.first == filling.places.get(end.path)), None)
    first = next((m for m in said.moments if m.first == filling.places.get(start.path)), None)
    if not (moment and first and moment.day and first.day and moment.weekday) or moment.day >= first.day:
        return
    later = moment.day + timedelta(weeks=(first.day - moment.day).days // 7 + 1)
    if filling.values[end.path] == moment.day.isoformat():
        filling.values[end.path] = later.isoformat()


def _end_on_the_first_day(tool: Tool, said: Utterance, filling: Filling) -> None:
    """ "Thursday" alone is its own last day, "from Thursday" is not."""
    dated = {p.role: p for p in tool.required if p.kind == "date" and p.role in {"from", "to"}}
    start, end = dated.get("from"), dated.get("to")
    if (
        start is None
        or end is None
        or start.nullable
        or end.nullable
        or (start.path in filling.values) == (end.path in filling.values)
    ):
        return
    told, untold = (start, end) if start.path in filling.values else (end, start)
    place = filling.places.get(told.path, 0)
    if any(said.low(i) in {"from", "starting", "since", "until", "till", "to", "after", "beginning"}
           for i in range(max(0, place - 2), place)):  # fmt: skip
        return
    if sum(m.day is not None for m in said.moments) == 1 and not any(n.unit in {"day", "week"} and n.value > 1
                                                                      for n in said.numbers):  # fmt: skip
        filling.values[untold.path] = filling.values[told.path]


def _shares(parameter: Parameter, candidate: Candidate, filling: Filling, said: Utterance) -> bool:
    """Whether tokens already used may serve again: "100 dollars" is an amount and names its currency, and "this
    evening" is a date and a time."""
    if parameter.kind == "amount" and parameter.accepts("integer", "number"):
        owners = [p for p, place in filling.places.items() if candidate.first <= place < candidate.last]
        return bool(owners) and all(p in filling.currencies for p in owners)
    if parameter.kind == "currency":
        return not any(
            candidate.first <= place < candidate.last for p, place in filling.places.items() if p in filling.currencies
        )
    holder = [p for p, place in filling.places.items() if place == candidate.first]
    both = any(m.day and m.clock and m.first == candidate.first for m in said.moments)
    return both and len(holder) == 1 and parameter.kind in {"date", "day", "time"}


def _assign_lists(
    parameters: list[Parameter], tool: Tool, said: Utterance, filling: Filling,
    claimed: Mapping[tuple[str, ...], tuple[int, int]],
) -> None:  # fmt: skip
    inside = frozenset(i for first, last in claimed.values() for i in range(first, last))
    for parameter in parameters:
        if not parameter.accepts("array") or parameter.items is None or parameter.path in filling.values:
            continue
        found = records(parameter, tool, said, filling.used | inside) if parameter.fields else elements(
            parameter, tool, said, filling.used | inside)  # fmt: skip
        if not found or sum(c.score for c in found) / len(found) < _enough(parameter):
            continue
        found.sort(key=lambda c: c.first)
        values: list[Any] = []
        for candidate in found:
            if candidate.value not in values:
                values.append(candidate.value)
            filling.used |= candidate.tokens
        filling.values[parameter.path] = values
        filling.strength[parameter.path] = max(c.score for c in found)


def _assign_phrases(
    parameters: list[Parameter], tool: Tool, said: Utterance, filling: Filling,
    claimed: Mapping[tuple[str, ...], tuple[int, int]],
) -> None:  # fmt: skip
    takers = [
        p for p in parameters
        if p.path not in filling.values and p.path not in claimed and p.accepts("string") and not p.enum
        and p.kind in _PLACED_KINDS and p.kind != "text" and "const" not in p.schema
    ]  # fmt: skip
    inside = frozenset(i for first, last in claimed.values() for i in range(first, last))
    while takers:
        ranked = [
            (candidate.score + (0.3 if parameter.required else 0.0), -order, candidate, parameter)
            for order, parameter in enumerate(takers)
            for candidate in phrase_candidates(parameter, tool, said, filling.used | inside)
            if candidate.score >= _enough(parameter)
            # One free phrase is not a search text while more of the sentence belongs to it.
            and not (parameter.kind == "query" and parameter.required)
        ]
        if not ranked:
            return
        _, _, candidate, parameter = max(ranked, key=lambda r: (r[0], r[1], -r[2].first))
        filling.set(parameter, candidate)
        takers.remove(parameter)


def _assign_texts(
    parameters: list[Parameter], tool: Tool, said: Utterance, filling: Filling,
    claimed: Mapping[tuple[str, ...], tuple[int, int]],
) -> None:  # fmt: skip
    for parameter in parameters:
        if parameter.path in filling.values or not parameter.accepts("string") or parameter.enum:
            continue
        used = filling.used - filling.loose
        place, score = claimed.get(parameter.path), 3.0
        if place is not None:
            first, last = place
            while last > first and (last - 1 in used or said.low(last - 1) in {"at", "on", "by", "in", "for", "."}):
                last -= 1
            while first < last and (first in used or said.low(first) == "to"):
                first += 1
            place = (first, last)
        elif parameter.required and not _dispensable(parameter) and parameter.kind in {"text", "query", "title"}:
            place, score = free_text(parameter, tool, said, used), 0.8
        elif (
            parameter.kind == "text" and (clause := telling_clause(tool, said, used)) and not used & set(range(*clause))
        ):
            place, score = free_text(parameter, tool, said, used), 1.5
        elif parameter.kind in {"text", "query"}:
            about = next(
                (c for c in said.chunks if c.preposition in {"about", "regarding", "because"} and c.first not in used),
                None,
            )
            place, score = ((about.first, about.last), 1.5) if about else (None, 0.0)
        if place is not None and place[0] < place[1]:
            filling.set(parameter, Candidate(score, spelled(parameter, said, *place), *place))


def _may_tell(parameter: Parameter, tool: Tool, said: Utterance, used: frozenset[int]) -> bool:
    """Whether an optional text gets a clause of its own ("I've got a sore throat. Can I see …")."""
    clause = telling_clause(tool, said, used) if parameter.kind == "text" else None
    return clause is not None and not used & set(range(*clause))


def _further_values(tool: Tool, said: Utterance, filling: Filling) -> None:
    """Values that would fill the one required scalar again: each asks for a call of its own."""
    scalars = [p for p in tool.required if p.accepts("string") and not p.accepts("array") and p.path in filling.values]
    for parameter in scalars:
        if parameter.kind in {"text", "query", "title"}:
            continue
        if parameter.enum or parameter.kind not in _PLACED_KINDS:
            more = [c for c in typed_candidates(parameter, said) if c.score >= 2.5 and not c.tokens & filling.used]
            more = [c for c in more if c.value != filling.values[parameter.path]]
            if not any(said.low(i) in {"and", ","} for c in more for i in range(max(0, c.first - 3), c.first)):
                more = []
        else:
            chains = [c for c in said.chunks if any(i in filling.used for i in range(c.first, c.last))]
            mine = [
                c
                for c in chains
                if said.slice(c.first, c.last).lower().find(str(filling.values[parameter.path]).lower()) >= 0
            ]
            if not mine:
                continue
            more = [
                c for c in phrase_candidates(parameter, tool, said, filling.used)
                if any(chunk.first <= c.first < chunk.last and chunk.chain == mine[0].chain and chunk not in mine
                       for chunk in said.chunks)
            ]  # fmt: skip
            labels = {word for p in tool.parameters for word in p.words}
            more = [c for c in more if not labels & {said.stems[i] for i in c.tokens}]
            places = [filling.places.get(parameter.path, 0), *(c.first for c in more)]
            if not any(said.low(i) in {"and", "or", "&"} for i in range(min(places), max(places))):
                more = []
        if more:
            place = filling.places.get(parameter.path, 0)
            chosen = Candidate(0.0, filling.values[parameter.path], place, place)
            first, *ordered = sorted([chosen, *more], key=lambda c: c.first)
            filling.values[parameter.path] = first.value
            filling.others[parameter.path] = list(dict.fromkeys(c.value for c in ordered))
            for candidate in ordered:
                filling.used |= candidate.tokens
            return
