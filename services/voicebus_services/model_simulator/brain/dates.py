"""Dates and times of day as people say them, relative to today. The single home of calendar words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, time, timedelta
from itertools import pairwise
from typing import Final

from voicebus_services.model_simulator.brain.numbers import Number, find_numbers
from voicebus_services.model_simulator.brain.tokens import Token
from voicebus_services.model_simulator.brain.tokens import words as words_of

WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS: Final = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
_MONTH_OF: Final = {name: n + 1 for n, name in enumerate(MONTHS)} | {
    name[:3]: n + 1 for n, name in enumerate(MONTHS) if name != "may"
}
_ISO: Final = re.compile(r"\b(\d{4})-(\d{1,2})-(\d{1,2})\b")
_SLASHED: Final = re.compile(r"\b(\d{1,2})/(\d{1,2})(?:/(\d{4}|\d{2}))?\b")
_PARTS_OF_DAY: Final = {"morning": 9, "noon": 12, "midday": 12, "afternoon": 15, "evening": 19, "midnight": 0}
_AFTER_A_DAY: Final = words_of("at for to please and with in from until")
_AFTER_AN_HOUR: Final = words_of(
    """on for in with to and please tomorrow today tonight until from at sharp every next this the a called about of am
    pm then so by if using"""
)
_SAME_TIME: Final = 6  # tokens between a part of the day and the hour that belongs to it
_SPAN_DAYS: Final = {"day": 1, "week": 7, "fortnight": 14}


@dataclass(frozen=True, slots=True)
class Moment:
    """A date, a time of day, or both, in the tokens ``first`` to ``last`` (exclusive).

    Attributes:
        text: as it was said, without a leading "on" or "at".
        weekday: whether the date was named by its weekday.
        vague: whether the clock is only a part of the day ("the morning").
    """

    first: int
    last: int
    text: str
    day: date | None = None
    clock: time | None = None
    weekday: str = ""
    vague: bool = False


def find_moments(text: str, tokens: Sequence[Token], today: date) -> list[Moment]:
    """All dates and times of an utterance from left to right, not overlapping."""
    numbers = {number.first: number for number in find_numbers(tokens)}
    found: list[Moment] = []
    at = 0
    while at < len(tokens):
        moment = (
            _same_month(text, tokens, numbers, at, found)
            or _date(text, tokens, numbers, at, today)
            or _time(text, tokens, numbers, at)
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


def _moment(text: str, tokens: Sequence[Token], first: int, last: int, **parts: object) -> Moment:
    said = text[tokens[first].start : tokens[last - 1].end]
    return Moment(first, last, said, **parts)  # type: ignore[arg-type]


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
            return _moment(text, tokens, at, last, day=day)
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
            return _moment(text, tokens, at, at + len(phrase), day=today + timedelta(days=days))
    if words[:1] == ["this"] and len(words) > 1 and words[1] in _PARTS_OF_DAY:
        return _moment(text, tokens, at, at + 2, day=today, clock=time(_PARTS_OF_DAY[words[1]]), vague=True)
    if words[:2] in (["this", "weekend"], ["the", "weekend"]):
        return _moment(text, tokens, at, at + 2, day=today + timedelta(days=(5 - today.weekday()) % 7))
    if words[:2] == ["next", "month"]:
        year, month = (today.year, today.month + 1) if today.month < 12 else (today.year + 1, 1)
        return _moment(text, tokens, at, at + 2, day=_valid(year, month, min(today.day, 28)))
    number = numbers.get(at + 1) if words[:1] == ["in"] else numbers.get(at)
    if number is None and words[:2] == ["in", "a"] and len(words) > 2 and tokens[at + 2].stem in _SPAN_DAYS:
        return _moment(text, tokens, at, at + 3, day=today + timedelta(days=_SPAN_DAYS[tokens[at + 2].stem]))
    if number is not None and number.unit in _SPAN_DAYS and abs(number.value) < 10_000:
        ago = number.last < len(tokens) and tokens[number.last].low in {"ago", "from"}
        if words[:1] == ["in"] or ago:
            sign = -1 if ago and tokens[number.last].low == "ago" else 1
            last = number.last + (0 if not ago else 1 if sign < 0 else 2)
            return _moment(
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
    return _moment(text, tokens, at, last, day=today + timedelta(days=ahead), weekday=name)


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
        return _moment(text, tokens, at, number.last, day=day) if day else None
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
    return _moment(text, tokens, at, number.last, day=day) if day else None


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
    return _moment(text, tokens, at, last, day=day) if day else None


def _valid(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _time(text: str, tokens: Sequence[Token], numbers: dict[int, Number], at: int) -> Moment | None:
    word = tokens[at].low
    if word in {"noon", "midday", "midnight"}:
        return _moment(text, tokens, at, at + 1, clock=time(_PARTS_OF_DAY[word]))
    if (spoken := _past_or_to(tokens, numbers, at)) is not None:
        hour, minute, last = spoken
        if minute > 30 and hour == 7 and not _half_of_day(tokens, last)[0] and tokens[at + 1].low != "past":
            return _moment(text, tokens, at, last, clock=time(hour, minute))  # "quarter to eight" goes by the eight
        return _clock(text, tokens, at, last, hour, minute, explicit=True)
    if (match := re.match(r"^(\d{1,2})[:.](\d{2})([ap]m?)?$", word)) is not None:
        colon = ":" in word or match[3] is not None or _half_of_day(tokens, at + 1)[0] != ""
        if colon or (at > 0 and tokens[at - 1].low == "at"):
            return _clock(text, tokens, at, at + 1, int(match[1]), int(match[2]), half=match[3] or "", explicit=True)
        return None
    if (match := re.match(r"^(\d{1,2})([ap]m?)$", word)) is not None:
        return _clock(text, tokens, at, at + 1, int(match[1]), 0, half=match[2], explicit=True)
    if word in _PARTS_OF_DAY and at > 0 and tokens[at - 1].low in {"the", "tomorrow", "today"} | set(WEEKDAYS):
        return _moment(text, tokens, at, at + 1, clock=time(_PARTS_OF_DAY[word]), vague=True)
    number = numbers.get(at)
    if number is None or number.ordinal or number.currency or not 0 <= number.value <= 24 or number.percent:
        return None
    if not float(number.value).is_integer():
        return None
    after = at + 1 if tokens[at].low.isdigit() else number.last
    minute_number = numbers.get(after)
    if (
        minute_number
        and minute_number.last == after + 1
        and 10 <= minute_number.value < 60
        and _half_of_day(tokens, after + 1)[0]
    ):
        return _clock(text, tokens, at, after + 1, int(number.value), int(minute_number.value), explicit=True)
    if (opening := _opens_range(text, tokens, numbers, at, after)) is not None:
        return opening
    half, _ = _half_of_day(tokens, after)
    oclock = [t.low for t in tokens[after : after + 3]]
    if oclock[:1] == ["o'clock"] or oclock == ["o", "'", "clock"]:
        return _clock(
            text, tokens, at, after + (1 if oclock[0] == "o'clock" else 3), int(number.value), 0, explicit=True
        )
    before = tokens[at - 1].low if at else ""
    bare = before == "at" and (after >= len(tokens) or not _goes_on_as_count(tokens, after))
    tonight = after < len(tokens) and tokens[after].low == "tonight"
    if (half and not tonight) or bare:
        return _clock(text, tokens, at, after, int(number.value), 0, explicit=bool(half))
    return None


def _opens_range(
    text: str, tokens: Sequence[Token], numbers: dict[int, Number], at: int, after: int
) -> Moment | None:  # fmt: skip
    """The first hour of "from 4 to 5 p.m." or "between nine and 11:30", which the second one tells to be an hour."""
    if at == 0 or tokens[at - 1].low not in {"from", "between"} or after + 1 >= len(tokens):
        return None
    if tokens[after].low not in {"to", "until", "till", "and", "-"}:
        return None
    second = _time(text, tokens, numbers, after + 1)
    hour = int(numbers[at].value)
    if second is None or second.clock is None or not 1 <= hour <= 24:
        return None
    if hour < 12 and second.clock.hour > 12 and hour + 12 <= second.clock.hour:
        hour += 12
    return _moment(text, tokens, at, after, clock=time(hour % 24))


def _goes_on_as_count(tokens: Sequence[Token], at: int) -> bool:
    """Whether the token goes on as a thing counted ("at 5 places"), so that the number before it is no hour."""
    low = tokens[at].low
    return low.isalpha() and low not in _AFTER_AN_HOUR and low not in WEEKDAYS and low not in MONTHS


def _half_of_day(tokens: Sequence[Token], at: int) -> tuple[str, int]:
    """ "am" or "pm" at this place, however it is written, and the place after it."""
    words = [t.low for t in tokens[at : at + 4]]
    for half in ("a", "p"):
        if words[:1] in ([half + "m"], [half + "m."]):
            return half + "m", at + 1
        if words[:4] == [half, ".", "m", "."]:
            return half + "m", at + 4
        if words[:3] == [half, ".", "m"]:
            return half + "m", at + 3
        if words[:2] == [half, "m"]:
            return half + "m", at + 2
    if words[:3] == ["in", "the", "morning"]:
        return "am", at + 3
    if words[:3] in (["in", "the", "afternoon"], ["in", "the", "evening"]):
        return "pm", at + 3
    if words[:2] == ["at", "night"]:
        return "pm", at + 2
    if words[:1] == ["tonight"]:
        return "pm", at  # the word is also a date and stays for it
    return "", at


def _past_or_to(tokens: Sequence[Token], numbers: dict[int, Number], at: int) -> tuple[int, int, int] | None:
    """ "half past three", "quarter to five", "ten past two" as hour, minute and the place after."""
    start = at + 1 if tokens[at].low == "a" else at
    if start >= len(tokens):
        return None
    fixed = {"half": 30, "quarter": 15}.get(tokens[start].low)
    number = numbers.get(start)
    if fixed is not None:
        minute, after = fixed, start + 1
    elif number is not None and 0 < number.value < 60 and not number.ordinal and number.plain == int(number.value):
        minute, after = int(number.value), number.last
    else:
        return None
    if after + 1 >= len(tokens) or tokens[after].low not in {"past", "to", "after", "till"}:
        return None
    hour = numbers.get(after + 1)
    if (
        hour is None
        or not 1 <= hour.value <= 12
        or (fixed is None and tokens[after].low in {"to", "after"} and minute % 5)
    ):
        return None
    if fixed is None and tokens[after].low in {"to", "after"} and (number is None or number.literal):
        return None  # "from 5 to 10" is a range
    last = after + 2 if tokens[after + 1].low.isdigit() else hour.last
    if tokens[after].low in {"past", "after"}:
        return int(hour.value), minute, last
    return (int(hour.value) - 1) or 12, 60 - minute, last


def _clock(
    text: str, tokens: Sequence[Token], at: int, last: int, hour: int, minute: int, *, half: str = "", explicit: bool
) -> Moment | None:
    """The time of day. Without "am" or "pm" a small hour means the afternoon, as in "dinner at seven"."""
    if not half:
        half, last = _half_of_day(tokens, last)
    half = half[:1]
    if hour > 24 or minute > 59 or (half and not 1 <= hour <= 12 and hour > 12):
        half = ""
    if hour > 23 and not (hour == 24 and minute == 0):
        return None
    hour %= 24
    if half == "p" and hour < 12:
        hour += 12
    elif half == "a" and hour == 12:
        hour = 0
    elif not half and (
        (1 <= hour <= 11 and _evening_said(tokens, at))
        or (1 <= hour <= 7 and not _morning_said(tokens) and not (explicit and len(tokens[at].low) == 5))
    ):
        hour += 12
    return _moment(text, tokens, at, last, clock=time(hour, minute))


def _evening_said(tokens: Sequence[Token], at: int) -> bool:
    """Whether the evening is named shortly before the hour ("tonight at 8", "Friday evening at nine")."""
    return bool({t.low for t in tokens[max(0, at - 4) : at]} & {"tonight", "evening", "night", "afternoon", "dinner"})


def _morning_said(tokens: Sequence[Token]) -> bool:
    words = [t.low for t in tokens]
    return bool({"morning", "wake", "alarm", "breakfast", "early", "am"} & set(words)) or any(
        pair == ("get", "up") for pair in pairwise(words)
    )
