"""A model used by itself, without a session: the same engine and driver, between the link and the model's listeners.

So responses are sequenced, audio is truncated and playback is tracked as in a session; calls, checks and records are
nobody's business here, so the ports for them lead nowhere. Of a response that nobody waits for any more, such as the
second answer to a create that was sent again, listeners are shown the server's events and the items; its audio is not
heard, and its calls are answered here instead of being a `function_call`.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from voicebus.adapters.sockets import CLEAN_CLOSES
from voicebus.agents.error_details import RealtimeModelErrorDetails
from voicebus.agents.local.ports import LocalClock, NoInbox
from voicebus.agents.models.events import (
    RealtimeModelAudioInterruptedEvent,
    RealtimeModelConnectionStatusEvent,
    RealtimeModelEndOfStreamEvent,
    RealtimeModelErrorEvent,
    RealtimeModelEvent,
    RealtimeModelExceptionEvent,
    RealtimeModelRawServerEvent,
    RealtimeModelToolCallEvent,
)
from voicebus.agents.models.translate import audio_event, semantic_events
from voicebus.contracts.envelope import Message
from voicebus.contracts.journal import ErrorRecorded, EventType
from voicebus.engine.config import AgentSpec, Face, Recovering, SessionConfig
from voicebus.engine.inputs import End, Input, LinkLost, ModelAudio, ModelEvent
from voicebus.engine.outputs import ForwardAudio, Record
from voicebus.engine.session import Session
from voicebus.engine.view import public_event
from voicebus.errors import ModelLinkError
from voicebus.ports import ModelConnector, SessionRef
from voicebus.runtime.driver import SessionDriver
from voicebus.runtime.frames import AudioDelta, TextDelta, event_of
from voicebus.runtime.surroundings import Bus

_EXPIRED: Final = "model_expired"

Publish = Callable[[RealtimeModelEvent], None]


class Standalone:
    """One connection's conversation, and its own end. Implements `ClientFace` and `ModelTap`.

    `ended(self)` is called when nothing more comes, after the events that say so.
    """

    def __init__(
        self,
        agent: AgentSpec,
        model: str,
        publish: Publish,
        ended: "Callable[[Standalone], None]",
        *,
        tracked_playback: bool,
    ) -> None:
        self._publish = publish
        self._ended = ended
        config = SessionConfig(
            session=secrets.token_hex(8),
            face=Face.NATIVE,
            agent=agent,
            model=model,
            calls_elsewhere=True,
            recovering=Recovering.NEVER,
            tracked_playback=tracked_playback,
        )
        clock = LocalClock()
        nowhere = _Nowhere()
        self._session = Session(config, now=clock.monotonic())
        self.driver: SessionDriver = SessionDriver(
            self._session,
            config,
            SessionRef(config.session, epoch=0),
            Bus(clock, tools=nowhere, guardrails=nowhere, journal=_NoJournal(), inbox=NoInbox()),
            self,
            author=_NoAuthor(),
            tap=self,
        )
        self._task: asyncio.Task[None] | None = None
        self._started = asyncio.Event()
        self._heard: Input | None = None
        self._loss: LinkLost | None = None
        self._closing = False
        self._last_error: str | None = None

    async def start(self, connector: ModelConnector) -> None:
        """Dial and configure; the first frame has been sent when this returns.

        Raises:
            UserError, ModelLinkError: as the connector; nothing is left open then.
        """
        await self.driver.dial(connector)
        self._task = asyncio.create_task(self._run(), name="model-conversation")
        await self._started.wait()
        if self._closing:
            await self.aclose()
            raise ModelLinkError("the model was closed while it was being connected")

    async def aclose(self) -> None:
        """End it on the program's word: no events tell of it."""
        self._closing = True
        self.driver.feed(End("hangup"))
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        try:
            reason = await self.driver.run()
            if not self._closing:
                self._publish(RealtimeModelConnectionStatusEvent("disconnected"))
                self._publish(self._farewell(reason))
        finally:
            self._started.set()
            self._ended(self)

    def _farewell(self, reason: str) -> RealtimeModelEvent:
        loss = self._loss
        if reason == _EXPIRED or (loss is not None and loss.close_code in CLEAN_CLOSES):
            return RealtimeModelEndOfStreamEvent()
        if loss is not None:
            lost = ModelLinkError(loss.why, code=loss.code, close_code=loss.close_code)
            return RealtimeModelExceptionEvent(lost, context="the model's link was lost")
        failed = ModelLinkError(self._last_error or f"the conversation ended: {reason}")
        return RealtimeModelExceptionEvent(failed, context="the conversation cannot go on")

    # --- ModelTap -----------------------------------------------------------------------------------

    def heard(self, item: Input, delta: AudioDelta | None, size: int) -> None:
        self._heard = item
        if isinstance(item, ModelAudio):
            if delta is not None:
                self._publish(RealtimeModelRawServerEvent(event_of(delta)))
        elif isinstance(item, ModelEvent):
            self._publish(RealtimeModelRawServerEvent(public_event(item.event)))
            for meaning in semantic_events(item.event):
                if isinstance(meaning, RealtimeModelToolCallEvent) and self._session.has_declined(meaning.call_id):
                    continue
                self._publish(meaning)
        elif isinstance(item, LinkLost):
            self._loss = item

    def sounded(self, where: ForwardAudio, delta: AudioDelta, size: int, seq: int) -> bool:
        return False  # it is heard

    def said(self, delta: TextDelta, text: str, size: int, seq: int) -> bool:
        return False  # as what sounds

    def settled(self) -> None:
        self._heard = None
        self._started.set()

    # --- ClientFace ---------------------------------------------------------------------------------

    def ready(self) -> None:
        """Nothing waits for it: what is sent goes out at once."""

    def record(self, seq: int, kind: EventType, at_ms: int, data: Message) -> None:
        if not isinstance(data, ErrorRecorded):
            return
        self._last_error = data.message
        said_by_server = isinstance(self._heard, ModelEvent) and self._heard.event.get("type") == "error"
        if not said_by_server and self._loss is None:
            self._publish(
                RealtimeModelErrorEvent(RealtimeModelErrorDetails({"code": data.code, "message": data.message}))
            )

    def emit(self, kind: str, seq: int, at_ms: int, data: Mapping[str, Any]) -> None:
        if kind == "audio_interrupted":
            self._publish(RealtimeModelAudioInterruptedEvent(data["item_id"], data["content_index"]))

    def server_event(self, event: Mapping[str, Any]) -> None:
        """There is no client of the OpenAI face."""

    def audio(self, where: ForwardAudio, delta: AudioDelta, seq: int) -> None:
        self._publish(audio_event(delta))

    def close(self, code: int, reason: str) -> None:
        """`run` returns, and its task says what there is to say."""


