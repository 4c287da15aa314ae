"""Times of day as people say them: the single home of clock words, and of what a moment is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, time
from itertools import pairwise
from typing import Final

from voicebus_services.model_simulator.brain.numbers import Number
from voicebus_services.model_simulator.brain.tokens import Token
from voicebus_services.model_simulator.brain.tokens import words as words_of

WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS: Final = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
PARTS_OF_DAY: Final = {"morning": 9, "noon": 12, "midday": 12, "afternoon": 15, "evening": 19, "midnight": 0}
_AFTER_AN_HOUR: Final = words_of(
    """on for in with to and please tomorrow today tonight until from at sharp every next this the a called about of am
    pm then so by if using"""
)


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


def moment_at(text: str, tokens: Sequence[Token], first: int, last: int, **parts: object) -> Moment:
    """The moment of some tokens, with its text as said."""
    said = text[tokens[first].start : tokens[last - 1].end]
    return Moment(first, last, said, **parts)  # type: ignore[arg-type]


def time_of_day(text: str, tokens: Sequence[Token], numbers: dict[int, Number], at: int) -> Moment | None:
    """The time of day that begins at a token; None where none does."""
    word = tokens[at].low
    if word in {"noon", "midday", "midnight"}:
        return moment_at(text, tokens, at, at + 1, clock=time(PARTS_OF_DAY[word]))
    if (spoken := _past_or_to(tokens, numbers, at)) is not None:
        hour, minute, last = spoken
        if minute > 30 and hour == 7 and not _half_of_day(tokens, last)[0] and tokens[at + 1].low != "past":
            return moment_at(text, tokens, at, last, clock=time(hour, minute))  # "quarter to eight" goes by the eight
        return _clock(text, tokens, at, last, hour, minute, explicit=True)
    if (match := re.match(r"^(\d{1,2})[:.](\d{2})([ap]m?)?$", word)) is not None:
        colon = ":" in word or match[3] is not None or _half_of_day(tokens, at + 1)[0] != ""
        if colon or (at > 0 and tokens[at - 1].low == "at"):
            return _clock(text, tokens, at, at + 1, int(match[1]), int(match[2]), half=match[3] or "", explicit=True)
        return None
    if (match := re.match(r"^(\d{1,2})([ap]m?)$", word)) is not None:
        return _clock(text, tokens, at, at + 1, int(match[1]), 0, half=match[2], explicit=True)
    if word in PARTS_OF_DAY and at > 0 and tokens[at - 1].low in {"the", "tomorrow", "today"} | set(WEEKDAYS):
        return moment_at(text, tokens, at, at + 1, clock=time(PARTS_OF_DAY[word]), vague=True)
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
    second = time_of_day(text, tokens, numbers, after + 1)
    hour = int(numbers[at].value)
    if second is None or second.clock is None or not 1 <= hour <= 24:
        return None
    if hour < 12 and second.clock.hour > 12 and hour + 12 <= second.clock.hour:
        hour += 12
    return moment_at(text, tokens, at, after, clock=time(hour % 24))


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
    return moment_at(text, tokens, at, last, clock=time(hour, minute))


def _evening_said(tokens: Sequence[Token], at: int) -> bool:
    """Whether the evening is named shortly before the hour ("tonight at 8", "Friday evening at nine")."""
    return bool({t.low for t in tokens[max(0, at - 4) : at]} & {"tonight", "evening", "night", "afternoon", "dinner"})


def _morning_said(tokens: Sequence[Token]) -> bool:
    words = [t.low for t in tokens]
    return bool({"morning", "wake", "alarm", "breakfast", "early", "am"} & set(words)) or any(
        pair == ("get", "up") for pair in pairwise(words)
    )
