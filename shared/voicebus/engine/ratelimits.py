"""Failures of a response that pass: how long it waits before it is asked for again (protocol 10.15).

A rate limit is waited out; where the model's server failed, it is asked again nearly at once, a few times; where it
refuses to serve and another model takes over, that one is asked.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from voicebus.engine import wire
from voicebus.engine.failures import PASSING_CODES, RATE_LIMIT_CODES, code_of, is_fatal

# Waits between these (s), so many times for one turn; the last one is told as any failure.
_SHORTEST_S: Final = 0.25
_LONGEST_S: Final = 30.0
_DEFAULT_S: Final = 1.0
_MAX_WAITS: Final = 4
_MAX_PASSING: Final = 2

# As OpenAI writes it (`in 320ms`, `in 1m26.4s`, `in 1h0m0s`), and Azure (`after 6 seconds`).
_DELAY: Final = re.compile(
    r"(?:try again|retry) (?:in|after) ((?:\d+(?:\.\d+)? ?(?:milliseconds?|seconds?|minutes?|hours?|ms|s|m|h) ?)+)\b",
    re.IGNORECASE,
)
_PART: Final = re.compile(r"(\d+(?:\.\d+)?) ?(ms|mil|[smh])", re.IGNORECASE)
_UNITS: Final[Mapping[str, float]] = {"ms": 0.001, "mil": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class RateLimits:
    """Reads what the model announces. `waits` counts how often in a row it was waited for.

    `moves`: whether another model takes over from one that refuses to serve.
    """

    def __init__(self) -> None:
        self._reset: float | None = None
        self.waits: int = 0
        self.moves: Callable[[], bool] = lambda: False

    def announced(self, event: Mapping[str, Any]) -> None:
        """`rate_limits.updated`: when what is used up, or else nearly so, can be had again."""
        limits = wire.mappings(event, "rate_limits")
        used_up = [limit for limit in limits if wire.number(limit, "remaining") <= 0]
        resets = [wire.number(limit, "reset_seconds") for limit in used_up]
        self._reset = max(resets) if resets else None

    def wait(self, error: Mapping[str, Any]) -> float | None:
        """How long to wait (s) because of `error`; None where that mends nothing, or was tried often enough."""
        code = code_of(error)
        if is_fatal(code):
            return 0.0 if self.passes_on(code) else None
        if code not in RATE_LIMIT_CODES:
            passes = PASSING_CODES & {code, wire.text(error, "type")}
            if not passes or self.waits >= _MAX_PASSING:
                return None
            self.waits += 1
            return _SHORTEST_S * self.waits
        if self.waits >= _MAX_WAITS:
            return None
        self.waits += 1
        told = _told(wire.text(error, "message"))
        delay = self._reset if told is None else told
        return min(_LONGEST_S, max(_SHORTEST_S, _DEFAULT_S if delay is None else delay))

    def passes_on(self, code: str) -> bool:
        """Whether another model takes over because of this: then callers are told of that, and not of the error."""
        return is_fatal(code) and self.moves()

    def answered(self) -> None:
        """A response was completed."""
        self.waits = 0


def _told(message: str) -> float | None:
    """How long a message says that is to be waited (s)."""
    delay = _DELAY.search(message)
    return None if delay is None else sum(float(n) * _UNITS[unit.lower()] for n, unit in _PART.findall(delay[1]))
