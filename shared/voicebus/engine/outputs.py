"""Everything a session can ask its driver to do, in the order given. Plain data.

The driver performs outputs synchronously and in order; nothing here waits.
"""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from voicebus.contracts.envelope import Message
from voicebus.contracts.journal import EventType
from voicebus.contracts.tools import ContextChange


class SendModel(Struct, frozen=True):
    """A client event of the protocol, to the model.

    `spare`: to the socket that is to take over. `speech` names an item of the user: where the driver still has its
    samples, they are the content of the item that the event creates.
    """

    event: Mapping[str, Any]
    spare: bool = False
    speech: str | None = None


class Dial(Struct, frozen=True):
    """Open another socket to the `address`-th of the session's models; the answer is `LinkOpened` or `LinkLost`.

    `spare`: beside the one in use; the answers are `SpareOpened` and `SpareLost` then.
    """

    address: int = 0
    spare: bool = False


class DropLink(Struct, frozen=True):
    """The socket in use is of no use any more: close it. Audio waits for the next one."""


class Keep(Struct, frozen=True):
    """Fields of the session's state that are others now: what its next owner needs (`keeping.py`)."""

    fields: Mapping[str, str]


class CommitSettled(Struct, frozen=True):
    """A `CommitAudio` that was `given` a name need not be repeated to the session's next owner, should there be one."""

    given: str


class SwitchLink(Struct, frozen=True):
    """From now on the spare socket is the one in use; the other is closed."""


class ReleaseAudio(Struct, frozen=True):
    """The socket in use knows the conversation: what audio has waited goes to it, and all audio from now on.

    `whole`: all that was not committed, else the last 5 s before the socket was lost, and all that came since.
    """

    whole: bool = False


class ForwardAudio(Struct, frozen=True):
    """Answer to a `ModelAudio` that may pass: forward that delta's samples to the client.

    `response_id` and `output_index` are those that the *client* knows (one response per chain: they may differ from
    the model's). No `ForwardAudio` for a `ModelAudio` means: drop it.
    """

    response_id: str
    item_id: str
    output_index: int
    content_index: int


class CutSound(Struct, frozen=True):
    """Only `heard_ms` of this part were played; for the recording of the call (`SessionConfig.records`)."""

    item_id: str
    content_index: int
    heard_ms: float


class HoldSound(Struct, frozen=True):
    """Playback stands still from now on, as nobody listens, or (`held` is False) goes on."""

    held: bool


class HoldInput(Struct, frozen=True):
    """Always the first output of a `ModelEvent` or `ModelAudio` that nobody may know of yet.

    The driver keeps the input, with its samples, behind those that it keeps already. The engine bounds what is kept.
    """


class ReturnInputs(Struct, frozen=True):
    """Bring the first `count` kept inputs again, in order, before anything else."""

    count: int


class ConcealInput(Struct, frozen=True):
    """Always the first output of a model's input that nobody may see as it is: who reads along sees `event` instead.

    None stands for nothing.
    """

    event: Mapping[str, Any] | None


class ToClient(Struct, frozen=True):
    """A server event of the protocol for the client of the OpenAI face, complete but for `event_id`."""

    event: Mapping[str, Any]


class Emit(Struct, frozen=True):
    """An event of the native face that is not recorded (`audio_interrupted`, `transcript_delta`, `history_*`, ...).

    `data` holds the fields beside `type`, `seq`, `session` and `at`.
    """

    type: str
    data: Mapping[str, Any] = {}


class Record(Struct, frozen=True):
    """A recorded event: appended to the session's stream under `seq`, and sent to clients of the native face."""

    seq: int
    type: EventType
    data: Message


class DispatchTool(Struct, frozen=True):
    """Run a function tool elsewhere. The answer comes as `ToolResultArrived`; `timeout_ms` counts from now.

    `background`: the conversation goes on without it. `context` and `caller` (tenant and subject) are added by the
    session's owner where the call leaves its process.
    """

    call_id: str
    tool: str
    arguments: str
    agent: str
    queue: str
    timeout_ms: int
    idempotent: bool
    local: bool = False
    vetted: bool = False
    snapshot: int = 0
    background: bool = False
    context: Mapping[str, Any] | None = None
    caller: tuple[str, str] | None = None
    version: str | None = None


