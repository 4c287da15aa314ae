"""How an event of a custom model travels through the engine with what was made of it.

The engine may hold back what a guardrail has yet to judge (`engine/holding.py`). A raw event tells as much as its
derived ones, so it is shown when the engine lets these be known, and not before.
"""

from collections.abc import Mapping
from typing import Any

from voicebus.agents.models import events as model_events
from voicebus.agents.models.events import RealtimeModelEvent
from voicebus.agents.models.translate import item_of
from voicebus.engine import wire
from voicebus.engine.inputs import Input, ModelEvent
from voicebus.runtime.frames import AudioDelta


class CarriedEvent(dict[str, Any]):
    """A server event that says what `source` said."""

    __slots__ = ("source",)

    def __init__(self, source: RealtimeModelEvent, fields: Mapping[str, Any]) -> None:
        super().__init__(fields)
        self.source: RealtimeModelEvent = source


class CarriedAudio(AudioDelta):
    """The samples of `source`."""

    source: model_events.RealtimeModelAudioEvent | None = None


def raw_event(item: Input, delta: AudioDelta | None) -> RealtimeModelEvent | None:
    """What programs may be shown of the model's word that came as this; None where nothing came of the model.

    Of an event that was emptied of what a guardrail forbade, it is what is left.
    """
    if isinstance(delta, CarriedAudio):
        return delta.source
    if not isinstance(item, ModelEvent):
        return None
    event = item.event
    if isinstance(event, CarriedEvent):
        return event.source
    if event.get("type") == "response.done":
        response_id = wire.text(wire.mapping(event, "response"), "id") or None
        return model_events.RealtimeModelTurnEndedEvent(response_id=response_id)
    left = item_of(wire.mapping(event, "item"))
    return None if left is None else model_events.RealtimeModelItemUpdatedEvent(left)
