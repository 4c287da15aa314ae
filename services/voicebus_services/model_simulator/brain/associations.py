"""How near two English words are in meaning, as a number. The single home of the word vectors in `associations.bin`.

The file holds one byte of dimensions, the stems one a line, a zero byte, and a row of signed bytes for each stem: what
all-MiniLM-L6-v2 makes of the word alone, centred and reduced to its principal components (see NOTICE). No model runs
here; a similarity is one product of two short rows.
"""

from functools import lru_cache
from math import sqrt
from operator import mul
from pathlib import Path
from typing import Final, NamedTuple

_FILE: Final = Path(__file__).with_name("associations.bin")


class _Table(NamedTuple):
    rows: dict[str, int]
    vectors: memoryview
    dimensions: int


@lru_cache(maxsize=1)
def _table() -> _Table:
    content = _FILE.read_bytes()
    end = content.index(b"\0", 1)
    words = content[1:end].decode().split("\n")
    return _Table({word: row for row, word in enumerate(words)}, memoryview(content)[end + 1 :].cast("b"), content[0])


@lru_cache(maxsize=20_000)
def vector(word: str) -> tuple[float, ...] | None:
    """The direction of a stem, of length 1; None for a word that is not in the table."""
    table = _table()
    row = table.rows.get(word)
    if row is None:
        return None
    values = table.vectors[row * table.dimensions : (row + 1) * table.dimensions].tolist()
    length = sqrt(sum(map(mul, values, values)))
    return tuple(value / length for value in values)


@lru_cache(maxsize=30_000)
def similarity(left: str, right: str) -> float:
    """Cosine of two stems: above 0.4 related, around 0 not; 0 when one is unknown, 1 for equal stems."""
    if left == right:
        return 1.0
    first, second = vector(left), vector(right)
    return sum(map(mul, first, second)) if first and second else 0.0


def known(word: str) -> bool:
    """Whether the stem is in the table at all."""
    return word in _table().rows
