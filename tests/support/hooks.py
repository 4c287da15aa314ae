"""Hooks of a run that keep what they are told."""

from typing import Any

from voicebus import RealtimeRunHooks

Told = list[tuple[Any, ...]]


class RunHooks(RealtimeRunHooks[Any]):
    """What was told, in `told`: what happened, the agent's name, and what belongs to it."""

    def __init__(self, told: Told | None = None) -> None:
        self.told: Told = [] if told is None else told

    async def on_agent_start(self, context: Any, agent: Any) -> None:
        self.told.append(("start", agent.name))

    async def on_agent_end(self, context: Any, agent: Any, output: Any) -> None:
        self.told.append(("end", agent.name, output))

    async def on_handoff(self, context: Any, from_agent: Any, to_agent: Any) -> None:
        self.told.append(("handoff", from_agent.name, to_agent.name))

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        self.told.append(("tool", agent.name, tool.name))

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        self.told.append(("tool end", agent.name, tool.name, result))
