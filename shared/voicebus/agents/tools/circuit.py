"""Circuit breakers of tools: one that fails again and again is not called for a while, by no gateway.

Workers count, gateways refuse (`adapters.redis.circuits`): a caller is told at once instead of waiting for the next
failure, and what the tool stands on is given a rest.
"""

import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from voicebus.contracts.tools import Outcome, ToolResult
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
        number = isinstance(self.recovery, int | float) and not isinstance(self.recovery, bool)
        if not number or not 0 < self.recovery < math.inf:
            raise UserError(f"CircuitBreaker: recovery must be a number of seconds above 0, not {self.recovery!r}")


DEFAULT_BREAKER: Final = CircuitBreaker()


class FailureCounts:
    """A worker's side of the circuits of its tools: `policies` by name, None where a tool has no breaker."""

    def __init__(self, watch: "CircuitWatch", policies: Mapping[str, CircuitBreaker | None], *, worker: str) -> None:
        self._watch = watch
        self._policies = policies
        self._worker = worker
        self._in_a_row: Counter[str] = Counter()
        self._failed_at: dict[str, float] = {}

    async def count(self, tool: str, result: ToolResult) -> None:
        """Take note of how a call ended; Redis is told only where that changes something."""
        policy = self._policies.get(tool)
        if policy is None:
            return
        failed = result.outcome in _FAILED and not (result.error is not None and result.error.kind in _NEUTRAL)
        if not failed:
            if result.outcome is Outcome.OK:
                self._in_a_row.pop(tool, None)
                if tool in self._watch.circuits:
                    await self._close(tool)
            return
        now = time.monotonic()
        if now - result.duration_ms / 1000 < self._failed_at.get(tool, 0.0):
            return
        self._failed_at[tool] = now
        self._in_a_row[tool] += 1
        known = self._watch.circuits.get(tool)
        tried = known is not None and not self._watch.rests(tool)
        if tried or (known is None and self._in_a_row[tool] >= policy.failures):
            await self._open(tool, policy, result)

    async def _open(self, tool: str, policy: CircuitBreaker, result: ToolResult) -> None:
        why = result.error.message if result.error is not None else result.outcome.value
        failures = self._in_a_row[tool]
        try:
            await self._watch.open(
                tool, rest_ms=round(policy.recovery * 1000), failures=failures, worker=self._worker, error=why
            )
        except BusError as error:
            log.info("circuit not opened, the next failure will", tool=tool, error=str(error))
        else:
            log.warning("tool rests", tool=tool, failures=failures, seconds=policy.recovery, error=why)

    async def _close(self, tool: str) -> None:
        try:
            await self._watch.close(tool)
        except BusError as error:
            log.info("circuit not closed, the next success will", tool=tool, error=str(error))
        else:
            log.info("tool works again", tool=tool)
