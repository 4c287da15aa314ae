"""Calls that a gateway answers by itself, at once, because a worker would only answer them worse or later."""

from typing import Protocol

from voicebus.adapters.redis.circuits import CircuitWatch
from voicebus.engine.outputs import DispatchTool
from voicebus.ports import Clock, SessionRef
from voicebus.runtime.refusing import Refusal, out_of_order
from voicebus.telemetry import metrics


class Refuses(Protocol):
    def refusal(self, call: DispatchTool) -> Refusal | None:
        """Why this call is not sent; None where it is."""
        ...


class FollowsCalls(Protocol):
    """Who cares what becomes of the calls that were sent."""

    def sent(self, session: SessionRef, call: DispatchTool) -> None: ...

    def ended(self, session: str, call_id: str) -> object: ...


class OpenCircuits:
    """Refuses calls of tools that rest. Once the rest is over, one call of this gateway tries, and then it rests on."""

    def __init__(self, watch: CircuitWatch, clock: Clock) -> None:
        self._watch = watch
        self._clock = clock
        self._tries: dict[str, int] = {}
        self._shown: set[str] = set()

    def refusal(self, call: DispatchTool) -> Refusal | None:
        self._show()
        circuit = self._watch.circuits.get(call.tool)
        if circuit is None:
            self._tries.pop(call.tool, None)
            return None
        now = self._clock.at_ms()
        if now >= max(circuit.until, self._tries.get(call.tool, 0)):
            # It closes the circuit if it is good; the others wait for that as long as another rest.
            self._tries[call.tool] = now + circuit.rest_ms
            return None
        return out_of_order(call.tool, failures=circuit.failures, error=circuit.error)

    def _show(self) -> None:
        for tool in self._watch.circuits.keys() - self._shown:
            metrics.TOOL_CIRCUIT_OPEN.labels(tool=tool).set(1)
        for tool in self._shown - self._watch.circuits.keys():
            metrics.TOOL_CIRCUIT_OPEN.labels(tool=tool).set(0)
        self._shown = set(self._watch.circuits)
