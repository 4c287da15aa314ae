"""Ids of sessions, events, items, responses and calls: unique, opaque, and the same again under the same seed."""

import random
import string

_ALPHABET = string.ascii_letters + string.digits


class Ids:
    """Mints ids for one session; two sessions of a server take different streams of the same seed."""

    def __init__(self, seed: int, stream: int) -> None:
        self._random = random.Random(f"{seed}/{stream}")  # noqa: S311 - repeatable on purpose; nothing secret hangs on it
        self._events = 0
        self._event_prefix = self._letters(16)

    def _letters(self, count: int) -> str:
        return "".join(self._random.choices(_ALPHABET, k=count))

    def mint(self, prefix: str) -> str:
        return f"{prefix}_{self._letters(21)}"

    def event(self) -> str:
        # Events are many (one per audio delta), so theirs are counted rather than drawn.
        self._events += 1
        return f"event_{self._event_prefix}{self._events:06d}"
