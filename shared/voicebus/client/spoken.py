"""The user's sound on a client's side: what of it no turn has been made of yet, to be sent again where it was lost.

The newest `KEPT_S` are kept, and `MAX_PIECES` frames; beyond that the oldest is dropped. Commits keep their place among
it. Without a connection all of it waits; after one to a gateway that has not heard it, all of it is sent again.
"""

from collections import deque
from collections.abc import Collection, Mapping
from typing import Any, Final

KEPT_S: Final = 5.0
MAX_PIECES: Final = 5_000

# What was said while the news of a turn was on its way belongs to the next turn. No more than the silence by which a
# server tells a turn's end: else the end of this one were a turn of its own for the next gateway.
_ON_THE_WAY_S: Final = 0.2


class Piece:
    """Samples, or (without any) the commit that was sent under the id `commit`."""

    __slots__ = ("commit", "samples", "sent")

    def __init__(self, samples: bytes = b"", *, commit: str | None = None) -> None:
        self.samples: bytes = samples
        self.commit: str | None = commit
        self.sent: bool = False


class Spoken:
    """A bounded ring of what was said since the last commit."""

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()
        self._size = 0
        self._byte_rate = 48_000

    def learn(self, audio: Mapping[str, Any]) -> None:
        """The session's formats, as its greeting tells them."""
        given = audio.get("input")
        kind = given.get("type") if isinstance(given, Mapping) else None
        self._byte_rate = 8_000 if kind in ("audio/pcmu", "audio/pcma") else 48_000

    def add(self, samples: bytes) -> Piece:
        """Samples that are said now; whoever sends them marks them as sent."""
        piece = Piece(samples)
        self._pieces.append(piece)
        self._size += len(samples)
        self._keep(KEPT_S)
        return piece

    def committing(self, given: str) -> None:
        """A commit is sent, behind what was said so far."""
        self._pieces.append(Piece(commit=given))

    def committed(self, given: str) -> None:
        """The commit of this id was carried out, or refused."""
        if any(piece.commit == given for piece in self._pieces):
            while self._drop().commit != given:
                pass

    def heard(self) -> None:
        """The model has made a turn of what was said. Of one that was ended by hand its answer tells: `committed`."""
        if any(piece.commit is not None for piece in self._pieces):
            return
        while self._size > _ON_THE_WAY_S * self._byte_rate:
            self._drop()

    def has(self, given: str) -> bool:
        """Whether the commit of this id stands among what is kept."""
        return any(piece.commit == given for piece in self._pieces)

    def unanswered(self, commands: Collection[str]) -> None:
        """A connection is open again: of the commits, those among these ids are to be sent."""
        for piece in self._pieces:
            if piece.commit is not None:
                piece.sent = piece.commit not in commands

    def lost(self) -> None:
        """Nobody has it any more."""
        for piece in self._pieces:
            piece.sent = False

    def missed(self, size: int) -> None:
        """The newest `size` bytes of what was sent have not arrived."""
        for piece in reversed(self._pieces):
            if size <= 0:
                return
            if piece.sent and piece.samples:
                piece.sent = False
                size -= len(piece.samples)

    def unsent(self) -> Piece | None:
        """What is to be sent first."""
        return next((piece for piece in self._pieces if not piece.sent), None)

    def _keep(self, seconds: float) -> None:
        while self._pieces and (
            self._size - len(self._pieces[0].samples) >= seconds * self._byte_rate or len(self._pieces) > MAX_PIECES
        ):
            self._drop()

    def _drop(self) -> Piece:
        piece = self._pieces.popleft()
        self._size -= len(piece.samples)
        return piece


def is_spoken(item: Any) -> bool:
    """Whether an item of the history is a turn that the user has spoken."""
    if not isinstance(item, Mapping) or item.get("role") != "user":
        return False
    return any(isinstance(part, Mapping) and part.get("type") == "input_audio" for part in item.get("content") or ())
