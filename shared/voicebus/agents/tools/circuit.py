"""Circuit breakers of tools: one that fails again and again is not called for a while, by no gateway.

Workers count, gateways refuse (`adapters.redis.circuits`): a caller is told at once instead of waiting for the next
failure, and what the tool stands on is given a rest. In one process a session does both (`agents.local.resting`).
"""

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from voicebus.agents.checking import LONGEST_S, is_number
from voicebus.contracts.tools import Outcome, ToolFailure, ToolResult
from voicebus.errors import BusError, UserError
from voicebus.telemetry.logging import get_logger

if TYPE_CHECKING:
    from voicebus.adapters.redis.circuits import CircuitWatch

log: Final = get_logger(__name__)

# Errors that say nothing of the tool's health: the model's arguments, a guardrail's word, a call that never began.
_NEUTRAL: Final = frozenset(
    {
        "invalid_arguments",
        "guardrail_raised",
        "unknown_tool",
        "output_too_large",
        "bus_not_durable",
        "invalid_context",
        "dead_lettered",
    }
)
# Nor does the death of a worker, which leaves many outcomes unknown at once.
_FAILED: Final = frozenset({Outcome.ERROR, Outcome.TIMEOUT})


@dataclass(frozen=True)
class CircuitBreaker:
    """When a tool rests: after `failures` calls in a row that failed on one worker, for `recovery` s.

    Then one call of each gateway is let through: it closes the circuit, or the rest begins anew. Errors that the tool
    raised and time-outs count as failures; arguments that do not fit, the word of a guardrail and the death of a worker
    do not. Calls that ran beside one that failed count as one with it, as one cause may have felled them all.

    Raises:
        UserError: an argument is out of its range.
    """

    failures: int = 10
    recovery: float = 10.0

    def __post_init__(self) -> None:
        whole = isinstance(self.failures, int) and not isinstance(self.failures, bool)
        if not whole or self.failures < 1:
            raise UserError(f"CircuitBreaker: failures must be a whole number, 1 or more, not {self.failures!r}")
        if not is_number(self.recovery) or not 0 < self.recovery <= LONGEST_S:
            raise UserError(f"CircuitBreaker: recovery must be a number of seconds above 0, not {self.recovery!r}")


DEFAULT_BREAKER: Final = CircuitBreaker()


class FailuresInARow:
    """The failures of one tool, from its last success on; `count` is how many."""

    def __init__(self) -> None:
        self.count: int = 0
        self._last = 0.0

    def take(self, outcome: Outcome, error: ToolFailure | None, *, duration_s: float) -> bool | None:
        """A call ended after `duration_s`: whether that is one more failure; None where it tells nothing of the tool.

        A success ends the row.
        """
        if outcome not in _FAILED or (error is not None and error.kind in _NEUTRAL):
            if outcome is not Outcome.OK:
                return None
            self.count = 0
            return False
        now = time.monotonic()
        if now - duration_s < self._last:
            return None
        self._last = now
        self.count += 1
        return True


class Breaks(Protocol):
    """What has to be known of a tool."""

    @property
    def circuit_breaker(self) -> CircuitBreaker | None: ...


class FailureCounts:
    """A worker's side of the circuits of its `tools`, by name, which may come, go and change."""

    def __init__(self, watch: "CircuitWatch", tools: Mapping[str, Breaks], *, worker: str) -> None:
        self._watch = watch
        self._tools = tools
        self._worker = worker
        self._rows: defaultdict[str, FailuresInARow] = defaultdict(FailuresInARow)

    async def count(self, tool: str, result: ToolResult) -> None:
        """Take note of how a call ended; Redis is told only where that changes something."""
        known = self._watch.circuits.get(tool)
        offered = self._tools.get(tool)
        policy = None if offered is None else offered.circuit_breaker
        if policy is None and known is None:
            return
        row = self._rows[tool]
        failed = row.take(result.outcome, result.error, duration_s=result.duration_ms / 1000)
        # Also that of a tool which has no breaker any more: nothing else would close it.
        if failed is False and known is not None:
            await self._close(tool)
        if not failed or policy is None:
            return
        tried = known is not None and not self._watch.rests(tool)
        if tried or (known is None and row.count >= policy.failures):
            await self._open(tool, policy, result)

    async def _open(self, tool: str, policy: CircuitBreaker, result: ToolResult) -> None:
        why = result.error.message if result.error is not None else result.outcome.value
        failures = self._rows[tool].count
        try:
            await self._watch.open(
                tool, rest_ms=round(policy.recovery * 1000), failures=failures, worker=self._worker, error=why
            )
        except BusError as error:
            log.info("circuit not opened, the next failure will", tool=tool, error=str(error))
        else:
            kind = result.outcome.value if result.error is None else result.error.kind
            log.warning("tool rests", tool=tool, failures=failures, seconds=policy.recovery, error=kind)

    async def _close(self, tool: str) -> None:
        try:
            await self._watch.close(tool)
        except BusError as error:
            log.info("circuit not closed, the next success will", tool=tool, error=str(error))
        else:
            log.info("tool works again", tool=tool)
