"""Turns of speech whose end the model has detected, and whose words are still to come.

Sound is not kept outside of the owner. Should it die now, a client that has the sound of such a turn still may say it
again to the next owner, who leaves out what it replaces (`restoring.py`). A turn is safe, and that is over, once its
words are known, or once its answer has ended or has done what must not be done again. Unlike after a commit
(`commits.py`) nobody waits for that.
"""

from dataclasses import dataclass
from typing import Final

from voicebus.engine.batches import Batches
from voicebus.engine.bounds import trim
from voicebus.engine.responses import Response
from voicebus.engine.transcript import Transcript
from voicebus.engine.turns import Turns

# Turns that are not safe; beyond that the oldest counts as safe.
_MAX_OPEN: Final = 16


@dataclass(slots=True, eq=False)
class _Turn:
    """`before`: the response that ran when it was there, which cannot be its answer."""

    item_id: str
    ms: int
    before: Response | None
    answer: Response | None = None


class Detected:
    """Follows turns that the model has ended by itself. Call `settle` after each input."""

    def __init__(self, turns: Turns, transcript: Transcript, batches: Batches) -> None:
        self._turns = turns
        self._transcript = transcript
        self._batches = batches
        self._open: list[_Turn] = []
        # Where speech began and ended (ms of what the socket has heard).
        self._bounds: dict[str, tuple[float, float]] = {}

    def started(self, item_id: str, at_ms: float) -> None:
        self._bounds[item_id] = at_ms, at_ms
        trim(self._bounds, _MAX_OPEN)

    def stopped(self, item_id: str, at_ms: float) -> None:
        if item_id in self._bounds:
            self._bounds[item_id] = self._bounds[item_id][0], at_ms

    def committed(self, item_id: str) -> None:
        """The model has made an item of speech whose end nobody else has told."""
        bounds = self._bounds.pop(item_id, None)
        if bounds is not None:
            self._open.append(_Turn(item_id, round(bounds[1] - bounds[0]), self._turns.responses.active))
            del self._open[:-_MAX_OPEN]

    @property
    def turns(self) -> list[tuple[str, int]]:
        """Those that are not safe, oldest first: the item, and how many ms of sound it has."""
        return [(turn.item_id, turn.ms) for turn in self._open]

    def is_answer(self, response: Response) -> bool:
        """Whether it answers one that is not safe."""
        return any(turn.answer is response for turn in self._open)

    def settle(self) -> None:
        if self._open:
            active = self._turns.responses.active
            self._open = [turn for turn in self._open if not self._is_safe(turn, active)]

    def _is_safe(self, turn: _Turn, active: Response | None) -> bool:
        if self._transcript.has_words(turn.item_id):
            return True
        if turn.answer is None and active is not turn.before:
            turn.answer = active
        answer = turn.answer
        if answer is None:
            return False
        return bool(answer.client_calls) or self._batches.has(answer) or answer is not active
