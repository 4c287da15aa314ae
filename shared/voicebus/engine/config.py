"""What an engine session is built from: agents as plain data, no callables, no SDK types."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from voicebus.contracts.journal import LOCAL_TENANT


class Face(StrEnum):
    """Who listens. SIDEBAND: nobody here; the caller's audio goes to the model past the session (WebRTC, SIP)."""

    NATIVE = "native"
    OPENAI = "openai"
    SIDEBAND = "sideband"


class GuardrailMode(StrEnum):
    OBSERVE = "observe"
    INTERRUPT = "interrupt"
    HOLD = "hold"


class Transport(StrEnum):
    """What a session talks to. WIRE: a server of the protocol, whose responses the session sequences and whose audio
    it truncates. EVENTS: a model that does both itself (a custom `RealtimeModel`), and is told so by `StopModel`.
    """

    WIRE = "wire"
    EVENTS = "events"


class Recovering(StrEnum):
    """What is done where the model's socket is lost. REPLAY: another one is told the conversation. ATTACH: the
    conversation lives on elsewhere (SIP, WebRTC), and another socket joins it. NEVER: the session ends.
    """

    REPLAY = "replay"
    ATTACH = "attach"
    NEVER = "never"


class Approval(StrEnum):
    """Whether a call waits for a person: NEVER, ALWAYS, or as the owner answers `VetCall` (ASK)."""

    NEVER = "never"
    ALWAYS = "always"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class HoldSpec:
    """What is said where a call takes its time: `phrases` in turn, the first after `after_ms` of silence, further ones
    after each `every_ms` of it, None for no further ones.
    """

    phrases: tuple[str, ...]
    after_ms: int = 1500
    every_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A function tool as the model sees it, and where its calls go. `timeout_ms` bounds start to result.

    `vetted`: the owner is asked (`VetCall`) before a call starts, as the tool has input guardrails or a condition.
    `local`: calls run in the owner's process instead of on a queue. `approval_timeout_ms`: how long a person may take
    to decide about a call, None for as long as the session's own limit says. `speak_progress`: the model says how far
    a call is. `background`: the conversation does not wait for a call's result. `hold` is said while nothing else is.
    `cancel_on_interrupt`: its running calls are cancelled when the user speaks or the client interrupts. `version` is
    that of the schema. `source` tells tools of one name apart, or that they are one, where they have no description.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    queue: str
    timeout_ms: int
    idempotent: bool = False
    respond: Literal["when_all_done", "always", "never"] = "when_all_done"
    approval: Approval = Approval.NEVER
    vetted: bool = False
    local: bool = False
    approval_timeout_ms: int | None = None
    background: bool = False
    speak_progress: bool = False
    hold: HoldSpec | None = None
    cancel_on_interrupt: bool = False
    version: str | None = None
    source: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class HandoffSpec:
    """A handoff is a function tool to the model; `agent` is the name of the agent that takes over."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    agent: str


@dataclass(frozen=True, slots=True)
class HostedToolSpec:
    """Tools that the model's own side runs: an MCP server, as the wire's `{"type": "mcp", …}`.

    `vetted`: the owner decides about approval requests (`VetCall`); else a person does.
    """

    label: str
    wire: Mapping[str, Any]
    vetted: bool = False


@dataclass(frozen=True, slots=True)
class GuardrailSpec:
    """A guardrail on what is said, by the agent (`AgentSpec.guardrails`) or by the user (`input_guardrails`).

    `debounce` is in characters of new text between checks, -1 checks at the end only; input is judged once, whole.
    `policy_hint` tells the model what to keep to; `replacement` is said instead of what was stopped. `budget_ms` is how
    long it may take to judge, and how long a user's turn is held back at most; None is as long as the session's
    guardrails have, of a turn 1500. `hold_window_ms`: what is held may be heard when so many ms of later audio have
    come, and all text with them was let pass (`window.py`); None holds until a part was judged whole.
    """

    name: str
    mode: GuardrailMode = GuardrailMode.INTERRUPT
    debounce: int = 100
    on_error: Literal["open", "closed"] = "open"
    on_unavailable: Literal["open", "closed"] = "open"
    policy_hint: str | None = None
    budget_ms: int | None = None
    hold_window_ms: int | None = None
    replacement: str | None = None


@dataclass(frozen=True, slots=True)
class ClientRights:
    """What a client of the OpenAI face may do with an agent.

    `may_set` are dotted paths of the session object, each with everything below it; two are our own: `server_tools`
    (which of the agent's tools are offered) and `model` (which model answers). `may_see` are keys of that object.
    `ignored` are paths that it may send and that have no effect.
    """

    may_set: frozenset[str] = frozenset(
        {"audio", "output_modalities", "tools", "tool_choice", "max_output_tokens", "include", "truncation"}
    )
    may_see: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()

    def allows(self, path: str) -> bool:
        """Whether a client may set this path, alone or with what it is a part of."""
        return any(path == allowed or path.startswith(f"{allowed}.") for allowed in self.may_set)

    def heeded(self, settings: Mapping[str, Any], path: str = "") -> Mapping[str, Any]:
        """A client's settings without what is ignored of them."""
        if not self.ignored:
            return settings
        return {
            key: self.heeded(value, f"{path}{key}.") if isinstance(value, Mapping) else value
            for key, value in settings.items()
            if f"{path}{key}" not in self.ignored
        }


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """One agent, resolved: dynamic instructions evaluated, disabled tools left out.

    `session` is the agent's part of the wire's session object (protocol section 4) without `type`, `model`,
    `instructions` and `tools`: audio formats, transcription, turn detection, voice, modalities, ...
    `client` is what clients of the OpenAI face may do while it is in charge.
    `snapshot` tells the owner which of its resolutions this is, so that a call finds the tool that it was made for.
    """

    name: str
    instructions: str | None = None
    tools: tuple[ToolSpec, ...] = ()
    handoffs: tuple[HandoffSpec, ...] = ()
    guardrails: tuple[GuardrailSpec, ...] = ()
    session: Mapping[str, Any] = field(default_factory=dict)
    hosted_tools: tuple[HostedToolSpec, ...] = ()
    input_guardrails: tuple[GuardrailSpec, ...] = ()
    client: ClientRights = ClientRights()
    snapshot: int = 0
    holds: bool = field(init=False, repr=False, compare=False)
    """Whether nothing that this agent says may leave before it was judged; asked at every delta."""
    holding: frozenset[str] = field(init=False, repr=False, compare=False)
    """The names of the guardrails that hold."""
    hold_window_ms: int | None = field(init=False, repr=False, compare=False)
    """The widest window of the guardrails that hold; None where one of them has none."""

    def __post_init__(self) -> None:
        held = [guardrail for guardrail in self.guardrails if guardrail.mode is GuardrailMode.HOLD]
        windows = [guardrail.hold_window_ms for guardrail in held if guardrail.hold_window_ms is not None]
        object.__setattr__(self, "holds", bool(held))
        object.__setattr__(self, "holding", frozenset(guardrail.name for guardrail in held))
        object.__setattr__(self, "hold_window_ms", max(windows) if held and len(windows) == len(held) else None)

    @property
    def holds_input(self) -> bool:
        """Whether this agent answers a user's turn only after it was judged."""
        return any(guardrail.mode is GuardrailMode.HOLD for guardrail in self.input_guardrails)

    def function(self, name: str) -> ToolSpec | HandoffSpec | None:
        """What its function of this name is; None where it has none."""
        handoff = next((one for one in self.handoffs if one.name == name), None)
        return handoff or next((one for one in self.tools if one.name == name), None)


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """One conversation. Durations in ms.

    `approval_timeout_ms` is how long a person may take to decide about a call, None for as long as the session lasts.
    `raw_events`: emit `raw_model_event` for every model event but audio deltas (native face).
    `calls_elsewhere`: calls are answered by whoever drives the session (`SendToolOutput`), none is dispatched.
    `words_errors`: the owner is asked (`WordToolError`) how the model is told of a tool's error.
    `tenant` owns the session: it is recorded, and decides nothing here.
    `seed` is history to begin with, items as the native face shows them.
    `tracked_playback`: a tracker of the program's tells what was heard, so nothing is estimated; while it has told of
    nothing since the last interruption, the next one truncates nothing (parity 2.25).
    `recovering` counts for transport WIRE only. `models` are the names of the models by address, first choice first;
    none stands for `model` at the only address.
    `renewal_ms`: how long before its socket ends a session begins to move to another one; a third of a shorter life.
    `dead_air_ms`: how long an answer may take to begin that was asked for; 0 for as long as it likes.
    `keeps`: what another owner would need is written down (`Keep`), for when this one dies.
    `records`: the call's sound is recorded, so that is told what of it was heard (`CutSound`).
    `inline_tools`: the driver reads nothing of the model while a call runs (parity 25); nothing to the engine.
    """

    session: str
    face: Face
    agent: AgentSpec
    model: str
    guardrail_timeout_ms: int = 2000
    approval_timeout_ms: int | None = None
    create_timeout_ms: int = 10_000
    raw_events: bool = False
    transport: Transport = Transport.WIRE
    calls_elsewhere: bool = False
    words_errors: bool = False
    tracked_playback: bool = False
    inline_tools: bool = False
    tenant: str = LOCAL_TENANT
    recovering: Recovering = Recovering.REPLAY
    models: tuple[str, ...] = ()
    renewal_ms: int = 120_000
    dead_air_ms: int = 3000
    seed: tuple[Mapping[str, Any], ...] = ()
    keeps: bool = False
    records: bool = False
