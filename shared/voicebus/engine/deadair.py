"""Dead air: somebody waits for an answer that does not begin. It is counted, and acted on twice.

First the model is asked, where it should have answered by itself. If nothing begins then either, its socket is
replaced, once for each answer; the replay asks again. Where nobody asked for an answer, or a guardrail has not let the
turn pass yet, there is none, nor while the user speaks: an answer is not asked for in the middle of what they say.
"""

from typing import Final

from voicebus.engine.outbox import Outbox
from voicebus.engine.turns import Turns

DEAD_AIR_TIMER: Final = "dead_air"

# How long users are listened to during one wait, from when they first speak (s). Longer, and the end of what they say
# counts as lost: nobody would be answered any more.
_PATIENCE: Final = 30.0


class DeadAir:
    """Watches over the wait for an answer; `limit` in s, 0 for no watch."""

    def __init__(self, out: Outbox, turns: Turns, limit: float) -> None:
        self._out = out
        self._turns = turns
        self._limit = limit
        self._counted: float | None = None
        self._waits = self._listens = False
        self._patient_until: float | None = None
        self._asked = self._replaced = False

    def settle(self) -> None:
        """After each input: whether an answer is waited for now, and whether the user speaks meanwhile."""
        waits = self._limit > 0 and self._turns.awaits_answer
        listens = waits and self._turns.speaking and self._is_patient
        if (waits, listens) == (self._waits, self._listens):
            return
        self._waits, self._listens = waits, listens
        if waits and not listens:
            self._out.set_timer(DEAD_AIR_TIMER, self._limit)
            return
        if listens:
            if self._patient_until is None:
                self._patient_until = self._out.now + _PATIENCE
            self._out.set_timer(DEAD_AIR_TIMER, self._patient_until - self._out.now)
        else:
            self._patient_until = None
            self._out.cancel_timer(DEAD_AIR_TIMER)
            if self._turns.responses.active is not None:
                self._asked = self._replaced = False
        self._count()
        self._counted = None

    def fired(self) -> bool:
        """Nothing has begun for the limit, or for all patience: whether the socket is to be replaced."""
        if self._counted is None:
            # As long as the user was listened to, no answer was overdue.
            self._counted = self._out.now - (0.0 if self._listens else self._limit)
        self._listens = False
        self._count()
        if self._asked and not self._replaced:
            self._replaced, self._waits = True, False
            return True
        self._asked = True
        self._turns.ask()
        self._out.set_timer(DEAD_AIR_TIMER, self._limit)
        return False

    @property
    def _is_patient(self) -> bool:
        return self._patient_until is None or self._out.now < self._patient_until

    def _count(self) -> None:
        if self._counted is not None:
            self._out.observe("dead_air", self._out.now - self._counted)
            self._counted = self._out.now
