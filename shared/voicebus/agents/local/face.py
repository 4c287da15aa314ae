"""What a session in process shows: the engine's events and records as the program's events, names as objects.

Order is the point (parity 2.1, 2.2, 137): what the model layer derives from a server event is shown as a raw event
directly before the session's event that comes of it, what came of nothing at the end.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol, cast

from pydantic import ValidationError

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
from voicebus.agents.items import RealtimeItem, RealtimeToolCallItem, read_item
from voicebus.agents.local.broadcast import Broadcast
from voicebus.agents.local.work import LocalChecks, LocalTools, Names
from voicebus.agents.models import events as model
from voicebus.agents.models.events import RealtimeModelEvent
from voicebus.agents.models.translate import audio_event
from voicebus.agents.tools.kinds import Tool
from voicebus.agents.tools.remote import RemoteTool
from voicebus.contracts.envelope import Message
from voicebus.contracts.journal import (
    ErrorRecorded,
    EventType,
    GuardrailTripped,
    Handoff,
    ToolApprovalRequired,
    ToolEnd,
    ToolStart,
)
from voicebus.engine.outputs import ForwardAudio
from voicebus.errors import VoicebusError
from voicebus.runtime.frames import AudioDelta
from voicebus.telemetry.logging import get_logger

log = get_logger(__name__)

_ITEM_CHANGES: Final = frozenset(
    {
        model.RealtimeModelItemUpdatedEvent,
        model.RealtimeModelItemDeletedEvent,
        model.RealtimeModelInputAudioTranscriptionCompletedEvent,
    }
)

# Which event of the model layer a session's event comes of.
_CAUSES: Final[Mapping[str, frozenset[type]]] = {
    "agent_start": frozenset({model.RealtimeModelTurnStartedEvent}),
    "agent_end": frozenset({model.RealtimeModelTurnEndedEvent}),
    "history_added": _ITEM_CHANGES,
    "history_updated": _ITEM_CHANGES,
    "tool_start": frozenset({model.RealtimeModelToolCallEvent}),
    "tool_approval_required": frozenset({model.RealtimeModelToolCallEvent}),
    "audio_start": frozenset({model.RealtimeModelAudioEvent}),
    "audio": frozenset({model.RealtimeModelAudioEvent}),
    "audio_end": frozenset({model.RealtimeModelAudioDoneEvent}),
    "transcript_delta": frozenset({model.RealtimeModelTranscriptDeltaEvent, model.RealtimeModelOutputTextDeltaEvent}),
    "error": frozenset({model.RealtimeModelErrorEvent}),
    "input_audio_timeout_triggered": frozenset({model.RealtimeModelInputAudioTimeoutTriggeredEvent}),
}

# A server that closes with one of these has ended the conversation in order.
CLEAN_CLOSE: Final = frozenset({1000, 1001, 1005})


class ModelListeners(Protocol):
    """Who listens to the model beside the session."""

    @property
    def has_listeners(self) -> bool: ...

    def publish(self, event: RealtimeModelEvent) -> None: ...


class EventFace:
    """Implements `ClientFace` for a program: makes events, and gives them to `broadcast`.

    `listeners` hear what the model layer derives; None where the model tells them itself. `current` is the agent in
    charge. `snapshot` of an agent names what its tools are; the owner says so with `took_over`.
    """

    def __init__(
        self,
        broadcast: Broadcast,
        names: Names,
        info: RealtimeEventInfo,
        hooks: HookRunner,
        tools: LocalTools,
        checks: LocalChecks,
        *,
        current: RealtimeAgent[Any],
        snapshot: int,
        listeners: ModelListeners | None,
    ) -> None:
        self._broadcast = broadcast
        self._names = names
        self._info = info
        self._hooks = hooks
        self._tools = tools
        self._checks = checks
        self._listeners = listeners
        self._snapshots = {current.name: snapshot}
        self._seq = 0
        self._size = 0
        self._expected: list[RealtimeModelEvent] = []
        self._error: Any = None
        self._answering: str | None = None
        self._failure: Exception | None = None
        self._left_in_order = False
        self._items: dict[str, tuple[Mapping[str, Any], RealtimeItem | None]] = {}
        self.current = current
        self.model_session_id: str | None = None
        self._first: list[RealtimeSessionEvent] | None = None

    # --- from the model's side ------------------------------------------------------------------------

    def begin(self, size: int) -> None:
        """Something came from the model, as so many bytes; events made of it weigh that much."""
        self._size = size

    def raw(self, event: RealtimeModelEvent) -> None:
        """Show what the model layer says, now."""
        self._put(shown.RealtimeRawModelEvent(event, self._info, seq=self._seq))
        if self._listeners is not None and self._listeners.has_listeners:
            self._listeners.publish(event)

    def expect(self, events: Sequence[RealtimeModelEvent]) -> None:
        """These are to be shown each before what comes of it, or at the latest with `settle`."""
        self._expected.extend(events)

    def failed_with(self, error: Any) -> None:
        """The error that the model reported, as the next `error` event is to show it."""
        self._error = error

    def answers(self, call_id: str) -> None:
        """What follows may answer this call, which is then shown as the model layer's item (parity 2.2)."""
        self._answering = call_id

    def settle(self) -> None:
        """Everything that came of the last input has been shown."""
        if self._expected:
            for event in self._expected:
                self.raw(event)
            self._expected.clear()
        self._error = self._answering = None
        self._size = 0

    def took_over(self, agent: str, snapshot: int) -> None:
        """`agent` is now known as of `snapshot`."""
        self._snapshots[agent] = snapshot

    def lost(self, failure: Exception | None) -> None:
        """The model's connection is gone: iteration will end with `failure`, or in order."""
        self._failure = failure
        self._left_in_order = failure is None

    def hold_first(self) -> None:
        """The session's first event waits for `release_first`: for what a model says while it connects (parity 2.1)."""
        self._first = []

    def release_first(self) -> None:
        first, self._first = self._first, None
        for event in first or ():
            self._put(event)

    # --- ClientFace -----------------------------------------------------------------------------------

    def ready(self) -> None:
        """Programs may speak from the start: what they say is in order with the settings."""

    def record(self, seq: int, kind: EventType, at_ms: int, data: Message) -> None:
        self._seq = seq
        show = self._RECORDS.get(kind)
        if show is not None:
            self._release(kind.value)
            show(self, data)

    def emit(self, kind: str, seq: int, at_ms: int, data: Mapping[str, Any]) -> None:
        self._seq = seq
        show = self._EMITS.get(kind)
        if show is None:
            log.debug("an event that programs are not shown", event_type=kind)
            return
        if self._expected:
            self._release(kind)
        show(self, data)

    def server_event(self, event: Mapping[str, Any]) -> None:
        """Of the OpenAI face."""

    def audio(self, where: ForwardAudio, delta: AudioDelta, seq: int) -> None:
        self._seq = seq
        if self._expected:
            self._release("audio")
        self._put(shown.RealtimeAudio(audio_event(delta), where.item_id, where.content_index, self._info, seq=seq))

    def close(self, code: int, reason: str) -> None:
        self.settle()
        if reason == "error" and self._failure is None:
            self._failure = VoicebusError("The session failed; its last `error` event says of what.")
        self._broadcast.end(self._failure)

    # --- events ---------------------------------------------------------------------------------------

    def dropped(self, count: int) -> RealtimeSessionEvent:
        """What a consumer is told that was too slow."""
        message = f"{count} events were dropped, since nobody read them; raw events first, then audio."
        details = RealtimeErrorDetails(message, "events_dropped", "session_error", count=count)
        return shown.RealtimeError(details, self._info, seq=self._seq)

    def trouble(self, details: RealtimeErrorDetails) -> None:
        """Show an error that is not the engine's to record."""
        self._put(shown.RealtimeError(details, self._info, seq=self._seq))

    def items(self, history: Sequence[Mapping[str, Any]]) -> list[RealtimeItem]:
        """Items as programs see them; each is made once, as the engine replaces those that change."""
        known, self._items = self._items, {}
        items = []
        for item in history:
            made = known.get(item["item_id"])
            if made is None or made[0] is not item:
                made = (item, _read(item))
            self._items[item["item_id"]] = made
            if made[1] is not None:
                items.append(made[1])
        return items

    def _put(self, event: RealtimeSessionEvent) -> None:
        self._broadcast.put(event, self._size)

    def _release(self, kind: str) -> None:
        """Show what is expected, up to the cause of an event of `kind`."""
        causes = _CAUSES.get(kind)
        if causes is None:
            return
        for index, event in enumerate(self._expected):
            if type(event) in causes:
                due = self._expected[: index + 1]
                del self._expected[: index + 1]
                for one in due:
                    self.raw(one)
                return

    def _agent(self, name: str) -> RealtimeAgent[Any]:
        return self._names.agent(name)

    def _tool(self, agent: str, name: str) -> Tool:
        # By its name alone where the agent's tools have changed meanwhile.
        return self._names.tool(self._snapshots.get(agent, 0), name) or RemoteTool(name)

    # --- what is not recorded -------------------------------------------------------------------------

    def _agent_start(self, data: Mapping[str, Any]) -> None:
        agent = self._agent(data["agent"])
        self._put(shown.RealtimeAgentStartEvent(agent, self._info, response_id=data.get("response_id"), seq=self._seq))
        self._hooks.agent_start(agent)

    def _agent_end(self, data: Mapping[str, Any]) -> None:
        agent, output = self._agent(data["agent"]), data.get("output") or ""
        self._put(
            shown.RealtimeAgentEndEvent(
                agent, self._info, response_id=data.get("response_id"), output=output, seq=self._seq
            )
        )
        self._hooks.agent_end(agent, output)

    def _history_added(self, data: Mapping[str, Any]) -> None:
        item = data["item"]
        made = _read(item)
        self._items[item["item_id"]] = (item, made)
        if made is not None:
            self._put(shown.RealtimeHistoryAdded(made, self._info, seq=self._seq))

    def _history_updated(self, data: Mapping[str, Any]) -> None:
        history = self.items(data["history"])
        if self._answering is not None:
            self._show_answered(history)
        event = shown.RealtimeHistoryUpdated(history, self._info, seq=self._seq)
        if self._first is not None and not self._first:
            self._first.append(event)
        else:
            self._put(event)

    def _show_answered(self, history: Sequence[RealtimeItem]) -> None:
        for item in reversed(history):
            if isinstance(item, RealtimeToolCallItem) and item.call_id == self._answering:
                if item.output is not None:
                    self.raw(model.RealtimeModelItemUpdatedEvent(item))
                    self._answering = None
                return

    def _audio_start(self, data: Mapping[str, Any]) -> None:
        self._put(shown.RealtimeAudioStart(self._info, data["item_id"], data["content_index"], seq=self._seq))

    def _audio_end(self, data: Mapping[str, Any]) -> None:
        self._put(shown.RealtimeAudioEnd(self._info, data["item_id"], data["content_index"], seq=self._seq))

    def _audio_stopped(self, data: Mapping[str, Any]) -> None:
        self._put(shown.RealtimeAudioStopped(self._info, data["item_id"], data["content_index"], seq=self._seq))

    def _audio_interrupted(self, data: Mapping[str, Any]) -> None:
        item_id, index = data["item_id"], data["content_index"]
        if self._listeners is not None:
            event = model.RealtimeModelAudioInterruptedEvent(item_id, index)
            self._put(shown.RealtimeRawModelEvent(event, self._info, seq=self._seq))
            # Told also where nobody listens: it resets what the program has played.
            self._listeners.publish(event)
        self._put(shown.RealtimeAudioInterrupted(self._info, item_id, index, seq=self._seq))

    def _transcript_delta(self, data: Mapping[str, Any]) -> None:
        self._put(
            shown.RealtimeTranscriptDelta(
                data["item_id"], data["role"], data["delta"], data["text"], self._info, seq=self._seq
            )
        )

    def _tool_progress(self, data: Mapping[str, Any]) -> None:
        tool = self._tool(self.current.name, data["tool"])
        self._put(
            shown.RealtimeToolProgress(self.current, tool, data["call_id"], data["text"], self._info, seq=self._seq)
        )

    def _mcp_call(self, data: Mapping[str, Any]) -> None:
        self._put(shown.RealtimeMcpToolCallCompleted(dict(data["item"]), self._info, seq=self._seq))

    def _mcp_tools(self, data: Mapping[str, Any]) -> None:
        self._put(shown.RealtimeMcpToolsChanged(list(data["tools"]), self._info, seq=self._seq))

    def _input_timeout(self, data: Mapping[str, Any]) -> None:
        self._put(shown.RealtimeInputAudioTimeoutTriggered(self._info, item_id=data.get("item_id"), seq=self._seq))

    def _input_tripped(self, data: Mapping[str, Any]) -> None:
        item_id, agent = data.get("item_id") or "", data.get("agent") or self.current.name
        results = [
            InputGuardrailResult(cast("InputGuardrail[Any]", guardrail), finding)
            for guardrail, finding in self._findings(agent, item_id, data["guardrails"], data.get("info") or {})
        ]
        self._put(
            shown.RealtimeInputGuardrailTripped(
                results, data["message"], self._info, item_id=item_id or None, seq=self._seq
            )
        )

    def _client_error(self, data: Mapping[str, Any]) -> None:
        self.trouble(RealtimeErrorDetails.of(data))

    # --- what is recorded -----------------------------------------------------------------------------

    def _tool_start(self, data: ToolStart) -> None:
        agent, tool = self._agent(data.agent), self._tool(data.agent, data.tool)
        self._put(shown.RealtimeToolStart(agent, tool, data.arguments, self._info, call_id=data.call_id, seq=self._seq))
        self._hooks.tool_start(agent, tool)

    def _tool_end(self, data: ToolEnd) -> None:
        agent, tool = self._agent(data.agent), self._tool(data.agent, data.tool)
        # What the tool returned, where that is what the model was told.
        output = self._tools.outputs.pop(data.call_id, data.output)
        self._put(
            shown.RealtimeToolEnd(
                agent, tool, data.arguments, output, self._info, call_id=data.call_id, outcome=data.outcome.value,
                duration_ms=max(0, data.ended_ms - data.started_ms), seq=self._seq,
            )
        )  # fmt: skip
        self._hooks.tool_end(agent, tool, output)

    def _approval_required(self, data: ToolApprovalRequired) -> None:
        self._put(
            shown.RealtimeToolApprovalRequired(
                self._agent(data.agent), self._tool(data.agent, data.tool), data.call_id, data.arguments, self._info,
                seq=self._seq,
            )
        )  # fmt: skip

    def _handoff(self, data: Handoff) -> None:
        before, self.current = self._agent(data.from_agent), self._agent(data.to_agent)
        self._put(shown.RealtimeHandoffEvent(before, self.current, self._info, call_id=data.call_id, seq=self._seq))
        self._hooks.handoff(before, self.current)

    def _guardrail_tripped(self, data: GuardrailTripped) -> None:
        agent = self._agent(data.agent)
        results = [
            OutputGuardrailResult(cast("OutputGuardrail[Any]", guardrail), data.message, agent, finding)
            for guardrail, finding in self._findings(data.agent, data.item_id, data.guardrails, data.info)
        ]
        self._put(
            shown.RealtimeGuardrailTripped(
                results, data.message, self._info, response_id=data.response_id, item_id=data.item_id, seq=self._seq
            )
        )

    def _findings(
        self, agent: str, item_id: str, names: Sequence[str], info: Mapping[str, Any]
    ) -> list[tuple[OutputGuardrail[Any] | InputGuardrail[Any], GuardrailFunctionOutput]]:
        findings = []
        for name in names:
            guardrail = self._names.guardrail(self._snapshots.get(agent, 0), name)
            if guardrail is not None:
                # One that tripped by its policy has found nothing itself.
                found = self._checks.finding(item_id, name) or GuardrailFunctionOutput(info.get(name), True)
                findings.append((guardrail, found))
        return findings

    def _error_recorded(self, data: ErrorRecorded) -> None:
        if self._left_in_order and data.code == "model_lost":
            return  # a server that closes in order has done nothing wrong (parity 125)
        error, self._error = self._error, None
        if error is None:
            error = RealtimeErrorDetails(data.message, data.code, f"{data.source}_error")
        elif isinstance(error, Mapping):
            error = RealtimeErrorDetails.of(error)
        self._put(shown.RealtimeError(error, self._info, seq=self._seq))

    _EMITS: ClassVar[Mapping[str, Callable[[Any, Mapping[str, Any]], None]]] = {
        "agent_start": _agent_start,
        "agent_end": _agent_end,
        "history_added": _history_added,
        "history_updated": _history_updated,
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
        "error": _client_error,
    }

    _RECORDS: ClassVar[Mapping[EventType, Callable[[Any, Any], None]]] = {
        EventType.TOOL_START: _tool_start,
        EventType.TOOL_END: _tool_end,
        EventType.TOOL_APPROVAL_REQUIRED: _approval_required,
        EventType.HANDOFF: _handoff,
        EventType.GUARDRAIL_TRIPPED: _guardrail_tripped,
        EventType.ERROR: _error_recorded,
    }


def read_items(history: Sequence[Mapping[str, Any]]) -> list[RealtimeItem]:
    """Items as programs see them; those without such a form are left out."""
    return [made for item in history if (made := _read(item)) is not None]


def _read(item: Mapping[str, Any]) -> RealtimeItem | None:
    """The item, or None where it has no form that programs know (parity 2.32: that ends nothing)."""
    try:
        return read_item(item)
    except ValidationError as error:
        log.debug("an item without a form", item_type=item.get("type"), errors=error.error_count())
        return None
