"""Telling of something that fails again and again: at its beginning, rarely while it lasts, and at its end.

Knows no clock: whoever tries says when it was (s, of any clock that never goes back).
"""

from typing import Any, Final

import structlog

REMIND_S: Final = 60.0
"""While a failure lasts it is told again so long after it was told last."""


class Outage:
    """What is logged of `what` while it fails."""

    def __init__(self, log: structlog.stdlib.BoundLogger, what: str) -> None:
        self._log = log
        self._what = what
        self._since: float | None = None
        self._told = 0.0
        self._failures = 0

    def failed(self, now: float, **about: Any) -> bool:
        """It failed (again); returns whether this is the beginning."""
        self._failures += 1
        if self._since is None:
            self._since = self._told = now
            self._log.warning(self._what, **about)
            return True
        if now - self._told >= REMIND_S:
            self._told = now
            self._log.warning(f"{self._what}, still", since_s=round(now - self._since), times=self._failures, **about)
        return False

    def over(self, now: float) -> None:
        """It did not fail this time."""
        if self._since is None:
            return
        self._log.info(f"{self._what}: over", after_s=round(now - self._since, 1), times=self._failures)
        self._since, self._failures = None, 0
