"""Filling a tool's arguments from an utterance. The single home of deciding which words become which argument."""

from collections.abc import Mapping
from typing import Any

from voicebus_services.model_simulator.brain.candidate import Candidate
from voicebus_services.model_simulator.brain.candidates import typed_candidates
from voicebus_services.model_simulator.brain.choices import SAID
from voicebus_services.model_simulator.brain.concepts import LANGUAGES
from voicebus_services.model_simulator.brain.defaults import span_of_hours, stated_default
from voicebus_services.model_simulator.brain.filling import Filling, dispensable, enough
from voicebus_services.model_simulator.brain.lists import elements, records
from voicebus_services.model_simulator.brain.phrases import phrase_candidates, spelled
from voicebus_services.model_simulator.brain.schema import JsonObject, Parameter, Tool
from voicebus_services.model_simulator.brain.settling import (
    assign_left_number,
    complete_objects,
    end_on_the_first_day,
    order_dates,
    order_numbers,
    settle_booleans,
    split_names,
)
from voicebus_services.model_simulator.brain.texts import free_text, labelled_text, marked_text, telling_clause
from voicebus_services.model_simulator.brain.tokens import split_name, stem, stemmed_words, stems, words
from voicebus_services.model_simulator.brain.utterance import Utterance

__all__ = ["Filling", "arguments", "fill"]

_PURPOSES = stemmed_words("purpose reason occasion")
_PLACED_KINDS = words("""place person organization creator title thing query text""")


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
    order_numbers(open_parameters, said, filling)
    split_names(tool, said, filling)
    if not claimed:
        assign_left_number(open_parameters, said, filling)
    order_dates(open_parameters, said, filling)
    end_on_the_first_day(tool, said, filling)
    if formal_only:
        open_parameters = [p for p in open_parameters if p.path in claimed]
    _assign_lists(open_parameters, tool, said, filling, claimed)
    _assign_phrases(open_parameters, tool, said, filling, claimed)
    _assign_texts(open_parameters, tool, said, filling, claimed)
    complete_objects(tool, said, filling)
    settle_booleans(tool, filling)
    for parameter in tool.required:
        if parameter.path not in filling.values and not dispensable(parameter):
            value = span_of_hours(parameter, said)
            value = stated_default(parameter, said.today) if value is None else value
            if value is not None:
                filling.values[parameter.path] = value
    filling.missing = [p for p in tool.required if p.path not in filling.values and not dispensable(p)]
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
        if candidate.score + (alone if parameter in numeric else 0.0) >= enough(parameter)
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


def _says_what_the_tool_says(candidate: Candidate, tool: Tool, said: Utterance) -> bool:
    """Whether the words that would choose an optional constant only name the tool ("heating" for `mode: heat`)."""
    words = {said.stems[i] for i in candidate.tokens}
    if {said.low(i) for i in candidate.tokens} >= set(split_name(str(candidate.value))):
        return False
    return bool(words) and words <= {*map(stem, split_name(tool.name)), *stems(tool.description)}


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
        if not found or sum(c.score for c in found) / len(found) < enough(parameter):
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
            if candidate.score >= enough(parameter)
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
        elif parameter.required and not dispensable(parameter) and parameter.kind in {"text", "query", "title"}:
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
