"""Ids of sessions, events, items, responses and calls: opaque, and the same again under the same seed."""

import random
import string
from collections import Counter
from collections.abc import Container

_ALPHABET = string.ascii_letters + string.digits


class Ids:
    """Mints ids for one session; two sessions of a server take different streams of the same seed.

    `counted`: items, responses and calls of each session are numbered from 1, so that those of two sessions are alike.
    """

    def __init__(self, seed: int, stream: int, *, counted: bool = False) -> None:
        self._random = random.Random(f"{seed}/{stream}")  # noqa: S311 - repeatable on purpose; nothing secret hangs on it
        self._counts: Counter[str] | None = Counter() if counted else None
        self._events = 0
        self._event_prefix = self._letters(16)
        self.taken: Container[str] = ()
        """Ids that somebody else has given, as a client to its items: they are not minted."""

    def _letters(self, count: int) -> str:
        return "".join(self._random.choices(_ALPHABET, k=count))

    def _next(self, prefix: str) -> str:
        if self._counts is None or prefix in ("sess", "conv"):
            return f"{prefix}_{self._letters(21)}"
        self._counts[prefix] += 1
        return f"{prefix}_{self._counts[prefix]}"

    def mint(self, prefix: str) -> str:
        minted = self._next(prefix)
        while minted in self.taken:
            minted = self._next(prefix)
        return minted

    def event(self) -> str:
        # Events are many (one per audio delta), so theirs are counted rather than drawn.
        self._events += 1
        return f"event_{self._event_prefix}{self._events:06d}"
