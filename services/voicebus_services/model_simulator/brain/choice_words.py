"""What people say when they mean one of a few constants. The single home of these turns of phrase.

`choice_words.txt` is general English by subject: each line holds names that a constant may have, then what is said for
it: ``name, name = said | said``, where ``~`` stands for up to three words. A constant that no line knows is matched by
its own words. The lines were collected while tables of utterances were worked on: how well they reach beyond these is
only told by a table that nobody saw.
"""

import re
from functools import lru_cache
from pathlib import Path
from typing import Final

from voicebus_services.model_simulator.brain.tokens import stem

_FILE: Final = Path(__file__).with_name("choice_words.txt")


_NEGATIONS: Final = frozenset({"no", "not", "never", "non", "un", "without"})
_DENIAL: Final = re.compile(
    r" (?:instead of|rather than|not|no|without|except|no more|not want|not need)(?: (?:the|a|an|any|my))? $"
)
_AUXILIARIES: Final = r"(?:do|does|did|can|could|will|would|is|are|has|have|was|should)"


@lru_cache(maxsize=1)
def _entries() -> tuple[tuple[tuple[frozenset[str], ...], re.Pattern[str]], ...]:
    entries = []
    for line in _FILE.read_text(encoding="utf-8").splitlines():
        names, said = line.split(" = ")
        stemmed = tuple(frozenset(map(stem, name.split())) for name in names.split(", "))
        phrases = sorted((_phrase(p) for p in said.split(" | ")), key=len, reverse=True)
        entries.append((stemmed, re.compile(rf"(?<= )(?:{'|'.join(phrases)})(?= )")))
    return tuple(entries)


def _phrase(said: str) -> str:
    spoken = said.replace("-", " ").split()
    parts = [r"(?:\S+ ){0,3}" if word == "~" else re.escape(stem(word)) + " " for word in spoken]
    return "".join(parts).removesuffix(" ")


@lru_cache(maxsize=4096)
def sayings(name: tuple[str, ...], *, whole: bool = False) -> tuple[re.Pattern[str], ...]:
    """The patterns, over stems with single spaces, of what people say for a constant of these stems.

    Args:
        whole: only lines that know all the stems, not those of one of them.
    """
    words = frozenset(name)
    denied = bool(words & _NEGATIONS)
    found: list[tuple[int, re.Pattern[str]]] = []
    for names, pattern in _entries():
        best = max((len(n) for n in names if n <= words and bool(n & _NEGATIONS) == denied), default=0)
        if best and (best == len(words) or not whole):
            found.append((best, pattern))
    # "credit card" is the line of the card; what only part of the name would say counts where nothing else does.
    most = max((size for size, _ in found), default=0)
    return tuple(pattern for size, pattern in found if size == most)


def is_denied(stems: str, start: int) -> bool:
    """Whether what begins at ``start`` was denied ("not the window", "no pets", "instead of tea")."""
    before = stems[:start]
    if _DENIAL.search(before) is None:
        return False
    return re.search(rf" {_AUXILIARIES} not $", before) is None
