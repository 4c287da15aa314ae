"""Between the engine and a `RealtimeModel` of the program's own, which speaks in events (transport EVENTS).

One way, the model's events become the server events that the engine knows. The other way, what the engine sends in one
step is folded into the model's send events, which a task sends in order.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Protocol

from voicebus.agents.context import RunContextWrapper
from voicebus.agents.functions import answer_of, presentable
from voicebus.agents.local.carried import CarriedAudio, CarriedEvent, raw_event
from voicebus.agents.local.face import EventFace
from voicebus.agents.local.folding import Step, fold
from voicebus.agents.local.sending import Job, ModelSends
from voicebus.agents.local.showing import Showing
from voicebus.agents.model_settings import RealtimeSessionModelSettings
from voicebus.agents.models import events as model_events
from voicebus.agents.models.events import RealtimeModelEvent, RealtimeModelToolCallEvent
from voicebus.agents.models.kinds import kind_of
from voicebus.agents.models.model import RealtimeModel, RealtimeModelConfig, RealtimeModelListener
from voicebus.agents.models.sends import (
    RealtimeModelSendEvent,
    RealtimeModelSendToolOutput,
    RealtimeModelSendUserInput,
    RealtimeModelUserInput,
)
from voicebus.agents.models.vetting import complaint
from voicebus.agents.usage import Usage
from voicebus.engine.config import AgentSpec
from voicebus.engine.guarding import CHECK_TIMER
from voicebus.engine.inputs import (
    AgentResolved,
    AudioInterrupted,
    Input,
    LinkLost,
    ModelAudio,
    ModelEvent,
    TimerFired,
    Trouble,
    UpdateAgent,
    VerdictArrived,
)
from voicebus.engine.outputs import ForwardAudio, StopModel
from voicebus.ports import ModelListener
from voicebus.runtime.driver import SessionDriver
from voicebus.runtime.frames import AudioDelta, TextDelta
from voicebus.runtime.jobs import CLEAN_UP_S
from voicebus.telemetry.logging import get_logger, raised

log: Final = get_logger(__name__)

# Calls whose events are remembered, and responses' items; the oldest go.
_REMEMBERED: Final = 1_000

_NORMAL: Final = 1000

# May tell anything, in any form.
_OPAQUE: Final = (model_events.RealtimeModelRawServerEvent, model_events.RealtimeModelOtherEvent)


class Settings(Protocol):
    """The author's settings, by snapshot."""

    def settings(self, snapshot: int) -> RealtimeSessionModelSettings: ...


