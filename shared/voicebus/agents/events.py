"""What a session tells the program: one dataclass per event, told apart by `type`.

Every event carries `info` (the session's context) and `seq`, the number of the last recorded event (see the contract),
and has a JSON form, `to_json()`: that of the gateway's native face, agents and tools by their names. Every
consumer of a session is handed the same one, so they are frozen, and made as quickly as if they were not.
"""

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel

from voicebus.agents.context import RunContextWrapper
from voicebus.agents.findings import told
from voicebus.agents.frozen import quickly_frozen
from voicebus.agents.guardrails import InputGuardrailResult, OutputGuardrailResult
from voicebus.agents.items import RealtimeItem
from voicebus.agents.models.events import RealtimeModelAudioEvent, RealtimeModelEvent
from voicebus.agents.tools.results import by_types, serialise

if TYPE_CHECKING:
    from voicebus.agents.agent import RealtimeAgent
    from voicebus.agents.tools.function_tool import FunctionTool
    from voicebus.agents.tools.hosted import HostedMCPTool
    from voicebus.agents.tools.remote import RemoteTool


@dataclass(frozen=True)
class RealtimeEventInfo:
    """What every event carries: the session's context wrapper."""

    context: RunContextWrapper[Any]


class _Event:
    """The JSON form of all of them, and their number."""

    _NOT_SHOWN: ClassVar[frozenset[str]] = frozenset({"info", "type", "seq"})

    def numbered(self, seq: int) -> None:
        """Give it its number, once, before anybody sees it."""
        object.__setattr__(self, "seq", seq)

    def to_json(self) -> dict[str, Any]:
        """This event as plain JSON: `type`, `seq`, and its fields."""
        return {"type": getattr(self, "type", ""), "seq": getattr(self, "seq", 0), **self._fields()}

    def _fields(self) -> dict[str, Any]:
        entries = dataclasses.fields(self)  # type: ignore[arg-type]
        return {entry.name: _json(getattr(self, entry.name)) for entry in entries if entry.name not in self._NOT_SHOWN}


@quickly_frozen
class RealtimeAgentStartEvent(_Event):
    """`agent` begins a response."""

    agent: "RealtimeAgent[Any]"
    info: RealtimeEventInfo
    type: Literal["agent_start"] = "agent_start"
    response_id: str | None = None
    seq: int = 0


@quickly_frozen
class RealtimeAgentEndEvent(_Event):
    """The response ended; `agent` is the one that spoke. `output` is the text it said."""

    agent: "RealtimeAgent[Any]"
    info: RealtimeEventInfo
    type: Literal["agent_end"] = "agent_end"
    response_id: str | None = None
    output: str = ""
    seq: int = 0


@quickly_frozen
class RealtimeHandoffEvent(_Event):
    """The conversation passes from one agent to another."""

    from_agent: "RealtimeAgent[Any]"
    to_agent: "RealtimeAgent[Any]"
    info: RealtimeEventInfo
    type: Literal["handoff"] = "handoff"
    call_id: str | None = None
    seq: int = 0


@quickly_frozen
class RealtimeToolStart(_Event):
    """A tool starts, after approval and its input guardrails. `arguments` is the model's JSON text."""

    agent: "RealtimeAgent[Any]"
    tool: "FunctionTool | RemoteTool | HostedMCPTool"
    arguments: str
    info: RealtimeEventInfo
    type: Literal["tool_start"] = "tool_start"
    call_id: str = ""
    seq: int = 0
    item_id: str = ""


@quickly_frozen
class RealtimeToolEnd(_Event):
    """A call was answered. `output` is what the tool returned, or the text that the model got instead; in JSON it is
    always that text.

    `outcome` is one of ok, error, timeout, cancelled, expired, unknown; `duration_ms` counts from the start.
    """

    agent: "RealtimeAgent[Any]"
    tool: "FunctionTool | RemoteTool | HostedMCPTool"
    arguments: str
    output: Any
    info: RealtimeEventInfo
    type: Literal["tool_end"] = "tool_end"
    call_id: str = ""
    outcome: str = "ok"
    duration_ms: int = 0
    seq: int = 0
    item_id: str = ""

    def _fields(self) -> dict[str, Any]:
        return {**super()._fields(), "output": serialise(by_types(self.output))}


