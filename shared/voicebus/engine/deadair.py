"""Dead air: somebody waits for an answer that does not begin. It is counted, and acted on twice.

First the model is asked, where it should have answered by itself. If nothing begins then either, its socket is
replaced, once for each answer; the replay asks again. Where nobody asked for an answer, or a guardrail has not let the
turn pass yet, there is none.
"""

from typing import Final

from voicebus.engine.outbox import Outbox
from voicebus.engine.turns import Turns

DEAD_AIR_TIMER: Final = "dead_air"


class DeadAir:
    """Watches over the wait for an answer; `limit` in s, 0 for no watch."""

    def __init__(self, out: Outbox, turns: Turns, limit: float) -> None:
        self._out = out
        self._turns = turns
        self._limit = limit
        self._counted: float | None = None
        self._waits = False
        self._asked = self._replaced = False

    def settle(self) -> None:
        """After each input: whether an answer is waited for now."""
        waits = self._limit > 0 and self._turns.awaits_answer
        if waits == self._waits:
            return
        self._waits = waits
        if waits:
            self._out.set_timer(DEAD_AIR_TIMER, self._limit)
            return
        self._out.cancel_timer(DEAD_AIR_TIMER)
        if self._turns.responses.active is not None:
            self._asked = self._replaced = False
        self._count()
        self._counted = None

    def fired(self) -> bool:
        """Nothing has begun for the limit: whether the socket is to be replaced."""
        if self._counted is None:
            self._counted = self._out.now - self._limit
        self._count()
        if self._asked and not self._replaced:
            self._replaced, self._waits = True, False
            return True
        self._asked = True
        self._turns.ask()
        self._out.set_timer(DEAD_AIR_TIMER, self._limit)
        return False

    def _count(self) -> None:
        if self._counted is not None:
            self._out.observe("dead_air", self._out.now - self._counted)
            self._counted = self._out.now
