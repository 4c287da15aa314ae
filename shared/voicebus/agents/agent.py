"""`RealtimeAgent`: instructions, tools, handoffs and guardrails under one name."""

import dataclasses
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Self

from voicebus.agents.context import RunContextWrapper, TContext
from voicebus.agents.guardrails import OutputGuardrail
from voicebus.agents.handoffs import Handoff, realtime_handoff
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.remote import RemoteTool

Instructions = str | Callable[[RunContextWrapper[Any], Any], str | Awaitable[str]]


@dataclass
class RealtimeAgent(Generic[TContext]):
    """An agent of a conversation.

    `instructions` may be a callable `(run_context, agent) -> str`, sync or async, evaluated when the agent takes
    over, never per turn. `handoffs` are agents, or `realtime_handoff(...)` results.

    Raises:
        TypeError: a field has the wrong type.
    """

    name: str
    handoff_description: str | None = None
    tools: list[FunctionTool | RemoteTool] = field(default_factory=list)
    instructions: Instructions | None = None
    handoffs: "list[RealtimeAgent[Any] | Handoff]" = field(default_factory=list)
    output_guardrails: list[OutputGuardrail] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"RealtimeAgent name must be a non-empty string, not {self.name!r}")
        if self.instructions is not None and not isinstance(self.instructions, str) and not callable(self.instructions):
            raise TypeError(f"RealtimeAgent {self.name!r}: instructions must be text, a function or None")
        for name, kinds in (
            ("tools", (FunctionTool, RemoteTool)),
            ("handoffs", (RealtimeAgent, Handoff)),
            ("output_guardrails", (OutputGuardrail,)),
        ):
            value = getattr(self, name)
            if not isinstance(value, list):
                raise TypeError(f"RealtimeAgent {self.name!r}: {name} must be a list, not {type(value).__name__}")
            for entry in value:
                if not isinstance(entry, kinds):
                    allowed = " or ".join(kind.__name__ for kind in kinds)
                    raise TypeError(f"RealtimeAgent {self.name!r}: {name} holds {entry!r}, which is no {allowed}")

    async def get_system_prompt(self, context: RunContextWrapper[TContext]) -> str | None:
        """The instructions, evaluated."""
        if not callable(self.instructions):
            return self.instructions
        produced = self.instructions(context, self)
        return await produced if inspect.isawaitable(produced) else produced

    def all_handoffs(self) -> list[Handoff]:
        """The handoffs, agents wrapped. Handoffs may be appended after construction, so cycles are possible."""
        return [entry if isinstance(entry, Handoff) else realtime_handoff(entry) for entry in self.handoffs]

    def clone(self, **changes: Any) -> Self:
        """A copy with some fields changed; lists are shared."""
        return dataclasses.replace(self, **changes)
