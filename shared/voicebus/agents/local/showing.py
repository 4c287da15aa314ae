"""Makes a program's events of what the engine emits and records: names become the author's objects."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, cast

from voicebus.agents import events as shown
from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.error_details import RealtimeErrorDetails
from voicebus.agents.events import RealtimeEventInfo, RealtimeSessionEvent
from voicebus.agents.guardrails import (
    GuardrailFunctionOutput,
    InputGuardrail,
    InputGuardrailResult,
    OutputGuardrail,
    OutputGuardrailResult,
)
from voicebus.agents.hooks import HookRunner
from voicebus.agents.local.work import LocalChecks, LocalTools, Names
from voicebus.agents.tools.kinds import Tool
from voicebus.agents.tools.remote import RemoteTool
from voicebus.contracts.envelope import Message
from voicebus.contracts.journal import (
    EventType,
    GuardrailTripped,
    Handoff,
    ModelReconnected,
    ModelReconnecting,
    ToolApprovalRequired,
    ToolEnd,
    ToolStart,
)
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)


class Showing:
    """Knows what names mean now, and tells the hooks. `current` is the agent in charge."""

    def __init__(
        self,
        names: Names,
        info: RealtimeEventInfo,
        hooks: HookRunner,
        tools: LocalTools,
        checks: LocalChecks,
        *,
        current: RealtimeAgent[Any],
        snapshot: int,
    ) -> None:
        self._names = names
        self._hooks = hooks
        self._tools = tools
        self._checks = checks
        self._snapshots = {current.name: snapshot}
        self.info = info
        self.current: RealtimeAgent[Any] = current

    def took_over(self, agent: str, snapshot: int) -> None:
        """`agent` and its tools are now known as of `snapshot`."""
        self._snapshots[agent] = snapshot

    def emitted(self, kind: str, data: Mapping[str, Any], seq: int) -> RealtimeSessionEvent | None:
        """The event that an unrecorded one is shown as, None where programs are not shown it."""
        show = self._EMITS.get(kind)
        if show is None:
            log.debug("an event that programs are not shown", event_type=kind)
            return None
        event: RealtimeSessionEvent = show(self, data)
        event.numbered(seq)
        return event

    def recorded(self, kind: EventType, data: Message, seq: int) -> RealtimeSessionEvent | None:
        """The event that a record is shown as, None for those that go into the journal only."""
        show = self._RECORDS.get(kind)
        if show is None or (isinstance(data, GuardrailTripped) and data.stage == "input"):
            return None  # what the user said is told of by `input_guardrail_tripped`
        event: RealtimeSessionEvent = show(self, data)
        event.numbered(seq)
        return event

    # --- names ----------------------------------------------------------------------------------------

    def _agent(self, name: str) -> RealtimeAgent[Any]:
        return self._names.agent(name)

    def _tool(self, agent: str, name: str) -> Tool:
        """The agent's tool, or, for calls of hosted servers, the server (`label.tool`).

        By its name alone where the agent's tools have changed meanwhile.
        """
        snapshot = self._snapshots.get(agent, 0)
        found = self._names.tool(snapshot, name) or self._names.tool(snapshot, name.partition(".")[0])
        return found or RemoteTool(name)

    def _findings(
        self, agent: str, item_id: str, names: Sequence[str], info: Mapping[str, Any]
    ) -> list[tuple[OutputGuardrail[Any] | InputGuardrail[Any], GuardrailFunctionOutput]]:
        findings = []
        for name in names:
            guardrail = self._names.guardrail(self._snapshots.get(agent, 0), name)
            if guardrail is not None:
                # One that tripped by its policy has found nothing itself.
                found = self._checks.finding(item_id, name)
                findings.append((guardrail, found or GuardrailFunctionOutput(info.get(name), tripwire_triggered=True)))
        return findings

    # --- what is not recorded -------------------------------------------------------------------------

    def _agent_start(self, data: Mapping[str, Any]) -> RealtimeSessionEvent:
        agent = self._agent(data["agent"])
        self._hooks.agent_start(agent)
        return shown.RealtimeAgentStartEvent(agent, self.info, response_id=data.get("response_id"))

    def _agent_end(self, data: Mapping[str, Any]) -> RealtimeSessionEvent:
        agent, output = self._agent(data["agent"]), data.get("output") or ""
        self._hooks.agent_end(agent, output)
        return shown.RealtimeAgentEndEvent(agent, self.info, response_id=data.get("response_id"), output=output)

    def _audio_start(self, data: Mapping[str, Any]) -> RealtimeSessionEvent:
        return shown.RealtimeAudioStart(self.info, data["item_id"], data["content_index"])

    def _audio_end(self, data: Mapping[str, Any]) -> RealtimeSessionEvent:
        return shown.RealtimeAudioEnd(self.info, data["item_id"], data["content_index"])

    def _audio_stopped(self, data: Mapping[str, Any]) -> RealtimeSessionEvent:
        return shown.RealtimeAudioStopped(self.info, data["item_id"], data["content_index"])

    def _audio_interrupted(self, data: Mapping[str, Any]) -> RealtimeSessionEvent:
        return shown.RealtimeAudioInterrupted(self.info, data["item_id"], data["content_index"])

    def _transcript_delta(self, data: Mapping[str, Any]) -> RealtimeSessionEvent:
        return shown.RealtimeTranscriptDelta(data["item_id"], data["role"], data["delta"], data["text"], self.info)

    def _tool_progress(self, data: Mapping[str, Any]) -> RealtimeSessionEvent:
        agent, tool = self._agent(data["agent"]), self._tool(data["agent"], data["tool"])
        return shown.RealtimeToolProgress(agent, tool, data["call_id"], data["text"], self.info)

    def _mcp_call(self, data: Mapping[str, Any]) -> RealtimeSessionEvent:
        return shown.RealtimeMcpToolCallCompleted(dict(data["item"]), self.info)

    def _mcp_tools(self, data: Mapping[str, Any]) -> RealtimeSessionEvent:
        return shown.RealtimeMcpToolsChanged(list(data["tools"]), self.info)

    def _input_timeout(self, data: Mapping[str, Any]) -> RealtimeSessionEvent:
        return shown.RealtimeInputAudioTimeoutTriggered(self.info, item_id=data.get("item_id"))

    def _expiring(self, data: Mapping[str, Any]) -> RealtimeSessionEvent:
        return shown.RealtimeSessionExpiring(data["ends_in_ms"], self.info)

    def _input_tripped(self, data: Mapping[str, Any]) -> RealtimeSessionEvent:
        item_id, agent = data.get("item_id") or "", data.get("agent") or self.current.name
        results = [
            InputGuardrailResult(cast("InputGuardrail[Any]", guardrail), finding)
            for guardrail, finding in self._findings(agent, item_id, data["guardrails"], data.get("info") or {})
        ]
        return shown.RealtimeInputGuardrailTripped(results, data["message"], self.info, item_id=item_id or None)

    def _client_error(self, data: Mapping[str, Any]) -> RealtimeSessionEvent:
        return shown.RealtimeError(RealtimeErrorDetails.of(data), self.info)

    # --- what is recorded -----------------------------------------------------------------------------

    def _tool_start(self, data: ToolStart) -> RealtimeSessionEvent:
        agent, tool = self._agent(data.agent), self._tool(data.agent, data.tool)
        self._hooks.tool_start(agent, tool)
        return shown.RealtimeToolStart(
            agent, tool, data.arguments, self.info, call_id=data.call_id, item_id=data.item_id
        )

    def _tool_end(self, data: ToolEnd) -> RealtimeSessionEvent:
        agent, tool = self._agent(data.agent), self._tool(data.agent, data.tool)
        # What the tool returned, where that is what the model was told.
        output = self._tools.outputs.pop(data.call_id, data.output)
        self._hooks.tool_end(agent, tool, output)
        return shown.RealtimeToolEnd(
            agent, tool, data.arguments, output, self.info, call_id=data.call_id, outcome=data.outcome.value,
            duration_ms=max(0, data.ended_ms - data.started_ms), item_id=data.item_id,
        )  # fmt: skip

    def _approval_required(self, data: ToolApprovalRequired) -> RealtimeSessionEvent:
        agent, tool = self._agent(data.agent), self._tool(data.agent, data.tool)
        return shown.RealtimeToolApprovalRequired(agent, tool, data.call_id, data.arguments, self.info)

    def _handoff(self, data: Handoff) -> RealtimeSessionEvent:
        before = self._agent(data.from_agent)
        self.current = self._agent(data.to_agent)
        self._hooks.handoff(before, self.current)
        return shown.RealtimeHandoffEvent(before, self.current, self.info, call_id=data.call_id)

    def _guardrail_tripped(self, data: GuardrailTripped) -> RealtimeSessionEvent:
        agent = self._agent(data.agent)
        results = [
            OutputGuardrailResult(cast("OutputGuardrail[Any]", guardrail), data.message, agent, finding)
            for guardrail, finding in self._findings(data.agent, data.item_id, data.guardrails, data.info)
        ]
        return shown.RealtimeGuardrailTripped(
            results, data.message, self.info, response_id=data.response_id, item_id=data.item_id
        )

    def _reconnecting(self, data: ModelReconnecting) -> RealtimeSessionEvent:
        return shown.RealtimeModelReconnecting(data.cause, data.attempt, self.info)

    def _reconnected(self, data: ModelReconnected) -> RealtimeSessionEvent:
        return shown.RealtimeModelReconnected(data.attempt, self.info)

    _EMITS: ClassVar[Mapping[str, Callable[[Any, Mapping[str, Any]], RealtimeSessionEvent]]] = {
        "agent_start": _agent_start,
        "agent_end": _agent_end,
        "audio_start": _audio_start,
        "audio_end": _audio_end,
        "audio_stopped": _audio_stopped,
        "audio_interrupted": _audio_interrupted,
        "transcript_delta": _transcript_delta,
        "tool_progress": _tool_progress,
        "mcp_tool_call_completed": _mcp_call,
        "mcp_tools_changed": _mcp_tools,
        "input_audio_timeout_triggered": _input_timeout,
        "input_guardrail_tripped": _input_tripped,
        "session_expiring": _expiring,
        "error": _client_error,
    }

    _RECORDS: ClassVar[Mapping[EventType, Callable[[Any, Any], RealtimeSessionEvent]]] = {
        EventType.TOOL_START: _tool_start,
        EventType.TOOL_END: _tool_end,
        EventType.TOOL_APPROVAL_REQUIRED: _approval_required,
        EventType.HANDOFF: _handoff,
        EventType.GUARDRAIL_TRIPPED: _guardrail_tripped,
        EventType.MODEL_RECONNECTING: _reconnecting,
        EventType.MODEL_RECONNECTED: _reconnected,
    }