@quickly_frozen
class RealtimeToolApprovalRequired(_Event):
    """A call waits for `approve_tool_call` or `reject_tool_call`."""

    agent: "RealtimeAgent[Any]"
    tool: "FunctionTool | RemoteTool | HostedMCPTool"
    call_id: str
    arguments: str
    info: RealtimeEventInfo
    type: Literal["tool_approval_required"] = "tool_approval_required"
    seq: int = 0


@quickly_frozen
class RealtimeToolProgress(_Event):
    """A running tool says how far it is."""

    agent: "RealtimeAgent[Any]"
    tool: "FunctionTool | RemoteTool | HostedMCPTool"
    call_id: str
    text: str
    info: RealtimeEventInfo
    type: Literal["tool_progress"] = "tool_progress"
    seq: int = 0


@quickly_frozen
class RealtimeMcpToolCallCompleted(_Event):
    """The model has run a tool of a hosted MCP server; `item` is the protocol's `mcp_call`."""

    item: dict[str, Any]
    info: RealtimeEventInfo
    type: Literal["mcp_tool_call_completed"] = "mcp_tool_call_completed"
    seq: int = 0


@quickly_frozen
class RealtimeMcpToolsChanged(_Event):
    """The tools of the hosted MCP servers are known, or have changed."""

    tools: list[dict[str, Any]]
    info: RealtimeEventInfo
    type: Literal["mcp_tools_changed"] = "mcp_tools_changed"
    seq: int = 0


@quickly_frozen
class RealtimeRawModelEvent(_Event):
    """Any event of the model layer, before what follows from it."""

    data: RealtimeModelEvent
    info: RealtimeEventInfo
    type: Literal["raw_model_event"] = "raw_model_event"
    seq: int = 0


@quickly_frozen
class RealtimeAudioStart(_Event):
    """The first audio of a content part is here; `audio` events follow."""

    info: RealtimeEventInfo
    item_id: str
    content_index: int
    type: Literal["audio_start"] = "audio_start"
    seq: int = 0


@quickly_frozen
class RealtimeAudioEnd(_Event):
    """The model has sent all audio of this part; it may still be playing."""

    info: RealtimeEventInfo
    item_id: str
    content_index: int
    type: Literal["audio_end"] = "audio_end"
    seq: int = 0


@quickly_frozen
class RealtimeAudioStopped(_Event):
    """No more audio of this part comes, because it is complete or because it was interrupted."""

    info: RealtimeEventInfo
    item_id: str
    content_index: int
    type: Literal["audio_stopped"] = "audio_stopped"
    seq: int = 0


@quickly_frozen
class RealtimeAudio(_Event):
    """Samples to play, in the session's output format."""

    audio: RealtimeModelAudioEvent
    item_id: str
    content_index: int
    info: RealtimeEventInfo
    type: Literal["audio"] = "audio"
    seq: int = 0

    def _fields(self) -> dict[str, Any]:
        return {
            "item_id": self.item_id,
            "response_id": self.audio.response_id,
            "content_index": self.content_index,
            "data": _json(self.audio.data),
        }


@quickly_frozen
class RealtimeAudioInterrupted(_Event):
    """Stop playing this part, and drop what is buffered of it."""

    info: RealtimeEventInfo
    item_id: str
    content_index: int
    type: Literal["audio_interrupted"] = "audio_interrupted"
    seq: int = 0


@quickly_frozen
class RealtimeTranscriptDelta(_Event):
    """A piece of what is said; `text` is all of the item so far. `role` is user or assistant."""

    item_id: str
    role: Literal["user", "assistant"]
    delta: str
    text: str
    info: RealtimeEventInfo
    type: Literal["transcript_delta"] = "transcript_delta"
    seq: int = 0


@quickly_frozen
class RealtimeError(_Event):
    """Something went wrong; the session goes on."""

    error: Any
    info: RealtimeEventInfo
    type: Literal["error"] = "error"
    seq: int = 0

    def _fields(self) -> dict[str, Any]:
        error = self.error
        if not isinstance(error, Mapping):
            return {"code": getattr(error, "code", None), "message": getattr(error, "message", None) or str(error)}
        kind = str(error.get("type", "error"))
        shown = {"code": error.get("code"), "message": error.get("message", ""), "source": kind.removesuffix("_error")}
        more = {name: error[name] for name in ("param", "event_id", "count") if error.get(name) is not None}
        return {**shown, **more}


@quickly_frozen
class RealtimeHistoryUpdated(_Event):
    """The whole history, after a change of something in it."""

    history: list[RealtimeItem]
    info: RealtimeEventInfo
    type: Literal["history_updated"] = "history_updated"
    seq: int = 0


