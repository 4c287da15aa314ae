"""What the engine sends in one step, as what a `RealtimeModel` is told: protocol to send events, pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from voicebus.agents.model_settings import RealtimeSessionModelSettings
from voicebus.agents.models.events import RealtimeModelToolCallEvent
from voicebus.agents.models.sends import (
    RealtimeModelRawClientMessage,
    RealtimeModelSendAudio,
    RealtimeModelSendEvent,
    RealtimeModelSendInterrupt,
    RealtimeModelSendRawMessage,
    RealtimeModelSendSessionUpdate,
    RealtimeModelSendToolOutput,
    RealtimeModelSendUserInput,
    RealtimeModelUserInput,
    RealtimeModelUserInputMessage,
)
from voicebus.engine import wire
from voicebus.engine.outputs import StopModel


@dataclass(frozen=True, slots=True)
class Step:
    """What was sent, in order. `user_input` is the message of the program's that it comes of, as it was given.

    `call` finds the event by which the model made a call.
    """

    sent: Sequence[Mapping[str, Any] | StopModel]
    user_input: RealtimeModelUserInput | None
    call: Callable[[str], RealtimeModelToolCallEvent | None]


def fold(step: Step, settings: Callable[[], RealtimeSessionModelSettings]) -> list[RealtimeModelSendEvent]:
    """The send events that a step comes to.

    A `response.create` belongs to the item before it: a model of this kind decides itself when it goes on.
    """
    events: list[RealtimeModelSendEvent] = []
    for sent in step.sent:
        if isinstance(sent, StopModel):
            events.append(_interrupt(sent))
            continue
        kind = sent.get("type")
        if kind == "session.update":
            events.append(RealtimeModelSendSessionUpdate(settings()))
        elif kind == "input_audio_buffer.commit":
            events.append(RealtimeModelSendAudio(b"", commit=True))
        elif kind == "conversation.item.create":
            events.append(_item(step, sent))
        elif kind == "response.create" and events and _answered(step, events):
            continue
        else:
            events.append(_raw(sent))
    return events


def _item(step: Step, sent: Mapping[str, Any]) -> RealtimeModelSendEvent:
    item = wire.mapping(sent, "item")
    if item.get("type") == "function_call_output":
        call = step.call(wire.text(item, "call_id"))
        if call is not None:
            return RealtimeModelSendToolOutput(call, wire.text(item, "output"), start_response=False)
    return _raw(sent)


def _answered(step: Step, events: list[RealtimeModelSendEvent]) -> bool:
    """Have the last event answered, if it is one that can be; a model is told so with the event itself."""
    last = events[-1]
    if isinstance(last, RealtimeModelSendToolOutput):
        events[-1] = replace(last, start_response=True)
        return True
    if isinstance(last, RealtimeModelSendRawMessage):
        message = wire.mapping(last.message.get("other_data") or {}, "item")
        if message.get("type") == "message" and message.get("role") == "user":
            events[-1] = RealtimeModelSendUserInput(step.user_input or _message(message))
            return True
    return False


def _message(item: Mapping[str, Any]) -> RealtimeModelUserInput:
    content = list(wire.mappings(item, "content"))
    if len(content) == 1 and content[0].get("type") == "input_text":
        return wire.text(content[0], "text")
    message: RealtimeModelUserInputMessage = {"type": "message", "role": "user", "content": content}  # type: ignore[typeddict-item]
    return message


def _interrupt(stop: StopModel) -> RealtimeModelSendInterrupt:
    """Of one response it is a guardrail's, which forces the model to stop (parity 107 to 109)."""
    return RealtimeModelSendInterrupt(
        force_response_cancel=stop.response_id is not None and stop.cancel,
        response_id=stop.response_id,
        cancel_response_only=not stop.truncate,
        playback_only=not stop.cancel,
    )


def _raw(sent: Mapping[str, Any]) -> RealtimeModelSendRawMessage:
    other = {key: value for key, value in sent.items() if key not in ("type", "event_id")}
    message: RealtimeModelRawClientMessage = {"type": wire.text(sent, "type")}
    if other:
        message["other_data"] = other
    return RealtimeModelSendRawMessage(message)
