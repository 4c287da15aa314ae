"""A message in pieces, which other messages may share: it is put together once, as it leaves."""

from collections.abc import Iterator, Sequence


class Pieces:
    """UTF-8 text; `len` is in bytes."""

    __slots__ = ("_pieces", "_size")

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces
        self._size = sum(map(len, pieces))

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def __bytes__(self) -> bytes:
        return b"".join(self._pieces)
