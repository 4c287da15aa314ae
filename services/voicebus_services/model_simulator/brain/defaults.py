"""Values that nobody said: the single home of what a description or the rest of the request settles.

Only what the schema states is taken ("0 if none mentioned"); nothing is invented.
"""

import re
from collections.abc import Iterator
from datetime import date, datetime
from itertools import pairwise
from typing import Any, Final

from voicebus_services.model_simulator.brain.numbers import SECONDS_PER
from voicebus_services.model_simulator.brain.schema import Parameter
from voicebus_services.model_simulator.brain.utterance import Utterance

_UNSAID: Final = (
    r"(?:if|when|unless) (?:none|not|nothing|no|left|omitted|unspecified|it is not|the user does not|said|given|stated"
    r"|otherwise|mentioned)|by default"
)
_NUMBER: Final = re.compile(
    rf"\b(\d+) {_UNSAID}|\bdefault(?:s to| is|:)? (\d+)\b|\b(?:otherwise|else) (\d+)\b", re.IGNORECASE
)
_TODAY: Final = re.compile(
    rf"\btoday {_UNSAID}|\bdefault(?:s to| is|:)? today\b|\b(?:otherwise|else) today\b", re.IGNORECASE
)


def stated_default(parameter: Parameter, today: date) -> Any:
    """The value that the description gives for a parameter nobody spoke of; None where it states none."""
    if parameter.accepts("integer", "number") and (match := _NUMBER.search(parameter.description)):
        return int(next(group for group in match.groups() if group))
    if parameter.kind == "date" and _TODAY.search(parameter.description):
        return today.isoformat()
    for value in parameter.enum:
        name = rf"['\"]?{re.escape(str(value))}\b['\"]?"
        stated = rf"(?<!\w){name} {_UNSAID}|\b(?:default(?:s to| is|:)?|otherwise) {name}"
        if re.search(stated, parameter.description, re.IGNORECASE):
            return value
    return None


def span_of_hours(parameter: Parameter, said: Utterance) -> int | float | None:
    """The length between two hours ("from 4 to 5 p.m.") in the parameter's unit; None without such a range."""
    unit = next((w for w in (*parameter.words, *parameter.hints) if w in SECONDS_PER), "")
    if parameter.kind != "duration" or not unit or not parameter.accepts("integer", "number"):
        return None
    for first, second in _ranges(said):
        seconds = (second - first).total_seconds() % 86_400
        length = seconds / SECONDS_PER[unit]
        return int(length) if length.is_integer() else length
    return None


def _ranges(said: Utterance) -> Iterator[tuple[datetime, datetime]]:
    clocked = [m for m in said.moments if m.clock is not None]
    for left, right in pairwise(clocked):
        between = [said.low(i) for i in range(left.last, right.first)]
        if between and between[0] in {"to", "until", "till", "and", "-"} and len(between) <= 2:
            assert left.clock is not None and right.clock is not None  # noqa: S101, PT018 - chosen by it above
            yield datetime.combine(said.today, left.clock), datetime.combine(said.today, right.clock)
