"""The user's sound on a client's side: what of it no turn has been made of yet, to be sent again where it was lost.

The newest `KEPT_S` are kept, and `MAX_PIECES` frames; beyond that the oldest is dropped. Commits keep their place among
it. Without a connection all of it waits; after one to a gateway that has not heard it, all of it is sent again.

The sound of a turn that the model has detected is kept beside it, `MAX_TURNS` of them, until its words are known: a
gateway that takes the session over before may ask for it.
"""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

KEPT_S: Final = 5.0
MAX_PIECES: Final = 5_000
MAX_TURNS: Final = 4

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
        # What is said again beside the newest `KEPT_S`.
        self._again = 0
        # Turns whose words are not known yet, by their items, oldest first.
        self._turns: dict[str, list[Piece]] = {}
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
            self._again = 0

    def heard(self, item_id: str) -> None:
        """The model has made a turn of what was said. Of one that was ended by hand its answer tells: `committed`."""
        if any(piece.commit is not None for piece in self._pieces):
            return
        turn = self._turns[item_id] = []
        while self._size > _ON_THE_WAY_S * self._byte_rate:
            turn.append(self._drop())
        self._again = 0
        if len(self._turns) > MAX_TURNS:
            del self._turns[next(iter(self._turns))]

    def known(self, item_id: str) -> None:
        """The words of a turn are known: neither it nor what was said before it is said again."""
        while item_id in self._turns:
            del self._turns[next(iter(self._turns))]

    def turns(self) -> list[tuple[str, int]]:
        """The turns that could be said again, oldest first, each with its ms of sound; and what was said since."""
        sizes = [(item_id, sum(len(piece.samples) for piece in turn)) for item_id, turn in self._turns.items()]
        return [(item_id, size * 1000 // self._byte_rate) for item_id, size in (*sizes, ("", self._size))]

    def has(self, given: str) -> bool:
        """Whether the commit of this id stands among what is kept."""
        return any(piece.commit == given for piece in self._pieces)

    def unanswered(self, commands: Collection[str]) -> None:
        """A connection is open again: of the commits, those among these ids are to be sent."""
        for piece in self._pieces:
            if piece.commit is not None:
                piece.sent = piece.commit not in commands

    def lost(self, turns: Sequence[str] = ()) -> None:
        """Nobody has it any more, nor these turns, which are the last ones: they are to be turns once more."""
        again = [piece for item_id, turn in self._turns.items() if item_id in turns for piece in turn]
        self._turns.clear()
        self._pieces.extendleft(reversed(again))
        self._size += sum(len(piece.samples) for piece in again)
        if again:
            self._again = self._size
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
            self._size - len(self._pieces[0].samples) >= seconds * self._byte_rate + self._again
            or len(self._pieces) > MAX_PIECES
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
