"""Dates and times as values: the single home of which form a parameter wants them in."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, time
from typing import Final

from voicebus_services.model_simulator.brain.candidate import Candidate, side
from voicebus_services.model_simulator.brain.dates import MONTHS, WEEKDAYS, Moment
from voicebus_services.model_simulator.brain.schema import Parameter
from voicebus_services.model_simulator.brain.utterance import Utterance

_MOST_OF_A_YEAR: Final = 200  # days
_HAPPENED: Final = re.compile(
    r"\b(?:was|were|lost|happened|bought|ordered|purchased|broke|stolen|left|forgot|spent|paid|had|incident|since|began"
    r"|occurred|started|ago|received)\b",
    re.IGNORECASE,
)


def moment_candidates(parameter: Parameter, said: Utterance) -> Iterator[Candidate]:
    """The moments of an utterance in the form the parameter wants."""
    if parameter.kind == "month":
        for at, token in enumerate(said.tokens):
            if token.low in MONTHS and (token.low not in {"may", "march"} or token.text[0].isupper()):
                yield Candidate(2.0 + side(parameter, said, at), token.text.capitalize(), at, at + 1)
    for moment in said.moments:
        near = side(parameter, said, moment.first)
        before = said.word_before(moment.first)
        near += 0.5 if before in parameter.words else 0.0
        if (value := _moment_value(parameter, said, moment)) is not None:
            yield Candidate(2.5 + near, value[0], value[1], value[2])


def _moment_value(parameter: Parameter, said: Utterance, moment: Moment) -> tuple[str, int, int] | None:
    kind, first, last = parameter.kind, moment.first, moment.last
    if kind == "datetime":
        partner = next(
            (m for m in said.moments if m is not moment and _beside(said, moment, m)
             and (m.day is None) == (moment.clock is None) and (m.day is None) != (moment.day is None)), None,
        )  # fmt: skip
        day = moment.day or (partner.day if partner else None)
        clock = moment.clock or (partner.clock if partner else None)
        whole = (first, last) if partner is None else (min(first, partner.first), max(last, partner.last))
        if _as_said(parameter):
            return said.slice(*whole), *whole
        if clock is None and parameter.format == "date-time" and day is not None:
            return datetime.combine(day, time(0)).isoformat(), *whole
        if clock is None:
            return (day.isoformat(), *whole) if day else None
        return datetime.combine(day or said.today, clock).isoformat(), *whole
    if kind == "time":
        if moment.clock is None:
            return None
        if _as_said(parameter):
            return moment.text, first, last
        return moment.clock.strftime("%H:%M:%S" if parameter.format == "time" else "%H:%M"), first, last
    if moment.day is None:
        return None
    moment = _of_the_past(parameter, said, moment)
    assert moment.day is not None  # noqa: S101 - it was above
    if kind == "weekday" or (kind == "day" and moment.weekday):
        return (
            (WEEKDAYS[moment.day.weekday()].capitalize(), first, last) if moment.weekday or kind == "weekday" else None
        )
    if kind == "month":
        return moment.day.strftime("%B"), first, last
    if kind == "day" and not re.search(r"date|yyyy|iso", parameter.description, re.IGNORECASE):
        return moment.text, first, last
    if _as_said(parameter):
        return moment.text, first, last
    return moment.day.isoformat(), first, last


def _of_the_past(parameter: Parameter, said: Utterance, moment: Moment) -> Moment:
    """A day of the year that was taken for next year's is this year's where something has happened on it."""
    if moment.day is None or moment.weekday or moment.day.year <= said.today.year or re.search(r"\d{4}", moment.text):
        return moment
    past = _HAPPENED.search(parameter.description) or _HAPPENED.search(said.text)
    if (moment.day - said.today).days < _MOST_OF_A_YEAR or not past:
        return moment
    return replace(moment, day=moment.day.replace(year=moment.day.year - 1))


def _as_said(parameter: Parameter) -> bool:
    """Whether the description shows that words such as "tomorrow" are wanted rather than a date in figures."""
    if parameter.format:
        return False
    text = parameter.description.lower()
    if re.search(r"iso|yyyy|\d{4}-\d\d|hh:mm|24.?hour", text):
        return False
    return bool(re.search(r"tomorrow|today|natural language|as (?:said|spoken)|free.?form|\d ?[ap]\.?m\b", text))


def _beside(said: Utterance, left: Moment, right: Moment) -> bool:
    """Whether only small words stand between two moments, so that they are one date and time."""
    first, last = (left.last, right.first) if left.first < right.first else (right.last, left.first)
    return all(
        said.low(i) in {"at", "on", "the", ",", "in", "of", "for", "around", "about", "by", "this"}
        for i in range(first, last)
    )
