"""What callbacks of an agent are given: the session's context, and a tool call's own."""

from dataclasses import dataclass, field
from typing import Any, Generic

from typing_extensions import TypeVar

TContext = TypeVar("TContext", default=Any)


@dataclass
class RunContextWrapper(Generic[TContext]):
    """One per session; `context` is the object that the author passed in, shared by every callback."""

    context: TContext


@dataclass
class ToolContext(RunContextWrapper[TContext]):
    """One per tool call of `agent` in `session`; `tool_arguments` is the model's JSON text.

    `idempotency_key` (`session:call_id`) is the same however often a call is delivered, so that a tool can make its
    effect once. `deadline_s` is what is left of the call's time, in s, when it starts. `state` is what the call's
    entry brought as its `context` (JSON), a copy for this call.
    """

    tool_name: str
    tool_call_id: str
    tool_arguments: str
    agent: str
    session: str = ""
    deadline_s: float | None = None
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def idempotency_key(self) -> str:
        return f"{self.session}:{self.tool_call_id}"
