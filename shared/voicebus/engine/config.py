"""What an engine session is built from: agents as plain data, no callables, no SDK types."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal


class Face(StrEnum):
    NATIVE = "native"
    OPENAI = "openai"


class GuardrailMode(StrEnum):
    OBSERVE = "observe"
    INTERRUPT = "interrupt"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A function tool as the model sees it, and where its calls go. `timeout_ms` bounds start to result."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    queue: str
    timeout_ms: int
    idempotent: bool = False
    respond: Literal["when_all_done", "always", "never"] = "when_all_done"


@dataclass(frozen=True, slots=True)
class HandoffSpec:
    """A handoff is a function tool to the model; `agent` is the name of the agent that takes over."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    agent: str


@dataclass(frozen=True, slots=True)
class GuardrailSpec:
    """An output guardrail. `debounce` is in characters of new text between checks; -1 checks at the end only."""

    name: str
    mode: GuardrailMode = GuardrailMode.INTERRUPT
    debounce: int = 100
    on_error: Literal["open", "closed"] = "open"
    on_unavailable: Literal["open", "closed"] = "open"


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """One agent, resolved: dynamic instructions evaluated, disabled tools left out.

    `session` is the agent's part of the wire's session object (protocol section 4) without `type`, `model`,
    `instructions` and `tools`: audio formats, transcription, turn detection, voice, modalities, ...
    """

    name: str
    instructions: str | None = None
    tools: tuple[ToolSpec, ...] = ()
    handoffs: tuple[HandoffSpec, ...] = ()
    guardrails: tuple[GuardrailSpec, ...] = ()
    session: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """One conversation. Durations in ms.

    `raw_events`: emit `raw_model_event` for every model event but audio deltas (native face).
    `client_may_set` are the dotted session paths that a client of the OpenAI face may change (prefixes count).
    """

    session: str
    face: Face
    agent: AgentSpec
    model: str
    guardrail_timeout_ms: int = 2000
    create_timeout_ms: int = 10_000
    raw_events: bool = False
    client_may_set: frozenset[str] = frozenset(
        {"type", "audio", "output_modalities", "tools", "tool_choice", "max_output_tokens", "include", "truncation"}
    )
