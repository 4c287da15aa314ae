"""What bounds the tools that run in this process, for all its sessions together: limits, and rests after failures.

A worker does the same for its own process, and gateways for a cluster (`agents.tools.limits`, `agents.tools.circuit`).
"""

import asyncio
import time
import weakref
from typing import Final

from voicebus.agents.tools.circuit import FailuresInARow
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.limits import Gate
from voicebus.contracts.tools import Outcome, ToolFailure
from voicebus.ports import Turn
from voicebus.runtime.refusing import Refusal, out_of_order
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)


class _Known:
    """What is known of one tool."""

    def __init__(self) -> None:
        self.row = FailuresInARow()
        self.error = ""
        # Monotonic, s: it rests until then, None where it does not.
        self.until: float | None = None
        self.gates: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Gate] = weakref.WeakKeyDictionary()


class ToolLimits:
    """The limits and circuit breakers of tools, each known by its object for as long as that is there."""

    def __init__(self) -> None:
        # By identity: a tool has dicts in it and no hash. Its end takes it out.
        self._known: dict[int, _Known] = {}

    def turn(self, tool: FunctionTool, left_s: float) -> Turn | None:
        """The turn of one of its calls, which has `left_s` to wait for it; None where the tool has no limits."""
        if tool.concurrency is None and tool.rate_limit is None:
            return None
        loop, gates = asyncio.get_running_loop(), self._of(tool).gates
        gate = gates.get(loop)
        if gate is None:
            gate = gates[loop] = Gate(tool)
        return gate.turn(left_s)

    def refusal(self, tool: FunctionTool) -> Refusal | None:
        """Why a call is not run, as its tool rests; None where it is. After the rest one call tries."""
        known = self._known.get(id(tool))
        policy = tool.circuit_breaker
        if known is None or known.until is None or policy is None:
            return None
        now = time.monotonic()
        if now >= known.until:
            # It ends the rest if it is good; the others wait for that as long as another rest.
            known.until = now + policy.recovery
            return None
        metrics.TOOL_REFUSED.labels(tool=tool.name, reason="circuit_open").inc()
        return out_of_order(tool.name, failures=known.row.count, error=known.error)

    def ended(self, tool: FunctionTool, outcome: Outcome, error: ToolFailure | None, duration_s: float) -> None:
        """Take note of how a call ended that was run."""
        policy = tool.circuit_breaker
        if policy is None:
            return
        known = self._of(tool)
        failed = known.row.take(outcome, error, duration_s=duration_s)
        if failed is False and known.until is not None:
            known.until = None
            metrics.TOOL_CIRCUIT_OPEN.labels(tool=tool.name).set(0)
            log.info("tool works again", tool=tool.name)
        elif failed and known.row.count >= policy.failures:
            known.until = time.monotonic() + policy.recovery
            known.error = outcome.value if error is None else error.message
            metrics.TOOL_CIRCUIT_OPEN.labels(tool=tool.name).set(1)
            kind = outcome.value if error is None else error.kind
            log.warning("tool rests", tool=tool.name, failures=known.row.count, seconds=policy.recovery, error=kind)

    def _of(self, tool: FunctionTool) -> _Known:
        known = self._known.get(id(tool))
        if known is None:
            known = self._known[id(tool)] = _Known()
            weakref.finalize(tool, self._known.pop, id(tool), None)
        return known


SHARED: Final = ToolLimits()
"""Those of all sessions of this process."""
