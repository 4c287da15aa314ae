"""How long to wait before the next try against a bus that is away: the one ladder of everything that retries."""

from typing import Final

_STEPS_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)


def retry_delay(failures: int) -> float:
    """Seconds to wait after `failures` (0: the first) tries in a row have failed before this one."""
    return _STEPS_S[min(failures, len(_STEPS_S) - 1)]
