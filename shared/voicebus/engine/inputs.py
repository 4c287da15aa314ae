"""Everything that can happen to a session. Plain data; times come beside them, as `now` (s, monotonic)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voicebus.contracts.guardrails import GuardrailVerdict
from voicebus.contracts.tools import ToolProgress, ToolResult, ToolStarted
from voicebus.engine.config import AgentSpec

# --- the model's side -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """A server event of the protocol, parsed, of any type but `response.output_audio.delta`."""

    event: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelAudio:
    """One `response.output_audio.delta`, without its samples: `size` is their number of bytes."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int
    size: int


@dataclass(frozen=True, slots=True)
class ModelMalformed:
    """A frame from the model that is no JSON object with a `type`."""

    why: str


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The model's socket closed or failed. `code` is the protocol's error code if one came before."""

    why: str
    code: str | None = None
    close_code: int | None = None


# --- the client's side, native face ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SendMessage:
    """A user message; `content` are the protocol's input parts (`input_text`, `input_image`)."""

    content: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class CommitAudio:
    """End of a manual turn: commit the input buffer and ask for a response."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Stop what is being said: cancel and truncate, also in a text answer (parity 0.2)."""


@dataclass(frozen=True, slots=True)
class Playback:
    """How much of an item's audio has reached the listener, in ms."""

    item_id: str
    content_index: int
    played_ms: float


@dataclass(frozen=True, slots=True)
class UpdateAgent:
    """Another agent takes over on the client's or an operator's word; already resolved."""

    agent: AgentSpec


@dataclass(frozen=True, slots=True)
class End:
    """The conversation is to end; `reason` goes into `session_ended`."""

    reason: str


# --- the client's side, OpenAI face ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClientEvent:
    """A client event of the protocol, parsed, of any type but `input_audio_buffer.append`."""

    event: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ClientMalformed:
    """A bad frame from the client; `code` as the protocol's (`invalid_json`, `invalid_event`, `invalid_value`)."""

    code: str
    message: str
    param: str | None = None
    event_id: str | None = None


# --- workers --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToolStartedArrived:
    started: ToolStarted


@dataclass(frozen=True, slots=True)
class ToolProgressArrived:
    progress: ToolProgress


@dataclass(frozen=True, slots=True)
class ToolResultArrived:
    result: ToolResult


@dataclass(frozen=True, slots=True)
class VerdictArrived:
    verdict: GuardrailVerdict


# --- the owner's own answers ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AgentResolved:
    """Answer to `ResolveAgent`: the agent that a handoff names, ready to take over."""

    call_id: str
    agent: AgentSpec


@dataclass(frozen=True, slots=True)
class AgentUnresolved:
    """Answer to `ResolveAgent` that failed; `message` is one sentence for the model."""

    call_id: str
    message: str


@dataclass(frozen=True, slots=True)
class TimerFired:
    key: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something outside the engine failed without ending the call (the bus, a listener); recorded as `error`."""

    code: str
    message: str
    source: str


Input = (
    ModelEvent
    | ModelAudio
    | ModelMalformed
    | LinkLost
    | SendMessage
    | CommitAudio
    | Interrupt
    | Playback
    | UpdateAgent
    | End
    | ClientEvent
    | ClientMalformed
    | ToolStartedArrived
    | ToolProgressArrived
    | ToolResultArrived
    | VerdictArrived
    | AgentResolved
    | AgentUnresolved
    | TimerFired
    | Trouble
)
