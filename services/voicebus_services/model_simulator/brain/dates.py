"""Dates as people say them, relative to today, and all moments of an utterance. The single home of calendar words."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, time, timedelta
from typing import Final

from voicebus_services.model_simulator.brain.clocks import (
    MONTHS,
    PARTS_OF_DAY,
    WEEKDAYS,
    Moment,
    moment_at,
    time_of_day,
)
from voicebus_services.model_simulator.brain.numbers import Number, find_numbers
from voicebus_services.model_simulator.brain.tokens import Token
from voicebus_services.model_simulator.brain.tokens import words as words_of

__all__ = ["MONTHS", "WEEKDAYS", "Moment", "find_moments"]

_MONTH_OF: Final = {name: n + 1 for n, name in enumerate(MONTHS)} | {
    name[:3]: n + 1 for n, name in enumerate(MONTHS) if name != "may"
}
_ISO: Final = re.compile(r"\b(\d{4})-(\d{1,2})-(\d{1,2})\b")
_SLASHED: Final = re.compile(r"\b(\d{1,2})/(\d{1,2})(?:/(\d{4}|\d{2}))?\b")
_AFTER_A_DAY: Final = words_of("at for to please and with in from until")
_SAME_TIME: Final = 6  # tokens between a part of the day and the hour that belongs to it
_SPAN_DAYS: Final = {"day": 1, "week": 7, "fortnight": 14}


def find_moments(text: str, tokens: Sequence[Token], today: date) -> list[Moment]:
    """All dates and times of an utterance from left to right, not overlapping."""
    numbers = {number.first: number for number in find_numbers(tokens)}
    found: list[Moment] = []
    at = 0
    while at < len(tokens):
        moment = (
            _same_month(text, tokens, numbers, at, found)
            or _date(text, tokens, numbers, at, today)
            or time_of_day(text, tokens, numbers, at)
        )
        if moment is None:
            at += 1
            continue
        found.append(moment)
        at = max(moment.last, at + 1)
    return _told_exactly(found)


def _told_exactly(found: list[Moment]) -> list[Moment]:
    """Without the parts of the day that another moment tells to the minute: "tomorrow morning at 9:30"."""
    exact = [m for m in found if m.clock is not None and not m.vague]
    if len(exact) != 1 or len(found) == len(exact):
        return found
    kept: list[Moment] = []
    for moment in found:
        if not moment.vague or abs(moment.first - exact[0].first) > _SAME_TIME:
            kept.append(moment)
        elif moment.day is not None:
            kept.append(replace(moment, clock=None))
    return kept


def _date(text: str, tokens: Sequence[Token], numbers: dict[int, Number], at: int, today: date) -> Moment | None:
    for reader in (_written_date, _relative_date, _weekday, _month_date):
        found = reader(text, tokens, numbers, at, today)
        if found is not None:
            return found
    return None


def _written_date(
    text: str, tokens: Sequence[Token], _numbers: dict[int, Number], at: int, today: date
) -> Moment | None:
    for pattern in (_ISO, _SLASHED):
        match = pattern.match(text, tokens[at].start)
        if match is None:
            continue
        first, second, third = match.groups()
        if pattern is _ISO:
            day = _valid(int(first), int(second), int(third))
        else:  # month first, as Americans and the recogniser write it, unless that month does not exist
            month, number = (int(first), int(second)) if int(first) <= 12 else (int(second), int(first))
            year = today.year if third is None else int(third) + (2000 if len(third) == 2 else 0)
            day = _valid(year, month, number)
        if day is not None:
            last = next((i for i in range(at, len(tokens)) if tokens[i].start >= match.end()), len(tokens))
            return moment_at(text, tokens, at, last, day=day)
    return None


def _relative_date(
    text: str, tokens: Sequence[Token], numbers: dict[int, Number], at: int, today: date
) -> Moment | None:
    words = [t.low for t in tokens[at : at + 5]]
    for phrase, days in (
        (["the", "day", "after", "tomorrow"], 2), (["day", "after", "tomorrow"], 2),
        (["day", "before", "yesterday"], -2),
        (["today"], 0), (["tonight"], 0), (["tomorrow"], 1), (["tomorow"], 1), (["yesterday"], -1),
        (["last", "night"], -1), (["this", "week"], 0), (["next", "week"], 7), (["last", "week"], -7),
    ):  # fmt: skip
        if words[: len(phrase)] == phrase:
            return moment_at(text, tokens, at, at + len(phrase), day=today + timedelta(days=days))
    if words[:1] == ["this"] and len(words) > 1 and words[1] in PARTS_OF_DAY:
        return moment_at(text, tokens, at, at + 2, day=today, clock=time(PARTS_OF_DAY[words[1]]), vague=True)
    if words[:2] in (["this", "weekend"], ["the", "weekend"]):
        return moment_at(text, tokens, at, at + 2, day=today + timedelta(days=(5 - today.weekday()) % 7))
    if words[:2] == ["next", "month"]:
        year, month = (today.year, today.month + 1) if today.month < 12 else (today.year + 1, 1)
        return moment_at(text, tokens, at, at + 2, day=_valid(year, month, min(today.day, 28)))
    number = numbers.get(at + 1) if words[:1] == ["in"] else numbers.get(at)
    if number is None and words[:2] == ["in", "a"] and len(words) > 2 and tokens[at + 2].stem in _SPAN_DAYS:
        return moment_at(text, tokens, at, at + 3, day=today + timedelta(days=_SPAN_DAYS[tokens[at + 2].stem]))
    if number is not None and number.unit in _SPAN_DAYS and abs(number.value) < 10_000:
        following = [t.low for t in tokens[number.last : number.last + 2]]
        ago = following[:1] == ["ago"] or following in (["from", "now"], ["from", "today"])
        if words[:1] == ["in"] or ago:
            sign = -1 if ago and tokens[number.last].low == "ago" else 1
            last = number.last + (0 if not ago else 1 if sign < 0 else 2)
            return moment_at(
                text, tokens, at, min(last, len(tokens)),
                day=today + timedelta(days=sign * int(number.value * _SPAN_DAYS[number.unit])),
            )  # fmt: skip
    return None


def _weekday(text: str, tokens: Sequence[Token], _numbers: dict[int, Number], at: int, today: date) -> Moment | None:
    """A weekday is the next one after today; "last Friday" the one before, "Friday next week" in the week that
    follows.
    """
    words = [t.low for t in tokens[at : at + 5]]
    modifier = words[0] if words[0] in {"next", "this", "last", "coming"} and len(words) > 1 else ""
    name = (words[1] if modifier else words[0]).removesuffix("'s")
    name = name if name in WEEKDAYS else name.removesuffix("s")
    if name not in WEEKDAYS:
        return None
    ahead = (WEEKDAYS.index(name) - today.weekday()) % 7 or 7
    last = at + (2 if modifier else 1)
    if modifier == "last":
        ahead -= 7 if ahead < 7 else 14
    if [t.low for t in tokens[last : last + 2]] == ["next", "week"]:
        ahead = 7 - today.weekday() + WEEKDAYS.index(name)
        last += 2
    return moment_at(text, tokens, at, last, day=today + timedelta(days=ahead), weekday=name)


def _month_date(text: str, tokens: Sequence[Token], numbers: dict[int, Number], at: int, today: date) -> Moment | None:
    """ "May 3rd", "3rd of May 2027", "the 3rd"; without a year the next such day."""
    start = at + 1 if tokens[at].low == "the" else at
    if start >= len(tokens):
        return None
    month = _MONTH_OF.get(tokens[start].low.rstrip("."))
    if month is not None and (number := _day_number(numbers, tokens, start + 1)) is not None:
        return _dated(text, tokens, numbers, at, number.last, month, int(number.value), today)
    number = _day_number(numbers, tokens, start)
    if number is None:
        return None
    after = number.last
    if after < len(tokens) and tokens[after].low == "of":
        after += 1
    if after < len(tokens) and (month := _MONTH_OF.get(tokens[after].low)) is not None:
        return _dated(text, tokens, numbers, at, after + 1, month, int(number.value), today)
    follows = tokens[number.last].low if number.last < len(tokens) else ""
    if number.ordinal and start > at and (not follows.isalpha() or follows in _AFTER_A_DAY):
        later = today.replace(day=1) + timedelta(days=32)
        candidates = (
            _valid(today.year, today.month, int(number.value)),
            _valid(later.year, later.month, int(number.value)),
        )
        day = next((c for c in candidates if c is not None and c >= today), None)
        return moment_at(text, tokens, at, number.last, day=day) if day else None
    return None


def _same_month(
    text: str, tokens: Sequence[Token], numbers: dict[int, Number], at: int, found: Sequence[Moment]
) -> Moment | None:  # fmt: skip
    """The second day of "December 4th to 6th", "between the 4th and the 6th of May"."""
    if not found or found[-1].day is None or found[-1].weekday or found[-1].clock is not None:
        return None
    if [t.low for t in tokens[found[-1].last : at]] not in (["and"], ["to"], ["until"], ["till"], ["through"], ["-"]):
        return None
    number = _day_number(numbers, tokens, at)
    before = found[-1].day
    if number is None or number.unit in _SPAN_DAYS or int(number.value) <= before.day or not (
        number.ordinal or any(name in found[-1].text.lower() for name in MONTHS)
    ):  # fmt: skip
        return None
    follows = tokens[number.last].low if number.last < len(tokens) else ""
    if follows in _MONTH_OF or follows == "of" or (not number.ordinal and number.unit):
        return None
    day = _valid(before.year, before.month, int(number.value))
    return moment_at(text, tokens, at, number.last, day=day) if day else None


def _day_number(numbers: dict[int, Number], tokens: Sequence[Token], at: int) -> Number | None:
    number = numbers.get(at + 1) if at < len(tokens) and tokens[at].low == "the" else numbers.get(at)
    if number is None or not 1 <= number.value <= 31 or not float(number.value).is_integer():
        return None
    # "two May" reads the month as the number's unit; the unit is left for the caller to see.
    return number


def _dated(
    text: str,
    tokens: Sequence[Token],
    numbers: dict[int, Number],
    at: int,
    last: int,
    month: int,
    number: int,
    today: date,
) -> Moment | None:
    comma = 1 if last < len(tokens) and tokens[last].text == "," else 0
    year = numbers.get(last + comma)
    if year is not None and 1900 <= year.value <= 2200 and year.last == last + comma + 1:
        day, last = _valid(int(year.value), month, number), last + comma + 1
    else:
        day = _valid(today.year, month, number)
        if day is not None and day < today:
            day = _valid(today.year + 1, month, number)
    return moment_at(text, tokens, at, last, day=day) if day else None


def _valid(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None
