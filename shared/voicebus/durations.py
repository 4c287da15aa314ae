"""Durations as settings write them."""

import math
import re
from datetime import timedelta

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)\s*$")
_UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_S = 10 * 365 * 24 * 3600.0


def duration(value: object) -> object:
    """`30`, `30s`, `500ms`, `2m`, `1h`, `30d` become a timedelta; bare numbers are seconds."""
    if isinstance(value, str):
        match = _DURATION.match(value)
        seconds = float(match[1]) * _UNITS[match[2]] if match is not None else math.nan
    elif isinstance(value, bool):  # which Python counts as a number
        seconds = math.nan
    elif isinstance(value, int | float):
        seconds = value
    else:
        return value
    if not 0 <= seconds <= _LONGEST_S:
        raise ValueError("a duration such as 30, 30s, 500ms, 2m, 1h or 30d is allowed")
    return timedelta(seconds=seconds)