class ModelBridge:
    """Implements `ModelConnector`, `ModelLink`, `StoppableLink` and `ModelTap` for one conversation with `model`."""

    def __init__(
        self,
        model: RealtimeModel,
        author: Settings,
        face: EventFace,
        showing: Showing,
        context: RunContextWrapper[Any],
        *,
        agent: AgentSpec,
        inline_tools: bool,
    ) -> None:
        self._model = model
        self._author = author
        self._face = face
        self._showing = showing
        self._context = context
        self._inline_tools = inline_tools
        self._snapshot = agent.snapshot
        # What cannot be judged is not shown once an agent of the session has a guardrail that holds.
        self._withholds = agent.holds
        self._driver: SessionDriver | None = None
        self._listener: RealtimeModelListener | None = None
        # What the engine has sent in this step, and on whose behalf.
        self._step: list[Mapping[str, Any] | StopModel] = []
        self._asked: list[Job] | None = None
        self._user_input: RealtimeModelUserInput | None = None
        self._judging = False
        self._sends = ModelSends(model, self._not_sent)
        self._calls: OrderedDict[str, RealtimeModelToolCallEvent] = OrderedDict()
        self._unsent: dict[str, RealtimeModelSendToolOutput] = {}
        self._response_of: OrderedDict[str, str] = OrderedDict()
        self._turns = 0
        self._usage: dict[str, Any] | None = None

    # --- its life -------------------------------------------------------------------------------------

    async def open(self, driver: SessionDriver, options: RealtimeModelConfig, listener: RealtimeModelListener) -> None:
        """Start the engine and connect the model; what the model says meanwhile comes before the first event.

        Where the model waits for its calls, those that it made meanwhile are answered when this returns.

        Raises:
            Exception: what the model's `connect` raised.
        """
        self._driver, self._listener = driver, listener
        await driver.dial(self)
        self._face.hold_first()
        driver.start()
        self._model.add_listener(listener)
        settings = self._author.settings(self._snapshot)
        await answer_of("connect", self._model.connect, {**options, "initial_model_settings": settings})
        self._face.release_first()
        self._sends.start(driver.session)
        if self._inline_tools:
            await self._sends.outputs_taken()

    async def aclose(self) -> None:
        """Send nothing more and close the model.

        Raises:
            Exception: what the model's `close` raised.
        """
        await self._sends.aclose()
        if self._listener is not None:
            self._model.remove_listener(self._listener)
        async with asyncio.timeout(CLEAN_UP_S):
            await answer_of("close", self._model.close)

    async def connect(self, listener: ModelListener, *, model: str) -> "ModelBridge":
        """As the driver's connector: the link is the bridge itself."""
        return self

    async def close(self) -> None:
        """As the driver's link: the model is closed by `aclose`, whose failure is the program's to know."""

    # --- what the session sends -----------------------------------------------------------------------

    async def ask(self, item: Input, *, user_input: RealtimeModelUserInput | None = None) -> None:
        """Bring an input of the program's, and wait until the model has taken what it comes to.

        `user_input` is the message as the program gave it.

        Raises:
            Exception: what the model raised.
        """
        if self._driver is None:
            return
        self._user_input = user_input
        if self._sends.runs_here():  # the model's own word, said while it is being told something
            self._driver.feed(item)
            self._user_input = None
            return
        self._asked = []
        try:
            self._driver.feed(item)
        finally:
            sent, self._asked, self._user_input = self._asked, None, None
        await self._sends.taken(sent)

    async def tell(self, event: RealtimeModelSendEvent) -> None:
        """Send an event of the program's in its turn, past the engine. Raises as `ask`."""
        if self._sends.runs_here():
            self._sends.put(event)
        else:
            await self._sends.taken([self._sends.awaited(event)])

    def send(self, event: Mapping[str, Any]) -> None:
        self._step.append(event)

    def send_frame(self, frame: bytes) -> None:
        """Audio goes to the model as an event."""

    def stop(self, stop: StopModel) -> None:
        self._step.append(stop)

    # --- ModelTap -------------------------------------------------------------------------------------

    def heard(self, item: Input, delta: AudioDelta | None, size: int) -> None:
        raw = raw_event(item, delta)
        if raw is not None:
            self._face.begin(size)
            self._face.raw(raw)
        if isinstance(item, AgentResolved | UpdateAgent):
            self._snapshot = item.agent.snapshot
            self._withholds = self._withholds or item.agent.holds
            self._showing.took_over(item.agent.name, item.agent.snapshot)
        self._judging = isinstance(item, VerdictArrived) or (
            isinstance(item, TimerFired) and item.key.startswith(CHECK_TIMER)
        )

    def sounded(self, where: ForwardAudio, delta: AudioDelta, size: int, seq: int) -> bool:
        return False  # a step of its own is told to the model

    def said(self, delta: TextDelta, text: str, size: int, seq: int) -> bool:
        return False  # a model that speaks in events sends no frames

    def settled(self) -> None:
        if self._step:
            step, self._step = self._step, []
            events = fold(Step(step, self._user_input, self._calls.get), lambda: self._author.settings(self._snapshot))
            for event in events:
                self._put(event)
        self._face.settle()

    def _put(self, event: RealtimeModelSendEvent) -> None:
        if self._asked is not None:
            self._asked.append(self._sends.awaited(event))
        elif self._judging and isinstance(event, RealtimeModelSendUserInput):
            # The model is told off only as long as nothing newer is being said (parity 111).
            turns = self._turns
            self._sends.put(event, lambda: self._turns == turns)
        else:
            self._sends.put(event)

    def _not_sent(self, event: RealtimeModelSendEvent, error: Exception) -> None:
        error = presentable(error)
        log.warning("the model did not take an event", send=type(event).__name__, **raised(error))
        what = type(event).__name__
        if isinstance(event, RealtimeModelSendToolOutput):
            # The call was made: should the model ask for it again, it gets the same output (parity 2.12).
            self._unsent[event.tool_call.call_id] = event
            what = f"the output of call {event.tool_call.call_id}; the cached output will be retried"
        self._feed(Trouble("send_failed", f"The model did not take {what}: {type(error).__name__}: {error}", "model"))

    # --- what the model says --------------------------------------------------------------------------

    async def on_event(self, event: RealtimeModelEvent) -> None:
        """One event of the model: shown as it is, then what follows from it (both when it may be known)."""
        driver = self._driver
        if driver is None or not driver.live:
            return
        wrong = complaint(event)
        if wrong is not None:
            log.warning("an event of the model cannot be", complaint=wrong)
            self._feed(Trouble("invalid_model_event", f"The model said what cannot be: {wrong}", "model"))
            return
        carry = self._CARRIES.get(kind_of(event, self._CARRIES))
        if carry is not None:
            carry(self, event)
        else:
            handler = self._HANDLERS.get(kind_of(event, self._HANDLERS))
            if handler is not None or not (self._withholds and isinstance(event, _OPAQUE)):
                self._face.begin(0)
                self._face.raw(event)
            if handler is not None:
                handler(self, event)
        if self._inline_tools and isinstance(event, RealtimeModelToolCallEvent):
            await self._sends.answers(event.call_id, driver.caught_up)

    def _feed(self, item: Input, delta: AudioDelta | None = None) -> None:
        if self._driver is not None:
            self._driver.feed(item, delta)

    def _server(self, source: RealtimeModelEvent, kind: str, **fields: Any) -> None:
        self._feed(ModelEvent(CarriedEvent(source, {"type": kind, **fields})))

    def _on_turn_started(self, event: model_events.RealtimeModelTurnStartedEvent) -> None:
        self._turns += 1
        # The engine takes the response that runs for what names none (parity 2.28).
        self._server(event, "response.created", response={"id": event.response_id or "", "status": "in_progress"})

    def _on_turn_ended(self, event: model_events.RealtimeModelTurnEndedEvent) -> None:
        response: dict[str, Any] = {"id": event.response_id or "", "status": "completed", "output": []}
        usage, self._usage = self._usage, None
        if usage is not None:
            response["usage"] = usage
        self._server(event, "response.done", response=response)

    def _on_usage(self, event: model_events.RealtimeModelUsageEvent) -> None:
        self._context.usage.add(event.usage)
        self._usage = _wire_usage(event.usage)

    def _on_audio(self, event: model_events.RealtimeModelAudioEvent) -> None:
        self._belongs(event.item_id, event.response_id)
        delta = CarriedAudio(
            "response.output_audio.delta", event.response_id, event.item_id, "",
            content_index=event.content_index, samples=event.data, source=event,
        )  # fmt: skip
        samples = bytes(event.data)  # the same object where it is that already
        self._feed(ModelAudio(event.response_id, event.item_id, 0, event.content_index, len(samples), samples), delta)

    def _on_audio_done(self, event: model_events.RealtimeModelAudioDoneEvent) -> None:
        self._server(
            event, "response.output_audio.done",
            response_id=self._response_of.get(event.item_id, ""), item_id=event.item_id,
            output_index=0, content_index=event.content_index,
        )  # fmt: skip

    def _on_audio_interrupted(self, event: model_events.RealtimeModelAudioInterruptedEvent) -> None:
        self._feed(AudioInterrupted(event.item_id, event.content_index))

    def _on_transcript(self, event: model_events.RealtimeModelTranscriptDeltaEvent) -> None:
        self._text("response.output_audio_transcript.delta", event)

    def _on_text(self, event: model_events.RealtimeModelOutputTextDeltaEvent) -> None:
        self._text("response.output_text.delta", event)

    def _text(self, kind: str, event: Any) -> None:
        self._belongs(event.item_id, event.response_id)
        self._server(
            event, kind, response_id=event.response_id, item_id=event.item_id, output_index=0, content_index=0,
            delta=event.delta,
        )  # fmt: skip

    def _on_item(self, event: model_events.RealtimeModelItemUpdatedEvent) -> None:
        item = event.item.model_dump(mode="json", exclude_none=True)
        item["id"] = item.pop("item_id")
        previous = item.pop("previous_item_id", None)
        kind = "done" if item.get("status") in ("completed", "incomplete") and item["type"] == "message" else "added"
        self._server(event, f"conversation.item.{kind}", item=item, previous_item_id=previous)

    def _on_item_deleted(self, event: model_events.RealtimeModelItemDeletedEvent) -> None:
        self._server(event, "conversation.item.deleted", item_id=event.item_id)

    def _on_call(self, event: RealtimeModelToolCallEvent) -> None:
        unsent = self._unsent.pop(event.call_id, None)
        if unsent is not None:
            self._face.raw(event)
            self._sends.put(unsent)
            return
        self._calls[event.call_id] = event
        if len(self._calls) > _REMEMBERED:
            self._calls.popitem(last=False)
        item = {
            "id": event.id or f"item_{event.call_id}", "type": "function_call", "status": "completed",
            "call_id": event.call_id, "name": event.name, "arguments": event.arguments,
        }  # fmt: skip
        self._server(event, "response.output_item.done", response_id="", output_index=0, item=item)

    def _on_transcription(self, event: model_events.RealtimeModelInputAudioTranscriptionCompletedEvent) -> None:
        self._server(
            event, "conversation.item.input_audio_transcription.completed",
            item_id=event.item_id, content_index=0, transcript=event.transcript,
        )  # fmt: skip

    def _on_timeout(self, event: model_events.RealtimeModelInputAudioTimeoutTriggeredEvent) -> None:
        self._server(
            event, "input_audio_buffer.timeout_triggered",
            item_id=event.item_id, audio_start_ms=event.audio_start_ms, audio_end_ms=event.audio_end_ms,
        )  # fmt: skip

    def _on_error(self, event: model_events.RealtimeModelErrorEvent) -> None:
        self._face.failed_with(event.error)
        code = _field(event.error, "code") or _field(event.error, "type") or "model_error"
        self._feed(Trouble(code, _field(event.error, "message") or str(event.error), "model"))

    def _on_end_of_stream(self, _: model_events.RealtimeModelEndOfStreamEvent) -> None:
        self._face.lost(None)
        self._feed(LinkLost("the model ended the stream", close_code=_NORMAL))

    def _on_exception(self, event: model_events.RealtimeModelExceptionEvent) -> None:
        self._face.lost(event.exception)
        self._feed(LinkLost(f"{event.context or 'the model failed'}: {event.exception}"))

    def _belongs(self, item_id: str, response_id: str) -> None:
        self._response_of[item_id] = response_id
        if len(self._response_of) > _REMEMBERED:
            self._response_of.popitem(last=False)

    # Events that become an input of the engine, which says when they may be known.
    _CARRIES: ClassVar[Mapping[type, Callable[[Any, Any], None]]] = {
        model_events.RealtimeModelTurnStartedEvent: _on_turn_started,
        model_events.RealtimeModelTurnEndedEvent: _on_turn_ended,
        model_events.RealtimeModelAudioEvent: _on_audio,
        model_events.RealtimeModelAudioDoneEvent: _on_audio_done,
        model_events.RealtimeModelTranscriptDeltaEvent: _on_transcript,
        model_events.RealtimeModelOutputTextDeltaEvent: _on_text,
        model_events.RealtimeModelItemUpdatedEvent: _on_item,
        model_events.RealtimeModelItemDeletedEvent: _on_item_deleted,
        model_events.RealtimeModelToolCallEvent: _on_call,
        model_events.RealtimeModelInputAudioTranscriptionCompletedEvent: _on_transcription,
        model_events.RealtimeModelInputAudioTimeoutTriggeredEvent: _on_timeout,
    }

    # Events that tell nothing of what anybody said.
    _HANDLERS: ClassVar[Mapping[type, Callable[[Any, Any], None]]] = {
        model_events.RealtimeModelUsageEvent: _on_usage,
        model_events.RealtimeModelAudioInterruptedEvent: _on_audio_interrupted,
        model_events.RealtimeModelErrorEvent: _on_error,
        model_events.RealtimeModelEndOfStreamEvent: _on_end_of_stream,
        model_events.RealtimeModelExceptionEvent: _on_exception,
    }


def _field(error: Any, name: str) -> str | None:
    """A field of an error object, which may be a mapping, an object with attributes, or neither."""
    value = error.get(name) if isinstance(error, Mapping) else getattr(error, name, None)
    return value if isinstance(value, str) and value else None


def _wire_usage(usage: Usage) -> dict[str, Any]:
    """The protocol's `usage` of a response."""
    given, made = usage.input_tokens_details, usage.output_tokens_details
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "input_token_details": {
            "cached_tokens": given.cached_tokens,
            "text_tokens": given.text_tokens,
            "audio_tokens": given.audio_tokens,
            "image_tokens": given.image_tokens,
        },
        "output_token_details": {"text_tokens": made.text_tokens, "audio_tokens": made.audio_tokens},
    }
