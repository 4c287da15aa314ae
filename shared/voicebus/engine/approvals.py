"""Whether a call may run: the way from the model's wish to the start (parity 87-90, 2.15-2.18).

1. A call without approval and guardrails runs at once. Else the author's side is asked (`VetCall`): for the tool's
   condition, its policy, its input guardrails. A tool that always needs approval and has no guardrails asks a person
   straight away.
2. A person's word counts once, for the call that waits; `always` makes it the tool's for the session. An approval is
   of this agent's tool and of those of other agents that are the same one, a refusal of every tool of that name. It is
   looked up when a call comes, and again when the author's side has answered: it may have been given meanwhile. A call
   that was approved stays approved.
3. A person may take as long as `approval_timeout_ms` says; after that the call is refused. Where it says nothing, as
   long as the session lasts.
4. After an approval only the guardrails are left to ask. Whatever else comes back then refuses the call, as does an
   answer that does not come in time: what cannot be checked does not run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from voicebus.contracts.journal import DecidedBy, EventType
from voicebus.engine.calls import Call, Stage
from voicebus.engine.config import Approval, HandoffSpec, HostedToolSpec, ToolSpec
from voicebus.engine.inputs import Approve, CallVetted, Reject
from voicebus.engine.outbox import Outbox
from voicebus.engine.outputs import VetCall

CALL_TIMER: Final = "call:"
"""The one timer of a call, whatever stage it is in."""

# The author's side has callbacks of its own with limits of their own; this bounds them together (s).
_VETTING_TIMEOUT: Final = 30.0

Spec = ToolSpec | HandoffSpec | HostedToolSpec

Refusal = Literal["rejected", "guardrail", "unknown_tool"]


@dataclass(frozen=True, slots=True)
class _Sticky:
    """What a person has decided for all further calls of a tool; `agent`: None where nobody knows whose it was."""

    approved: bool
    message: str | None = None
    agent: str | None = None
    spec: Spec | None = None

    def is_about(self, call: Call) -> bool:
        if not self.approved or self.agent in (None, call.response.agent.name):
            return True
        return _what(self.spec) is not None and _what(self.spec) == _what(call.spec)


def _what(spec: Spec | None) -> object:
    """What makes a tool the one that a person has decided about, whichever agent has it; None where nothing does."""
    if isinstance(spec, ToolSpec):
        meant = spec.description or spec.source
        return (meant, spec.parameters, spec.queue, spec.local) if meant else None
    # Of a server that no agent names nothing but its label is known.
    return None if isinstance(spec, HostedToolSpec) and not spec.wire else spec


class Approvals:
    """Brings calls to `run` or to `refuse`, each exactly once, unless the session ends first.

    `refuse` gets the message for the model, None for the usual one, and why.
    """

    def __init__(
        self, out: Outbox, *, run: Callable[[Call], None], refuse: Callable[[Call, str | None, Refusal], None]
    ) -> None:
        self._out = out
        self._run = run
        self._refuse = refuse
        # By the tool's name; of several that are about a call the first counts.
        self._sticky: dict[str, list[_Sticky]] = {}

    def enter(self, call: Call) -> None:
        """The model has made this call."""
        sticky = self._decision(call)
        if sticky is not None:
            self._decided(call, sticky)
        elif call.vetted or call.approval is Approval.ASK:
            self._vet(call)
        elif call.approval is Approval.ALWAYS:
            self._ask(call)
        else:
            self._run(call)

    def resume(self, call: Call, passed_ms: int) -> None:
        """A person has been asked already, so long ago."""
        call.stage = Stage.ASKING
        if call.approval_timeout_ms is not None:
            self._out.set_timer(CALL_TIMER + call.id, max(0, call.approval_timeout_ms - passed_ms) / 1000)

    def remember(
        self, tool: str, *, approved: bool, message: str | None, agent: str | None, spec: Spec | None = None
    ) -> None:
        """A person has decided for all further calls of a tool of this agent; None where nobody knows whose it was."""
        others = [one for one in self._sticky.get(tool, ()) if one.agent not in (None, agent)]
        self._sticky[tool] = [_Sticky(approved, message, agent, spec), *others]

    def _decision(self, call: Call) -> _Sticky | None:
        return next((one for one in self._sticky.get(call.name, ()) if one.is_about(call)), None)

    def vetted(self, call: Call, answer: CallVetted) -> None:
        """The author's side has answered."""
        self._out.cancel_timer(CALL_TIMER + call.id)
        sticky = self._decision(call)
        if answer.decision == "reject":
            self._refuse(call, answer.message, answer.kind)
        elif sticky is not None and not sticky.approved and not call.approved:
            self._refuse(call, sticky.message, "rejected")
        elif answer.decision == "run":
            self._run(call)
        elif call.approved:
            self._unchecked(call, "was asked about again after its approval")
        elif sticky is not None:
            self._decided(call, sticky)
        else:
            self._ask(call)

    def overdue(self, call: Call) -> None:
        """Whoever was asked has not answered in time."""
        if call.stage is Stage.ASKING:
            limit = (call.approval_timeout_ms or 0) / 1000
            message = f"The call was not approved within {limit:g} seconds and was not made."
            self._record(call, approved=False, always=False, message=message, by=DecidedBy(via="deadline"))
            self._refuse(call, message, "rejected")
            return
        self._unchecked(call, f"could not be checked within {_VETTING_TIMEOUT:g} s")

    def approve(self, call: Call, word: Approve) -> None:
        self._heard(call)
        self._record(call, approved=True, always=word.always, message=None, by=word.by)
        if word.always:
            self.remember(call.name, approved=True, message=None, agent=call.response.agent.name, spec=call.spec)
        self._decided(call, _Sticky(approved=True))

    def reject(self, call: Call, word: Reject) -> None:
        self._heard(call)
        self._record(call, approved=False, always=word.always, message=word.message, by=word.by)
        if word.always:
            self.remember(
                call.name, approved=False, message=word.message, agent=call.response.agent.name, spec=call.spec
            )
        sticky = self._decision(call)
        known = sticky.message if sticky is not None and not sticky.approved else None
        self._refuse(call, known if word.message is None else word.message, "rejected")

    def _heard(self, call: Call) -> None:
        self._out.cancel_timer(CALL_TIMER + call.id)

    def _decided(self, call: Call, decision: _Sticky) -> None:
        if not decision.approved:
            self._refuse(call, decision.message, "rejected")
            return
        call.approved = True
        if call.vetted:
            self._vet(call)
        else:
            self._run(call)

    def _vet(self, call: Call) -> None:
        call.stage = Stage.VETTING
        agent = call.response.agent
        hosted = isinstance(call.spec, HostedToolSpec)
        self._out.add(
            VetCall(call.id, call.name, call.arguments, agent.name, agent.snapshot, call.approved, hosted=hosted)
        )
        self._out.set_timer(CALL_TIMER + call.id, _VETTING_TIMEOUT)

    def _ask(self, call: Call) -> None:
        call.stage = Stage.ASKING
        if call.approval_timeout_ms is not None:
            self._out.set_timer(CALL_TIMER + call.id, call.approval_timeout_ms / 1000)
        self._out.record(
            EventType.TOOL_APPROVAL_REQUIRED,
            call_id=call.id,
            tool=call.name,
            arguments=call.arguments,
            agent=call.response.agent.name,
            at_ms=self._out.ms(),
        )

    def _unchecked(self, call: Call, why: str) -> None:
        self._out.error("call_unchecked", f"Call {call.id} of {call.name} {why}; it is refused.", "tool")
        self._refuse(call, None, "rejected")

    def _record(self, call: Call, *, approved: bool, always: bool, message: str | None, by: DecidedBy | None) -> None:
        self._out.record(
            EventType.TOOL_APPROVAL_DECIDED,
            call_id=call.id,
            approved=approved,
            always=always,
            message=message,
            tool=call.name,
            by=by,
            at_ms=self._out.ms(),
        )
