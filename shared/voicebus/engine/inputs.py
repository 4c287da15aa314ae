"""Everything that can happen to a session. Plain data; times come beside them, as `now` (s, monotonic).

Structs, as they are made ten times as fast as frozen dataclasses.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from voicebus.contracts.guardrails import GuardrailVerdict
from voicebus.contracts.journal import DecidedBy
from voicebus.contracts.tools import ToolProgress, ToolResult, ToolStarted
from voicebus.engine.config import AgentSpec

# --- the model's side -----------------------------------------------------------------------------


class ModelEvent(Struct, frozen=True):
    """A server event of the protocol, parsed, of any type but `response.output_audio.delta`."""

    event: Mapping[str, Any]


class ModelAudio(Struct, frozen=True):
    """One `response.output_audio.delta`. `size` is the number of bytes of its samples, which may not come along."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int
    size: int
    samples: bytes = b""


class ModelMalformed(Struct, frozen=True):
    """A frame from the model that is no JSON object with a `type`."""

    why: str


class Spoken(Struct, frozen=True):
    """The item of the user's speech that the next event is about was spoken from `started` to `ended` (s, as `now`)."""

    item_id: str
    started: float
    ended: float


class LinkLost(Struct, frozen=True):
    """The model's socket closed, failed, or could not be opened.

    `code` is the protocol's error code, where one came. `fatal`: the server refused the connection as such. `jitter` is
    a random number from 0 to 1. `retry_after`: for how long the server asks to be left alone (s).
    """

    why: str
    code: str | None = None
    close_code: int | None = None
    fatal: bool = False
    jitter: float = 0.0
    retry_after: float = 0.0


class LinkOpened(Struct, frozen=True):
    """Answer to `Dial`: the model's socket is open again, and knows nothing."""


class LinkExpires(Struct, frozen=True):
    """The socket in use will be closed by the model in `after` s."""

    after: float


class SpareOpened(Struct, frozen=True):
    """Answer to `Dial`: a second socket is open, and knows nothing."""


class SpareLost(Struct, frozen=True):
    """The second socket closed or could not be opened."""

    why: str


class SpareEvent(Struct, frozen=True):
    """A server event on the second socket."""

    event: Mapping[str, Any]


class AudioInterrupted(Struct, frozen=True):
    """A model of transport EVENTS has stopped this part itself: the listener's side stops, too."""

    item_id: str
    content_index: int


# --- the client's side, native face and in process --------------------------------------------------


class SendMessage(Struct, frozen=True):
    """A user message; `content` are the protocol's input parts (`input_text`, `input_image`).

    `respond`: have it answered. `extra` are further fields of the event (`previous_item_id`, ...).
    """

    content: Sequence[Mapping[str, Any]]
    respond: bool = True
    extra: Mapping[str, Any] = {}


class CommitAudio(Struct, frozen=True):
    """End of a manual turn: commit the input buffer and, with `respond`, ask for a response.

    `given` names it; it is answered with `CommitSettled`, once no owner's death takes the turn back.
    """

    respond: bool = True
    given: str | None = None


class Interrupt(Struct, frozen=True):
    """Stop what is being said: cancel and truncate, also in a text answer (parity 0.2).

    `response_id` limits it to one response; without `cancel` the response goes on, without `truncate` playback does.
    """

    response_id: str | None = None
    cancel: bool = True
    truncate: bool = True


class SendRaw(Struct, frozen=True):
    """A client event of the protocol from the program itself, as it stands (parity 70), with no limits of a client."""

    event: Mapping[str, Any]


class SendToolOutput(Struct, frozen=True):
    """The program answers a call itself (`calls_elsewhere`); `respond`: the model goes on when nothing runs."""

    call_id: str
    output: str
    respond: bool


class ChangeSettings(Struct, frozen=True):
    """The program changes settings: a patch of the wire's session object; stays until the agent changes."""

    patch: Mapping[str, Any]


class ReplaceHistory(Struct, frozen=True):
    """The history is to be `items` (as the native face shows them): what differs is deleted and created anew."""

    items: Sequence[Mapping[str, Any]]


class Approve(Struct, frozen=True):
    """A call that waits may run; `always`: so may all further ones of that tool. `by`: who says so, for the record."""

    call_id: str
    always: bool = False
    by: DecidedBy | None = None


