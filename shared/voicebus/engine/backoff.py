"""How long to wait before a socket is dialled again: exponential, with jitter, and only so many times.

Whose random number the jitter is, is the caller's business: the engine has none of its own.
"""

from typing import Final

MAX_ATTEMPTS: Final = 10
"""Attempts in a row, half a minute in all where each fails at once; a caller would not wait longer for nothing."""

MAX_FIRST_ATTEMPTS: Final = 3
"""The same where the model was never there: who has just called is told soon."""

_FIRST_S: Final = 0.25
_LONGEST_S: Final = 5.0


class Backoff:
    """Counts attempts. `restart` once a socket has proved good."""

    def __init__(self) -> None:
        self.attempt: int = 0

    def restart(self) -> None:
        self.attempt = 0

    def next(self, jitter: float, *, limit: int = MAX_ATTEMPTS, asked: float = 0.0) -> float | None:
        """Count one more attempt: how long to wait before it (s), None where there were enough.

        `jitter` is from 0 to 1: it spreads the attempts of many sessions over half of the time. `asked` is how long the
        server asks for (s); no caller is kept waiting much longer than without it.
        """
        if self.attempt >= limit:
            return None
        self.attempt += 1
        longest = min(_LONGEST_S, _FIRST_S * 2.0 ** (self.attempt - 1))
        spread = 0.5 * min(1.0, max(0.0, jitter))
        return max(longest * (0.5 + spread), min(_LONGEST_S, asked) * (1.0 + spread))
