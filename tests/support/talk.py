"""Talking to an engine session in tests: its inputs in short form, and what came of them."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from voicebus.contracts.guardrails import GuardrailResult, GuardrailVerdict
from voicebus.contracts.journal import EventType
from voicebus.contracts.tools import Outcome, ToolResult
from voicebus.engine.client_view import OpenAIClientView
from voicebus.engine.config import AgentSpec, Face, GuardrailSpec, HandoffSpec, SessionConfig, ToolSpec
from voicebus.engine.inputs import (
    ClientEvent,
    Input,
    LinkLost,
    LinkOpened,
    ModelAudio,
    ModelEvent,
    SendMessage,
    TimerFired,
    ToolResultArrived,
    VerdictArrived,
)
from voicebus.engine.keeping import Kept
from voicebus.engine.outputs import (
    CancelTimer,
    Emit,
    HoldInput,
    Observe,
    Output,
    Record,
    ReturnInputs,
    SendModel,
    SetTimer,
    ToClient,
)
from voicebus.engine.rehearsing import Rehearsal
from voicebus.engine.session import Session
from voicebus.engine.state import RECONNECT_TIMER, State
from voicebus.engine.view import ClientView

T = TypeVar("T")

VAD: Mapping[str, Any] = {"type": "server_vad", "create_response": True, "interrupt_response": True}


def tool(name: str = "weather", *, timeout_ms: int = 30_000, respond: Any = "when_all_done", **fields: Any) -> ToolSpec:
    return ToolSpec(name, f"Does {name}.", {"type": "object"}, "default", timeout_ms, respond=respond, **fields)


def handoff(agent: str) -> HandoffSpec:
    return HandoffSpec(f"transfer_to_{agent}", "Hands over.", {"type": "object"}, agent)


def agent(
    name: str = "helper",
    *,
    tools: Sequence[ToolSpec] = (),
    handoffs: Sequence[HandoffSpec] = (),
    guardrails: Sequence[GuardrailSpec] = (),
    vad: Mapping[str, Any] | None = VAD,
    transcription: bool = True,
    voice: str = "ash",
    instructions: str | None = "Be brief.",
    **fields: Any,
) -> AgentSpec:
    heard = {"turn_detection": vad, "transcription": {"model": "stt"} if transcription else None}
    session = {"audio": {"input": heard, "output": {"voice": voice}}}
    return AgentSpec(name, instructions, tuple(tools), tuple(handoffs), tuple(guardrails), session, **fields)


_SAID = ("type", "response_id", "item_id", "content_index", "delta")


def said_on(session: Session, item: Input, now: float) -> list[Output] | None:
    """What a session does past its queue about a delta of text, as whoever hears the model asks it first."""
    if not isinstance(item, ModelEvent) or {*_SAID, "output_index"} != item.event.keys() - {"event_id"}:
        return None
    kind, response_id, item_id, content_index, delta = (item.event[key] for key in _SAID)
    if not all(isinstance(each, str) for each in (kind, response_id, item_id, delta)) or type(content_index) is not int:
        return None
    return session.say_on(kind, response_id, item_id, content_index, delta, now)


class Talk:
    """One session, its clock and everything it has put out. `last` are the outputs of the last input."""

    def __init__(
        self,
        agent_: AgentSpec | None = None,
        *,
        face: Face = Face.NATIVE,
        view: ClientView | None = None,
        kept: Kept | None = None,
        rehearsal: Rehearsal | None = None,
        **config: Any,
    ) -> None:
        self.config = SessionConfig("01J0SESSION", face, agent_ or agent(), "gpt-realtime", **config)
        self.now = 100.0
        if face is Face.OPENAI and view is None:
            view = OpenAIClientView(self.config)
        self.session = Session(self.config, now=self.now, view=view, kept=kept, rehearsal=rehearsal)
        self.inputs: list[tuple[Input, float]] = []
        self.kept: list[Input] = []
        self.last: list[Output] = self.session.start()
        self.all: list[Output] = []
        self._timers: dict[str, float] = {}
        self._keep()

    def put(self, item: Input, *, after: float = 0.0) -> list[Output]:
        self.now += after
        self.inputs.append((item, self.now))
        if isinstance(item, TimerFired):
            self._timers.pop(item.key, None)
        self.last = self._handle(item)
        self._keep()
        return self.last

    def _handle(self, item: Input) -> list[Output]:
        """As a driver does: what is held is kept, and brought again when it is asked for."""
        outputs: list[Output] = []
        coming = deque([item])
        while coming:
            item = coming.popleft()
            made = said_on(self.session, item, self.now)
            if made is None:
                made = self.session.handle(item, self.now)
            outputs += made
            self.handled(item, made)
            for output in made:
                if isinstance(output, HoldInput):
                    self.kept.append(item)
                elif isinstance(output, ReturnInputs):
                    coming.extendleft(reversed(self.kept[: output.count]))
                    del self.kept[: output.count]
        return outputs

    def handled(self, item: Input, outputs: list[Output]) -> None:
        """Called for each input, also one that is brought again, with what came of it."""

    def _keep(self) -> None:
        self.all.extend(self.last)
        for output in self.last:
            if isinstance(output, SetTimer):
                self._timers[output.key] = output.at
            elif isinstance(output, CancelTimer):
                self._timers.pop(output.key, None)

    # --- the model ------------------------------------------------------------------------------------

    def model(self, type_: str, *, after: float = 0.0, **fields: Any) -> list[Output]:
        return self.put(ModelEvent({"type": type_, **fields}), after=after)

    def live(self, **session: Any) -> "Talk":
        """Connected and configured; the model begins the `session` so."""
        self.model("session.created", session={"id": "sess_1", **session})
        for update in self.sent("session.update"):
            self.model("session.updated", session=update["session"])
        return self

    def begins(self, response: str = "resp_1", *, unasked: bool = False, **fields: Any) -> list[Output]:
        """`response.created`, as the answer to the last `response.create` unless it is `unasked`."""
        metadata = None if unasked else self.sent("response.create")[-1]["response"].get("metadata")
        payload = {"id": response, "status": "in_progress", "conversation_id": "conv_1", "metadata": metadata, **fields}
        return self.model("response.created", response=payload)

    def ends(self, response: str = "resp_1", status: str = "completed", **fields: Any) -> list[Output]:
        return self.model("response.done", response={"id": response, "status": status, **fields})

    def item_begins(self, item: str = "item_a", response: str = "resp_1", previous: str | None = None) -> None:
        wire = {"id": item, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        self.model("response.output_item.added", response_id=response, output_index=0, item=wire)
        self.model("conversation.item.added", item=wire, previous_item_id=previous)

    def says(self, text: str, item: str = "item_a", response: str = "resp_1", *, spoken: bool = True) -> list[Output]:
        kind = "response.output_audio_transcript.delta" if spoken else "response.output_text.delta"
        return self.model(kind, response_id=response, item_id=item, output_index=0, content_index=0, delta=text)

    def said(self, text: str, item: str = "item_a", response: str = "resp_1", *, spoken: bool = True) -> list[Output]:
        where: dict[str, Any] = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        if spoken:
            return self.model("response.output_audio_transcript.done", transcript=text, **where)
        return self.model("response.output_text.done", text=text, **where)

    def sounds(self, ms: float, item: str = "item_a", response: str = "resp_1", *, after: float = 0.0) -> list[Output]:
        """Audio of `ms` at 48 bytes each."""
        return self.put(ModelAudio(response, item, 0, 0, round(ms * 48)), after=after)

    def item_ends(
        self,
        text: str,
        item: str = "item_a",
        response: str = "resp_1",
        *,
        status: str = "completed",
        spoken: bool = True,
    ) -> list[Output]:
        part = {"type": "output_audio", "transcript": text} if spoken else {"type": "output_text", "text": text}
        wire = {"id": item, "type": "message", "role": "assistant", "status": status, "content": [part]}
        self.model("conversation.item.done", item=wire)
        return self.model("response.output_item.done", response_id=response, output_index=0, item=wire)

    def speaks(self, text: str, ms: float, item: str = "item_a", response: str = "resp_1") -> None:
        """A whole spoken answer, faster than it can be heard; the response is not done yet."""
        self.item_begins(item, response)
        self.says(text, item, response)
        self.sounds(ms, item, response)
        self.said(text, item, response)
        self.item_ends(text, item, response)

    def calls(
        self,
        name: str = "weather",
        call: str = "call_1",
        arguments: str = "{}",
        response: str = "resp_1",
        *,
        item: str | None = None,
        status: str = "completed",
    ) -> list[Output]:
        wire = {
            "id": item or f"item_{call}",
            "type": "function_call",
            "name": name,
            "call_id": call,
            "arguments": arguments,
            "status": status,
        }
        begun = {**wire, "arguments": "", "status": "in_progress"}
        self.model("response.output_item.added", response_id=response, output_index=1, item=begun)
        return self.model("response.output_item.done", response_id=response, output_index=1, item=wire)

    def fails(self, code: str | None, message: str = "No.", event_id: str | None = None, **fields: Any) -> list[Output]:
        error = {"type": "invalid_request_error", "code": code, "message": message, "event_id": event_id, **fields}
        return self.model("error", error=error)

    def user_item(self, item: str, content: Sequence[Mapping[str, Any]], previous: str | None = None) -> None:
        wire = {"id": item, "type": "message", "role": "user", "status": "completed", "content": list(content)}
        self.model("conversation.item.added", item=wire, previous_item_id=previous)
        self.model("conversation.item.done", item=wire, previous_item_id=previous)

    def user_speaks(self, item: str = "item_u", *, seconds: float = 1.0, previous: str | None = None) -> None:
        """A turn under VAD, up to its item; without the transcript."""
        self.model("input_audio_buffer.speech_started", item_id=item, audio_start_ms=0)
        self.model("input_audio_buffer.speech_stopped", item_id=item, audio_end_ms=1000, after=seconds)
        self.model("input_audio_buffer.committed", item_id=item, previous_item_id=previous)
        self.user_item(item, [{"type": "input_audio", "transcript": None}], previous)

    def transcript(self, text: str, item: str = "item_u") -> list[Output]:
        kind = "conversation.item.input_audio_transcription.completed"
        return self.model(kind, item_id=item, content_index=0, transcript=text)

    def loses_the_link(self, **fields: Any) -> list[Output]:
        return self.put(LinkLost("reset", **fields))

    def dials(self) -> list[Output]:
        """The wait is over and the next socket is open: what it is told."""
        self.timer(RECONNECT_TIMER)
        return self.put(LinkOpened())

    def reconnects(self) -> list[Output]:
        """The next socket confirms all that it is told; returns what follows."""
        told = self.dials()
        self.model("session.created", session={"id": "sess_2"})
        return self.confirms(told)

    def confirms(self, told: Sequence[Output]) -> list[Output]:
        """A socket takes what it was told."""
        for event in [output.event for output in self.of(SendModel, told)]:
            if event["type"] == "session.update":
                self.model("session.updated", session=event["session"])
            elif event["type"] == "conversation.item.create":
                item = {"status": "completed", **event["item"]}
                for kind in ("conversation.item.added", "conversation.item.done"):
                    self.model(kind, item=item, previous_item_id=event.get("previous_item_id"))
        return self.last

    def told_again(self, told: Sequence[Output]) -> list[tuple[str, str]]:
        """The items that a socket is told: of a message its role and text, of the others their type and call."""
        lines = []
        for event in self.sent("conversation.item.create", told):
            item = event["item"]
            text = " ".join(part["text"] for part in item.get("content", ()))
            lines.append((item.get("role") or item["type"], text or item.get("call_id", "")))
        return lines

    # --- everybody else -------------------------------------------------------------------------------

    def asks(self, text: str = "Hello") -> list[Output]:
        """A text message of the user, answered by a response whose `response.created` has not come."""
        return self.put(SendMessage([{"type": "input_text", "text": text}]))

    def asked(self, text: str = "Hello", response: str = "resp_1") -> "Talk":
        """Live, and answering a text message with `response`."""
        if self.session.state is State.CONFIGURING:
            self.live()
        self.asks(text)
        self.begins(response)
        return self

    def client(self, type_: str, **fields: Any) -> list[Output]:
        return self.put(ClientEvent({"type": type_, **fields}))

    def result(
        self,
        output: str = "sunny",
        call: str = "call_1",
        outcome: Outcome = Outcome.OK,
        *,
        after: float = 0.0,
        **fields: Any,
    ) -> list[Output]:
        result = ToolResult(call_id=call, outcome=outcome, output=output, worker="worker-1", duration_ms=5, **fields)
        return self.put(ToolResultArrived(result), after=after)

    def verdict(self, check: str, *results: GuardrailResult, pending: Sequence[str] = ()) -> list[Output]:
        verdict = GuardrailVerdict(
            check_id=check, response_id="resp_1", results=list(results), worker="worker-1", duration_ms=3,
            pending=list(pending),
        )  # fmt: skip
        return self.put(VerdictArrived(verdict))

    def timer(self, key: str) -> list[Output]:
        """Let the timer fire at its time."""
        self.now = max(self.now, self.timers()[key])
        return self.put(TimerFired(key))

    # --- what came of it ------------------------------------------------------------------------------

    def of(self, kind: type[T], outputs: Sequence[Output] | None = None) -> list[T]:
        return [output for output in (self.all if outputs is None else outputs) if isinstance(output, kind)]

    def sent(self, type_: str, outputs: Sequence[Output] | None = None) -> list[Mapping[str, Any]]:
        """Events to the model."""
        return [output.event for output in self.of(SendModel, outputs) if output.event["type"] == type_]

    def sent_types(self, outputs: Sequence[Output] | None = None) -> list[str]:
        return [output.event["type"] for output in self.of(SendModel, self.last if outputs is None else outputs)]

    def told(self, outputs: Sequence[Output] | None = None) -> list[tuple[str, str]]:
        """What the model was told of its calls: call id and output."""
        items = [event["item"] for event in self.sent("conversation.item.create", outputs)]
        return [(item["call_id"], item["output"]) for item in items if item["type"] == "function_call_output"]

    def shown(self, type_: str, outputs: Sequence[Output] | None = None) -> list[Mapping[str, Any]]:
        """Events to a client of the OpenAI face."""
        return [output.event for output in self.of(ToClient, outputs) if output.event["type"] == type_]

    def records(self, type_: EventType, outputs: Sequence[Output] | None = None) -> list[Any]:
        return [output.data for output in self.of(Record, outputs) if output.type is type_]

    def emitted(self, type_: str, outputs: Sequence[Output] | None = None) -> list[Mapping[str, Any]]:
        return [output.data for output in self.of(Emit, outputs) if output.type == type_]

    def observed(self, name: str) -> list[Observe]:
        return [output for output in self.of(Observe) if output.name == name]

    def timers(self) -> dict[str, float]:
        """Timers that are set now."""
        return dict(self._timers)

    def lines(self) -> list[tuple[str, str, str | None, bool]]:
        """The record so far: role, text, heard text, truncated."""
        return [
            (line.role, line.text, line.heard_text, line.truncated) for line in self.records(EventType.ITEM_RECORDED)
        ]

    def errors(self) -> list[str]:
        return [error.code for error in self.records(EventType.ERROR)]