class Reject(Struct, frozen=True):
    """A call that waits is refused, and the model told `message`; `always`: so are all further ones of that tool."""

    call_id: str
    always: bool = False
    message: str | None = None
    by: DecidedBy | None = None


class Playback(Struct, frozen=True):
    """How much of an item's audio has reached the listener, in ms."""

    item_id: str
    content_index: int
    played_ms: float


class ListenerLeft(Struct, frozen=True):
    """Nobody listens any more, and somebody may come back: nothing counts as heard from now on."""


class ListenerBack(Struct, frozen=True):
    """Somebody listens again, from where playback stood. `from_seq`: up to which recorded event they had everything;
    None where they come for the first time.
    """

    from_seq: int | None = None


class UpdateAgent(Struct, frozen=True):
    """Another agent takes over on the client's or an operator's word; already resolved."""

    agent: AgentSpec


class End(Struct, frozen=True):
    """The conversation is to end; `reason` goes into `session_ended`."""

    reason: str


# --- the client's side, OpenAI face ---------------------------------------------------------------


class ClientEvent(Struct, frozen=True):
    """A client event of the protocol, parsed, of any type but `input_audio_buffer.append`."""

    event: Mapping[str, Any]


class ClientMalformed(Struct, frozen=True):
    """A bad frame from the client; `code` as the protocol's (`invalid_json`, `invalid_event`, `invalid_value`)."""

    code: str
    message: str
    param: str | None = None
    event_id: str | None = None


# --- workers --------------------------------------------------------------------------------------


class ToolStartedArrived(Struct, frozen=True):
    started: ToolStarted


class ToolProgressArrived(Struct, frozen=True):
    progress: ToolProgress


class ToolResultArrived(Struct, frozen=True):
    result: ToolResult


class VerdictArrived(Struct, frozen=True):
    verdict: GuardrailVerdict


class CheckRefused(Struct, frozen=True):
    """Nobody will judge this check; `why` goes on from "it could not judge: "."""

    check_id: str
    why: str


# --- the owner's own answers ----------------------------------------------------------------------


class AgentResolved(Struct, frozen=True):
    """Answer to `ResolveAgent`: the agent that a handoff names, ready to take over."""

    call_id: str
    agent: AgentSpec


class AgentUnresolved(Struct, frozen=True):
    """Answer to `ResolveAgent` that failed; `message` is one sentence for the model, `detail` what the program is told
    instead, where that is more.
    """

    call_id: str
    message: str
    detail: str = ""


class CallVetted(Struct, frozen=True):
    """Answer to `VetCall`: run it, ask a person, or refuse it, telling the model `message`.

    `kind` says why it is refused: `rejected` (by a person or a policy), `guardrail`, or `unknown_tool`.
    """

    call_id: str
    decision: Literal["run", "ask", "reject"]
    message: str | None = None
    kind: Literal["rejected", "guardrail", "unknown_tool"] = "rejected"


class ToolErrorWorded(Struct, frozen=True):
    """Answer to `WordToolError`: what the model is told."""

    call_id: str
    message: str


class ToolsChanged(Struct, frozen=True):
    """The agent that was resolved as snapshot `instead_of` has other tools now; `agent` differs in nothing else."""

    agent: AgentSpec
    instead_of: int


class TimerFired(Struct, frozen=True):
    key: str


class Trouble(Struct, frozen=True):
    """Something outside the engine failed without ending the call (the bus, a listener); recorded as `error`."""

    code: str
    message: str
    source: str


Input = (
    ModelEvent
    | ModelAudio
    | ModelMalformed
    | Spoken
    | LinkLost
    | LinkOpened
    | LinkExpires
    | SpareOpened
    | SpareLost
    | SpareEvent
    | AudioInterrupted
    | SendMessage
    | CommitAudio
    | Interrupt
    | Playback
    | SendRaw
    | SendToolOutput
    | ChangeSettings
    | ReplaceHistory
    | Approve
    | Reject
    | ListenerLeft
    | ListenerBack
    | UpdateAgent
    | End
    | ClientEvent
    | ClientMalformed
    | ToolStartedArrived
    | ToolProgressArrived
    | ToolResultArrived
    | VerdictArrived
    | CheckRefused
    | AgentResolved
    | AgentUnresolved
    | CallVetted
    | ToolErrorWorded
    | ToolsChanged
    | TimerFired
    | Trouble
)