@quickly_frozen
class RealtimeHistoryAdded(_Event):
    """A new item."""

    item: RealtimeItem
    info: RealtimeEventInfo
    type: Literal["history_added"] = "history_added"
    seq: int = 0


@quickly_frozen
class RealtimeGuardrailTripped(_Event):
    """Guardrails forbid what was said; `message` is the text that they judged."""

    guardrail_results: list[OutputGuardrailResult]
    message: str
    info: RealtimeEventInfo
    type: Literal["guardrail_tripped"] = "guardrail_tripped"
    response_id: str | None = None
    item_id: str | None = None
    seq: int = 0

    def _fields(self) -> dict[str, Any]:
        results = self.guardrail_results
        agent = results[0].agent.name if results else ""
        where = {"response_id": self.response_id, "item_id": self.item_id}
        return {"agent": agent, "stage": "output", **_findings(results), "message": self.message, **where}


@quickly_frozen
class RealtimeInputGuardrailTripped(_Event):
    """Guardrails forbid what the user said; `message` is the text that they judged."""

    guardrail_results: list[InputGuardrailResult]
    message: str
    info: RealtimeEventInfo
    type: Literal["input_guardrail_tripped"] = "input_guardrail_tripped"
    item_id: str | None = None
    seq: int = 0

    def _fields(self) -> dict[str, Any]:
        return {**_findings(self.guardrail_results), "message": self.message, "item_id": self.item_id}


@quickly_frozen
class RealtimeInputAudioTimeoutTriggered(_Event):
    """The user said nothing for the configured time."""

    info: RealtimeEventInfo
    type: Literal["input_audio_timeout_triggered"] = "input_audio_timeout_triggered"
    item_id: str | None = None
    seq: int = 0


@quickly_frozen
class RealtimeModelReconnecting(_Event):
    """The model's connection is lost, or about to be, and another one is opened; the session goes on.

    `cause`: why, in one word (`dropped`, `expired`, `renewal`, ...). `attempt`: how often it was tried by now, from 1.
    """

    cause: str
    attempt: int
    info: RealtimeEventInfo
    type: Literal["model_reconnecting"] = "model_reconnecting"
    seq: int = 0


@quickly_frozen
class RealtimeModelReconnected(_Event):
    """Another connection knows the conversation, and serves from now on."""

    attempt: int
    info: RealtimeEventInfo
    type: Literal["model_reconnected"] = "model_reconnected"
    seq: int = 0


@quickly_frozen
class RealtimeSessionExpiring(_Event):
    """The session ends in `ends_in_ms`, whatever happens: by its limit, or as the call's provider ends it then."""

    ends_in_ms: int
    info: RealtimeEventInfo
    type: Literal["session_expiring"] = "session_expiring"
    seq: int = 0


RealtimeSessionEvent = (
    RealtimeAgentStartEvent
    | RealtimeAgentEndEvent
    | RealtimeHandoffEvent
    | RealtimeToolStart
    | RealtimeToolEnd
    | RealtimeToolApprovalRequired
    | RealtimeToolProgress
    | RealtimeMcpToolCallCompleted
    | RealtimeMcpToolsChanged
    | RealtimeRawModelEvent
    | RealtimeAudioStart
    | RealtimeAudioEnd
    | RealtimeAudioStopped
    | RealtimeAudio
    | RealtimeAudioInterrupted
    | RealtimeTranscriptDelta
    | RealtimeError
    | RealtimeHistoryUpdated
    | RealtimeHistoryAdded
    | RealtimeGuardrailTripped
    | RealtimeInputGuardrailTripped
    | RealtimeInputAudioTimeoutTriggered
    | RealtimeModelReconnecting
    | RealtimeModelReconnected
    | RealtimeSessionExpiring
)


def _findings(results: Sequence[OutputGuardrailResult] | Sequence[InputGuardrailResult]) -> dict[str, Any]:
    """Which guardrails tripped, and what each says of it."""
    found = {result.guardrail.get_name(): told(result.output.output_info) for result in results}
    return {"guardrails": list(found), "info": found}


def _json(value: Any) -> Any:
    """`value` as plain JSON: named things by their names, bytes as base64."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {str(key): _json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_json(entry) for entry in value]
    name = getattr(value, "name", None)
    # What the model layer says has a type, and may have a name; agents, tools and guardrails only have a name.
    if isinstance(name, str) and not hasattr(value, "type"):
        return name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {entry.name: _json(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    return str(value)
