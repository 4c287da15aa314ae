"""Reads along with a model that speaks the protocol, and has its events shown as those of the model layer."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from voicebus.agents.context import RunContextWrapper
from voicebus.agents.local.face import CLEAN_CLOSE, EventFace
from voicebus.agents.local.showing import Showing
from voicebus.agents.models.events import (
    RealtimeModelConnectionStatusEvent,
    RealtimeModelEndOfStreamEvent,
    RealtimeModelErrorEvent,
    RealtimeModelExceptionEvent,
    RealtimeModelRawServerEvent,
    RealtimeModelUsageEvent,
)
from voicebus.agents.models.translate import item_of, semantic_events
from voicebus.engine import wire
from voicebus.engine.failures import NO_CALL
from voicebus.engine.inputs import (
    AgentResolved,
    AgentUnresolved,
    CallVetted,
    Input,
    LinkLost,
    ModelAudio,
    ModelEvent,
    Reject,
    TimerFired,
    ToolErrorWorded,
    ToolResultArrived,
    UpdateAgent,
)
from voicebus.engine.state import SESSION_CREATED
from voicebus.engine.view import public_event
from voicebus.errors import ModelLinkError
from voicebus.runtime.frames import AudioDelta

_CALL_TIMER: Final = "call:"
_ITEM_DONE: Final = "conversation.item.done"


class WireTap:
    """Implements `ModelTap` for a session over the wire; `is_over` tells whether a lost connection was its end."""

    def __init__(
        self, face: EventFace, showing: Showing, context: RunContextWrapper[Any], *, is_over: Callable[[], bool]
    ) -> None:
        self._face = face
        self._is_over = is_over
        self._showing = showing
        self._context = context
        # The face's own, as nearly every frame is told of by one of these.
        self.sounded: Final = face.sounded
        self.said: Final = face.said

    def heard(self, item: Input, delta: AudioDelta | None, size: int) -> None:
        face = self._face
        kind = type(item)
        if kind is ModelAudio and delta is not None:
            face.expect_audio(delta, size)
        elif kind is ModelEvent:
            face.begin(size)
            self._server_event(item.event)  # type: ignore[union-attr]
        else:
            self._other(item)

    def settled(self) -> None:
        self._face.settle()

    def _server_event(self, event: Mapping[str, Any]) -> None:
        self._face.raw(RealtimeModelRawServerEvent(public_event(event)))
        derived = semantic_events(event)
        if not derived:
            self._underived(event)
        for one in derived:
            if type(one) is RealtimeModelUsageEvent:
                self._context.usage.add(one.usage)
            elif type(one) is RealtimeModelErrorEvent:
                self._face.failed_with(one.error)
        self._face.expect(derived)

    def _underived(self, event: Mapping[str, Any]) -> None:
        if event["type"] == SESSION_CREATED:
            self._face.is_disconnected = False
            self._face.model_session_id = wire.text(wire.mapping(event, "session"), "id") or None
        elif event["type"] == _ITEM_DONE:
            # Nothing to the model layer, as `response.output_item.done` says the same; the engine reads both.
            self._face.expect_item(item_of(wire.mapping(event, "item")))

    def _other(self, item: Input) -> None:
        face = self._face
        if isinstance(item, ToolResultArrived):
            face.answers(item.result.call_id)
        elif isinstance(item, ToolErrorWorded | CallVetted | Reject | AgentUnresolved):
            face.answers(item.call_id)
        elif isinstance(item, AgentResolved):
            face.answers(item.call_id)
            self._showing.took_over(item.agent.name, item.agent.snapshot)
        elif isinstance(item, UpdateAgent):
            self._showing.took_over(item.agent.name, item.agent.snapshot)
        elif isinstance(item, TimerFired) and item.key.startswith(_CALL_TIMER):
            face.answers(item.key.removeprefix(_CALL_TIMER))
        elif isinstance(item, LinkLost):
            self._lost(item)

    def _lost(self, lost: LinkLost) -> None:
        if not self._face.is_disconnected:
            self._face.is_disconnected = True
            self._face.raw(RealtimeModelConnectionStatusEvent("disconnected"))
        if not self._is_over():
            return
        if lost.close_code in CLEAN_CLOSE or lost.code == NO_CALL:  # its caller has hung up
            self._face.raw(RealtimeModelEndOfStreamEvent())
            self._face.lost(None)
            return
        failure = ModelLinkError(lost.why, code=lost.code, close_code=lost.close_code)
        self._face.raw(RealtimeModelExceptionEvent(failure, "the connection to the model was lost"))
        self._face.lost(failure)
