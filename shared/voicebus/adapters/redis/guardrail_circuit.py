"""Whether guardrail workers answer at all: one circuit breaker for the checks of a gateway.

Each check has a time limit of its own. Where several have passed theirs and nothing was answered meanwhile, the group
is down: then no check is sent and nobody is made to wait, and each guardrail's `on_unavailable` decides at once. While
that is so the group is asked to judge nothing now and then; the first answer closes the circuit again.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

_OVERDUE: Final = 3
_PROBE_EVERY_S: Final = 0.5


class GuardrailCircuit:
    """`limit_s` is the time limit of a check; `clock` is monotonic, in s.

    Ask `asks` before each check, and say `answered` with each verdict. Run `run` as a task.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float]) -> None:
        self._limit_s = limit_s
        self._clock = clock
        # When the first of those were asked that nothing was answered after.
        self._unanswered: list[float] = []
        self._doubted = asyncio.Event()
        self.is_open: bool = False
        self.why: str = f"no guardrail worker has answered for {limit_s:g} s"
        metrics.GUARDRAIL_CIRCUIT_OPEN.set(0)

    def asks(self) -> bool:
        """Whether a check is to be sent now."""
        self._judge()
        if len(self._unanswered) < _OVERDUE:
            self._unanswered.append(self._clock())
            if len(self._unanswered) == _OVERDUE:
                self._doubted.set()
        return not self.is_open

    def _judge(self) -> None:
        """Open it if those that nobody answered have passed their limits."""
        unanswered = self._unanswered
        if self.is_open or len(unanswered) < _OVERDUE or self._clock() - unanswered[-1] <= self._limit_s:
            return
        self.is_open = True
        metrics.GUARDRAIL_CIRCUIT_OPEN.set(1)
        log.warning("guardrail workers do not answer: until one does, policies decide at once")

    def answered(self) -> None:
        """A verdict came, be it of use still or not."""
        self._unanswered.clear()
        self._doubted.clear()
        if self.is_open:
            self.is_open = False
            metrics.GUARDRAIL_CIRCUIT_OPEN.set(0)
            log.info("guardrail workers answer again")

    async def run(self, probe: Callable[[], None]) -> None:
        """Open the circuit in time, so that no check has to find out, and call `probe`, which asks for any answer, now
        and then while it is open; until cancelled.
        """
        while True:
            await self._doubted.wait()
            self._judge()
            if self.is_open:
                probe()
            await asyncio.sleep(_PROBE_EVERY_S)
