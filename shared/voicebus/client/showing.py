"""Makes the events of the programming model of those of the native face. Agents, tools and guardrails are known by
name alone: they live in the cluster.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from voicebus.agents import events as shown
from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.error_details import RealtimeErrorDetails
from voicebus.agents.events import RealtimeEventInfo, RealtimeSessionEvent
from voicebus.agents.guardrails import (
    GuardrailFunctionOutput,
    InputGuardrail,
    InputGuardrailResult,
    OutputGuardrail,
    OutputGuardrailResult,
)
from voicebus.agents.items import RealtimeItem, read_item
from voicebus.agents.models.events import RealtimeModelAudioEvent
from voicebus.agents.tools.remote import RemoteTool
from voicebus.errors import UserError

Event = Mapping[str, Any]


class Showing:
    """Keeps what the events tell of the conversation: the agent in charge, and its items."""

    def __init__(self, info: RealtimeEventInfo) -> None:
        self.info = info
        self.agent: str = ""
        self._agents: dict[str, RealtimeAgent[Any]] = {}
        self._items: list[dict[str, Any]] = []
        self._part: Event = {}

    @property
    def current(self) -> RealtimeAgent[Any]:
        return self.named(self.agent)

    @property
    def items(self) -> list[RealtimeItem]:
        return [read_item(item) for item in self._items]

    def named(self, name: str) -> RealtimeAgent[Any]:
        """What stands for an agent of the cluster: its name."""
        return self._agents.setdefault(name, RealtimeAgent(name=name or "agent"))

    def show(self, event: Event) -> RealtimeSessionEvent | None:
        """The event that programs are shown, None for those that they are not shown."""
        show = self._SHOWN.get(event["type"])
        made: RealtimeSessionEvent | None = None if show is None else show(self, event)
        if made is not None:
            made.numbered(event.get("seq") or 0)
        return made

    def samples(self, data: bytes) -> RealtimeSessionEvent:
        """Samples of the part that the last `audio` event named."""
        item_id, index = str(self._part.get("item_id", "")), int(self._part.get("content_index", 0))
        audio = RealtimeModelAudioEvent(data, str(self._part.get("response_id", "")), item_id, index)
        return shown.RealtimeAudio(audio, item_id, index, self.info, seq=self._part.get("seq") or 0)

    # --- one event each -------------------------------------------------------------------------------

    def _greeting(self, event: Event) -> None:
        self.agent = event["agent"]

    def _audio(self, event: Event) -> None:
        self._part = event

    def _history_updated(self, event: Event) -> RealtimeSessionEvent:
        self._items = list(event["history"])
        return shown.RealtimeHistoryUpdated(self.items, self.info)

    def _history_added(self, event: Event) -> RealtimeSessionEvent:
        item = event["item"]
        self._items = [known for known in self._items if known["item_id"] != item["item_id"]]
        before = item.get("previous_item_id")
        places = [place for place, known in enumerate(self._items) if known["item_id"] == before]
        self._items.insert(places[0] + 1 if places else len(self._items), item)
        return shown.RealtimeHistoryAdded(read_item(item), self.info)

    def _agent_start(self, event: Event) -> RealtimeSessionEvent:
        self.agent = event["agent"]
        return shown.RealtimeAgentStartEvent(self.current, self.info, response_id=event.get("response_id"))

    def _agent_end(self, event: Event) -> RealtimeSessionEvent:
        return shown.RealtimeAgentEndEvent(
            self.named(event["agent"]),
            self.info,
            response_id=event.get("response_id"),
            output=event.get("output") or "",
        )

    def _handoff(self, event: Event) -> RealtimeSessionEvent:
        self.agent = event["to_agent"]
        before = self.named(event["from_agent"])
        return shown.RealtimeHandoffEvent(before, self.current, self.info, call_id=event.get("call_id"))

    def _tool_start(self, event: Event) -> RealtimeSessionEvent:
        agent, tool = self.named(event["agent"]), RemoteTool(event["tool"])
        call_id, item_id = event["call_id"], event.get("item_id") or ""
        return shown.RealtimeToolStart(agent, tool, event["arguments"], self.info, call_id=call_id, item_id=item_id)

    def _tool_end(self, event: Event) -> RealtimeSessionEvent:
        return shown.RealtimeToolEnd(
            self.named(event["agent"]), RemoteTool(event["tool"]), event["arguments"], event["output"], self.info,
            call_id=event["call_id"], outcome=event["outcome"], duration_ms=event.get("duration_ms") or 0,
            item_id=event.get("item_id") or "",
        )  # fmt: skip

    def _approval_required(self, event: Event) -> RealtimeSessionEvent:
        return shown.RealtimeToolApprovalRequired(
            self.named(event["agent"]), RemoteTool(event["tool"]), event["call_id"], event["arguments"], self.info
        )

    def _tool_progress(self, event: Event) -> RealtimeSessionEvent:
        agent = self.named(event.get("agent") or self.agent)
        return shown.RealtimeToolProgress(agent, RemoteTool(event["tool"]), event["call_id"], event["text"], self.info)

    def _part_event(self, event: Event) -> RealtimeSessionEvent:
        kind = {
            "audio_start": shown.RealtimeAudioStart,
            "audio_end": shown.RealtimeAudioEnd,
            "audio_stopped": shown.RealtimeAudioStopped,
            "audio_interrupted": shown.RealtimeAudioInterrupted,
        }[event["type"]]
        made: RealtimeSessionEvent = kind(self.info, event["item_id"], event["content_index"])
        return made

    def _transcript_delta(self, event: Event) -> RealtimeSessionEvent:
        return shown.RealtimeTranscriptDelta(event["item_id"], event["role"], event["delta"], event["text"], self.info)

    def _guardrail_tripped(self, event: Event) -> RealtimeSessionEvent | None:
        if event.get("stage") == "input":
            return None  # `input_guardrail_tripped` tells of it
        agent = self.named(event["agent"])
        results = [
            OutputGuardrailResult(
                OutputGuardrail(_elsewhere, name=name), event["message"], agent, _finding(event, name)
            )
            for name in event["guardrails"]
        ]
        return shown.RealtimeGuardrailTripped(
            results, event["message"], self.info, response_id=event.get("response_id"), item_id=event.get("item_id")
        )

    def _input_guardrail_tripped(self, event: Event) -> RealtimeSessionEvent:
        results = [
            InputGuardrailResult(InputGuardrail(_elsewhere, name=name), _finding(event, name))
            for name in event["guardrails"]
        ]
        return shown.RealtimeInputGuardrailTripped(
            results, event["message"], self.info, item_id=event.get("item_id") or None
        )

    def _mcp_call(self, event: Event) -> RealtimeSessionEvent:
        return shown.RealtimeMcpToolCallCompleted(dict(event["item"]), self.info)

    def _mcp_tools(self, event: Event) -> RealtimeSessionEvent:
        return shown.RealtimeMcpToolsChanged(list(event["tools"]), self.info)

    def _input_timeout(self, event: Event) -> RealtimeSessionEvent:
        return shown.RealtimeInputAudioTimeoutTriggered(self.info, item_id=event.get("item_id"))

    def _reconnecting(self, event: Event) -> RealtimeSessionEvent:
        return shown.RealtimeModelReconnecting(event["cause"], event["attempt"], self.info)

    def _reconnected(self, event: Event) -> RealtimeSessionEvent:
        return shown.RealtimeModelReconnected(event["attempt"], self.info)

    def _expiring(self, event: Event) -> RealtimeSessionEvent:
        return shown.RealtimeSessionExpiring(event["ends_in_ms"], self.info)

    def _error(self, event: Event) -> RealtimeSessionEvent:
        source = event.get("source") or "client"
        return shown.RealtimeError(RealtimeErrorDetails.of({**event, "type": f"{source}_error"}), self.info)

    def _link(self, event: Event) -> RealtimeSessionEvent:
        message = {
            "connection_lost": "The connection to the gateway was lost and is being opened again.",
            "connection_resumed": "The connection to the gateway is open again; the session went on meanwhile.",
        }[event["type"]]
        return shown.RealtimeError(RealtimeErrorDetails(message, code=event["type"]), self.info)

    _SHOWN: ClassVar[Mapping[str, Callable[[Any, Event], RealtimeSessionEvent | None]]] = {
        "session_started": _greeting,
        "session_resumed": _greeting,
        "audio": _audio,
        "history_updated": _history_updated,
        "history_added": _history_added,
        "agent_start": _agent_start,
        "agent_end": _agent_end,
        "handoff": _handoff,
        "tool_start": _tool_start,
        "tool_end": _tool_end,
        "tool_approval_required": _approval_required,
        "tool_progress": _tool_progress,
        "audio_start": _part_event,
        "audio_end": _part_event,
        "audio_stopped": _part_event,
        "audio_interrupted": _part_event,
        "transcript_delta": _transcript_delta,
        "guardrail_tripped": _guardrail_tripped,
        "input_guardrail_tripped": _input_guardrail_tripped,
        "mcp_tool_call_completed": _mcp_call,
        "mcp_tools_changed": _mcp_tools,
        "input_audio_timeout_triggered": _input_timeout,
        "model_reconnecting": _reconnecting,
        "model_reconnected": _reconnected,
        "session_expiring": _expiring,
        "error": _error,
        "connection_lost": _link,
        "connection_resumed": _link,
    }


def info() -> RealtimeEventInfo:
    """What events carry: the context is the cluster's, and is not here."""
    return RealtimeEventInfo(RunContextWrapper(None))


def _finding(event: Event, name: str) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput((event.get("info") or {}).get(name), tripwire_triggered=True)


def _elsewhere(context: RunContextWrapper[Any], agent: Any, text: str) -> GuardrailFunctionOutput:
    raise UserError("this guardrail is known by its name: it runs in the cluster")