class _Nowhere:
    """Calls are answered by listeners, and there are no guardrails: neither is ever handed out."""

    def dispatch(self, *_: object) -> NoReturn:
        raise NotImplementedError("a model alone runs no tools")

    def cancel(self, *_: object) -> None:
        """A call that nobody was given needs no cancelling."""

    def check(self, *_: object, **__: object) -> NoReturn:
        raise NotImplementedError("a model alone has no guardrails")


class _NoAuthor:
    """There is no agent whose callbacks could be asked for."""

    async def resolve(self, _: object) -> NoReturn:
        raise NotImplementedError("a model alone makes no handoffs")

    async def take_over(self, _: object) -> NoReturn:
        raise NotImplementedError("a model alone changes no agents")

    async def vet(self, _: object) -> NoReturn:
        raise NotImplementedError("a model alone approves no calls")

    def merge_context(self, _: object) -> NoReturn:
        raise NotImplementedError("a model alone has no context")

    def unsaved_context(self) -> None:
        """There is none."""

    async def word_error(self, _: object) -> NoReturn:
        raise NotImplementedError("a model alone words no errors")


class _NoJournal:
    async def open(self, session: str, *, state: Mapping[str, str]) -> int:
        return 0

    def append(self, session: SessionRef, record: Record, at_ms: int) -> None:
        """Nothing is kept."""

    def update(self, session: SessionRef, state: Mapping[str, str]) -> None:
        """Nor this."""

    def after(self, session: SessionRef, then: Callable[[], None]) -> None:
        then()

    async def close(self, session: SessionRef) -> None:
        """Nothing was kept."""
