"""Recorded events: what a session's owner writes to `vb:events:{SHARD}` and the archiver keeps.

`EVENTS` maps every recorded type to its data model; an owner gives `seq` to these and to nothing else.
Positions (`started_ms`, `ended_ms`) are ms since the session started.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from voicebus.contracts.envelope import Message
from voicebus.contracts.tools import Outcome


class EventType(StrEnum):
    SESSION_STARTED = "session_started"
    SESSION_RESUMED = "session_resumed"
    ITEM_RECORDED = "item_recorded"
    TOOL_APPROVAL_REQUIRED = "tool_approval_required"
    TOOL_APPROVAL_DECIDED = "tool_approval_decided"
    TOOL_START = "tool_start"
    TOOL_END = "tool_end"
    HANDOFF = "handoff"
    GUARDRAIL_TRIPPED = "guardrail_tripped"
    TURN_ENDED = "turn_ended"
    ERROR = "error"
    MODEL_RECONNECTING = "model_reconnecting"
    MODEL_RECONNECTED = "model_reconnected"
    TRANSCRIPT_GAP = "transcript_gap"
    SESSION_ENDED = "session_ended"


MAX_TENANT_CHARS: Final = 128
Tenant = Annotated[str, Field(min_length=1, max_length=MAX_TENANT_CHARS)]
"""Whose a session is."""

LOCAL_TENANT: Final = "local"
"""The tenant of clients on one's own machine where no credentials are configured, and of records without a tenant."""

INTERRUPTED: Final = "interrupted"
"""Why a session ended whose gateway died and that nobody came back to; an archiver ends those."""


class SessionStarted(Message):
    agent: str
    tenant: Tenant = LOCAL_TENANT
    model: str
    face: Literal["native", "openai", "sideband"]
    audio: dict[str, Any]
    """`{"input": FORMAT, "output": FORMAT}`, FORMAT as on the model's wire (`{"type": "audio/pcm", "rate": 24000}`)."""


class SessionResumed(Message):
    agent: str
    tenant: Tenant = LOCAL_TENANT
    from_seq: int


class ItemRecorded(Message):
    """A final item. `text` is what was said, `heard_text` what of it reached the listener (None: all of it).

    `withheld`: a guardrail has kept `text` back, so that it is for the record and for no caller.
    """

    item_id: str
    role: Literal["user", "assistant", "system"]
    agent: str
    text: str
    heard_text: str | None = None
    truncated: bool = False
    started_ms: int
    ended_ms: int
    withheld: bool = False


class ToolApprovalRequired(Message):
    """A call waits for a person since `at_ms` (None in records that were written before there was one)."""

    call_id: str
    tool: str
    arguments: str
    agent: str
    at_ms: int | None = None


class DecidedBy(Message):
    """Who has decided: `client` is the session's own, `http` and `stream` are other processes, `deadline` is nobody.

    `key_id` names the credential, and is no secret.
    """

    via: Literal["client", "http", "stream", "deadline"]
    tenant: str | None = None
    key_id: str | None = None


class ToolApprovalDecided(Message):
    """A person's word about a call, or that none was given in time. `by`: None in a program's own process, and, as
    `tool` and `at_ms`, in records of before there was one.
    """

    call_id: str
    approved: bool
    always: bool = False
    message: str | None = None
    tool: str | None = None
    by: DecidedBy | None = None
    at_ms: int | None = None


class ToolStart(Message):
    call_id: str
    item_id: str
    tool: str
    arguments: str
    agent: str
    started_ms: int


class ToolEnd(Message):
    call_id: str
    item_id: str
    tool: str
    arguments: str
    agent: str
    output: str
    outcome: Outcome
    worker: str | None = None
    started_ms: int
    ended_ms: int


class Handoff(Message):
    from_agent: str
    to_agent: str
    call_id: str | None = None
    at_ms: int


class GuardrailTripped(Message):
    """`stage` tells what the model said (output) from what the user said (input, `response_id` is "" then).

    `withheld`: nobody has heard `message`, so that it is for the record and for no caller.
    """

    response_id: str
    item_id: str
    agent: str
    guardrails: list[str]
    info: dict[str, Any] = Field(default_factory=dict)
    message: str
    """The text that was judged."""
    at_ms: int
    stage: Literal["input", "output"] = "output"
    withheld: bool = False


class TurnEnded(Message):
    """One model response. Latencies in ms: `first_audio` and `first_text` from the end of the user's turn."""

    response_id: str
    agent: str
    status: str
    latencies: dict[str, float] = Field(default_factory=dict)
    usage: dict[str, Any] | None = None


class ErrorRecorded(Message):
    code: str
    message: str
    source: Literal["model", "client", "tool", "guardrail", "handoff", "bus", "gateway"]
    at_ms: int


class ModelReconnecting(Message):
    cause: str
    attempt: int


class ModelReconnected(Message):
    attempt: int


class TranscriptGap(Message):
    first: int
    last: int


class SessionEnded(Message):
    """`reason`: hangup, ended, error, model_lost, drained, ..."""

    reason: str
    duration_ms: int


EVENTS: Final[Mapping[EventType, type[Message]]] = {
    EventType.SESSION_STARTED: SessionStarted,
    EventType.SESSION_RESUMED: SessionResumed,
    EventType.ITEM_RECORDED: ItemRecorded,
    EventType.TOOL_APPROVAL_REQUIRED: ToolApprovalRequired,
    EventType.TOOL_APPROVAL_DECIDED: ToolApprovalDecided,
    EventType.TOOL_START: ToolStart,
    EventType.TOOL_END: ToolEnd,
    EventType.HANDOFF: Handoff,
    EventType.GUARDRAIL_TRIPPED: GuardrailTripped,
    EventType.TURN_ENDED: TurnEnded,
    EventType.ERROR: ErrorRecorded,
    EventType.MODEL_RECONNECTING: ModelReconnecting,
    EventType.MODEL_RECONNECTED: ModelReconnected,
    EventType.TRANSCRIPT_GAP: TranscriptGap,
    EventType.SESSION_ENDED: SessionEnded,
}


def for_callers(data: Message) -> dict[str, Any]:
    """A record's data as its session's own caller sees it: without what a guardrail has kept from being heard, and
    with how long a call took.
    """
    fields = data.model_dump(mode="json")
    if isinstance(data, ToolEnd):
        return {**fields, "duration_ms": max(0, data.ended_ms - data.started_ms)}
    if isinstance(data, ToolApprovalDecided):
        # Who decides is no caller's business.
        return {**fields, "by": None if data.by is None else {"via": data.by.via}}
    if isinstance(data, ItemRecorded) and data.withheld:
        return {**fields, "text": ""}
    if isinstance(data, GuardrailTripped) and data.withheld:
        return {**fields, "message": "", "info": {}}
    return fields
