"""The program's own ears in a gateway: what a session tells its client is told to the program's hooks, too."""

from collections.abc import Mapping
from typing import Any

from voicebus.agents.author import SessionAuthor
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.hooks import HookRunner
from voicebus.agents.tools.kinds import Tool
from voicebus.agents.tools.remote import RemoteTool
from voicebus.agents.usage import Usage
from voicebus.contracts.envelope import Message
from voicebus.contracts.journal import EventType, Handoff, ToolEnd, ToolStart, TurnEnded
from voicebus.runtime.surroundings import ClientFace


class HookedFace:
    """Stands before a client's face, and counts what the model used in `context.usage`. Implements `ClientFace`."""

    def __init__(
        self, face: ClientFace, hooks: HookRunner, author: SessionAuthor, context: RunContextWrapper[None]
    ) -> None:
        self._face = face
        self._hooks = hooks
        self._author = author
        self._context = context
        # The face's own: audio does not pay for hooks.
        self.ready = face.ready
        self.server_event = face.server_event
        self.audio = face.audio
        self.close = face.close

    def record(self, seq: int, kind: EventType, at_ms: int, data: Message) -> None:
        self._face.record(seq, kind, at_ms, data)
        agent = self._author.agent
        if isinstance(data, ToolStart):
            self._hooks.tool_start(agent(data.agent), self._tool(data))
        elif isinstance(data, ToolEnd):
            self._hooks.tool_end(agent(data.agent), self._tool(data), data.output)
        elif isinstance(data, Handoff):
            self._hooks.handoff(agent(data.from_agent), agent(data.to_agent))
        elif isinstance(data, TurnEnded) and data.usage is not None:
            # Hooks run after the step that tells of the turn's end, so they find it counted (parity 40).
            self._context.usage.add(Usage.of(data.usage))

    def emit(self, kind: str, seq: int, at_ms: int, data: Mapping[str, Any]) -> None:
        self._face.emit(kind, seq, at_ms, data)
        if kind == "agent_start":
            self._hooks.agent_start(self._author.agent(data["agent"]))
        elif kind == "agent_end":
            self._hooks.agent_end(self._author.agent(data["agent"]), data.get("output") or "")

    def _tool(self, data: ToolStart | ToolEnd) -> Tool:
        # By its name alone where the agent's tools have changed meanwhile.
        return self._author.tool(self._author.latest(data.agent), data.tool) or RemoteTool(data.tool)
