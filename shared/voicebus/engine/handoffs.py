"""Handoffs: calls that put another agent in charge. One is made at a time, and one for each response."""

import json
from collections.abc import Callable
from typing import Final

from voicebus.contracts.tools import Outcome
from voicebus.engine.approvals import CALL_TIMER
from voicebus.engine.calls import Answer, Call, Stage
from voicebus.engine.config import HandoffSpec
from voicebus.engine.outbox import Outbox
from voicebus.engine.outputs import ResolveAgent
from voicebus.engine.responses import Response

# Resolving an agent runs the author's `on_handoff` in the owner's process; this bounds it (s).
_TIMEOUT: Final = 30.0


def transfer_message(agent: str) -> str:
    """What the model is told of a handoff once this agent has taken over."""
    return json.dumps({"assistant": agent}, ensure_ascii=False)


class Handoffs:
    """Has the agent of a handoff resolved. `conclude` ends a call with its answer."""

    def __init__(self, out: Outbox, conclude: Callable[[Call, Answer], None]) -> None:
        self._out = out
        self._conclude = conclude
        self._resolving: Call | None = None
        self._made: tuple[Response, str] | None = None

    def begin(self, call: Call, spec: HandoffSpec) -> None:
        """The model has made this call."""
        target = None
        if self._resolving is not None and isinstance(self._resolving.spec, HandoffSpec):
            target = self._resolving.spec.agent
        elif self._made is not None and self._made[0] is call.response:
            target = self._made[1]
        if target is not None:
            message = f"Only one handoff is made at a time; the conversation goes to {target}."
            self._conclude(call, Answer(message))
            return
        self._resolving = call
        call.stage = Stage.RESOLVING
        agent = call.response.agent
        self._out.add(ResolveAgent(call.id, spec.name, agent.name, spec.agent, call.arguments, agent.snapshot))
        self._out.set_timer(CALL_TIMER + call.id, _TIMEOUT)

    def waiting(self, call_id: str) -> Call | None:
        """The handoff that waits for its agent under this id."""
        return self._resolving if self._resolving is not None and self._resolving.id == call_id else None

    def made(self, call: Call, agent: str) -> None:
        """The new agent is in charge and the model has its settings."""
        self._resolving, self._made = None, (call.response, agent)
        self._conclude(call, Answer(transfer_message(agent)))

    def failed(self, call_id: str, message: str, detail: str = "") -> None:
        """The agent could not be resolved; the one in charge goes on. `detail` is for the program alone."""
        call = self.waiting(call_id)
        if call is None:
            self._out.ignore(f"late answer to handoff {call_id}")
            return
        self._resolving = None
        self._out.error("handoff_failed", detail or message, "handoff")
        self._conclude(call, Answer(message, Outcome.ERROR))