class MergeContext(Struct, frozen=True):
    """Make the changes that a tool has made to the session's context, field by field (`ContextChange`)."""

    tool: str
    changes: Mapping[str, ContextChange]


class VetCall(Struct, frozen=True):
    """Ask the author's side whether a call may run; the answer comes as `CallVetted`.

    `approved`: a person, or a sticky decision, has approved it, so that only its input guardrails are left to ask.
    `hosted`: it is an approval request of a hosted MCP server, whose label is `tool`'s prefix (`label.tool`).
    """

    call_id: str
    tool: str
    arguments: str
    agent: str
    snapshot: int
    approved: bool
    hosted: bool = False


class WordToolError(Struct, frozen=True):
    """Ask the author's side how the model is told of an error; the answer comes as `ToolErrorWorded`.

    `kind`: `approval_rejected`, `tool_not_found` or `tool_exception`; `message` is what it is told by default.
    """

    call_id: str
    tool: str
    kind: str
    message: str


class StopModel(Struct, frozen=True):
    """For a model of transport EVENTS: stop what it says, as `Interrupt` has it; None means whatever runs."""

    response_id: str | None = None
    cancel: bool = True
    truncate: bool = True


class CancelTool(Struct, frozen=True):
    """The result of this call is not wanted any more. `worker` is known once the call has started."""

    call_id: str
    queue: str
    worker: str | None
    reason: str


class DispatchCheck(Struct, frozen=True):
    """Judge `text`, all that was said so far in this item; the answer comes as `VerdictArrived`.

    `stage` tells what the model says (output) from what the user says (input, without a response). `timeout_ms` is
    how long the answer is of use, None for as long as the session's guardrails have. `context` and `tenant`
    are added by the session's owner where the check leaves its process.
    """

    check_id: str
    response_id: str
    item_id: str
    agent: str
    guardrails: tuple[str, ...]
    text: str
    final: bool
    snapshot: int = 0
    stage: Literal["input", "output"] = "output"
    timeout_ms: int | None = None
    context: Mapping[str, Any] | None = None
    tenant: str | None = None


class ResolveAgent(Struct, frozen=True):
    """Resolve the agent of handoff `call_id`, run its `on_handoff`; answer `AgentResolved` or `AgentUnresolved`."""

    call_id: str
    handoff: str
    from_agent: str
    to_agent: str
    arguments: str
    snapshot: int = 0


class SetTimer(Struct, frozen=True):
    """Bring `TimerFired(key)` at `at` (s, same clock as `now`); replaces a timer of the same key."""

    key: str
    at: float


class CancelTimer(Struct, frozen=True):
    key: str


class Observe(Struct, frozen=True):
    """A measurement: the driver feeds `telemetry`. `name` is a field of `Measurement` there; labels are bounded."""

    name: str
    value: float = 1.0
    labels: Mapping[str, str] = {}


class Ignored(Struct, frozen=True):
    """An input that means nothing in this state (late, double, unknown): counted and logged, nothing else."""

    why: str


class Close(Struct, frozen=True):
    """The end: always the last output of a session. The driver closes client and model sockets.

    `client_code` is the WebSocket close code for the client (contract section 3).
    """

    reason: str
    client_code: int = 1000


Output = (
    SendModel
    | Dial
    | DropLink
    | SwitchLink
    | Keep
    | CommitSettled
    | ReleaseAudio
    | ForwardAudio
    | CutSound
    | HoldSound
    | HoldInput
    | ReturnInputs
    | ConcealInput
    | ToClient
    | Emit
    | Record
    | DispatchTool
    | MergeContext
    | VetCall
    | WordToolError
    | StopModel
    | CancelTool
    | DispatchCheck
    | ResolveAgent
    | SetTimer
    | CancelTimer
    | Observe
    | Ignored
    | Close
)
