"""Which agent is in charge: another one takes over because the program says so, or as a handoff was resolved."""

from voicebus.contracts.journal import EventType
from voicebus.engine.config import AgentSpec
from voicebus.engine.inputs import AgentResolved, AgentUnresolved
from voicebus.engine.parts import Parts


class AgentSide:
    """Takes the author's word on agents."""

    def __init__(self, parts: Parts) -> None:
        self._p = parts

    def adopt(self, agent: AgentSpec) -> None:
        """This agent is in charge from now on."""
        self._p.settings.adopt(agent)
        self._p.settings_sent()
        if self._p.face is not None:
            self._p.face.agent_changed()

    def resolved(self, item: AgentResolved) -> None:
        """The agent that a handoff asked for."""
        call = self._p.calls.handoffs.waiting(item.call_id)
        if call is None:
            self._p.out.ignore(f"late answer to handoff {item.call_id}")
            return
        self._p.out.record(
            EventType.HANDOFF,
            from_agent=call.response.agent.name,
            to_agent=item.agent.name,
            call_id=call.id,
            at_ms=self._p.out.ms(),
        )
        self.adopt(item.agent)
        self._p.calls.handoffs.made(call, item.agent.name)

    def unresolved(self, item: AgentUnresolved) -> None:
        """Nobody takes over."""
        self._p.calls.handoffs.failed(item.call_id, item.message, item.detail)
