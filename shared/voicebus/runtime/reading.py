"""Frames of the model as inputs of the engine."""

from collections.abc import Sequence
from typing import Any, Final

from voicebus.engine.inputs import Input, ModelAudio, ModelEvent, ModelMalformed
from voicebus.engine.outputs import ConcealInput, HoldInput, Output
from voicebus.runtime import frames

_DONE: Final = "response.done"
# Bytes of one value of an event beside its text: a frame of empty lists takes twenty times its size.
_OBJECT: Final = 128


def audio_input(delta: frames.AudioDelta) -> ModelAudio:
    """One audio delta, as the engine is told of it."""
    return ModelAudio(
        delta.response_id, delta.item_id, delta.output_index, delta.content_index, len(delta.samples), delta.samples
    )  # fmt: skip


def text_event(delta: frames.TextDelta, frame: bytes) -> tuple[ModelEvent, int]:
    """What `read_event` makes of `frame`, which `delta` was read from and which has an `event_id`."""
    return ModelEvent(frames.event_of(delta)), _size(frame)


def read_event(frame: bytes) -> tuple[ModelEvent | ModelMalformed, dict[str, Any], int]:
    """A frame that is no audio delta: the input, the event itself ({} where it is none), and what it takes in bytes."""
    size = len(frame)
    try:
        event = frames.parse_model_event(frame)
    except ValueError as error:
        return ModelMalformed(str(error)), {}, size
    kind = event.get("type")
    if not isinstance(kind, str):
        return ModelMalformed("the frame has no type"), {}, size
    if kind in frames.AUDIO_TYPES:
        return ModelMalformed("an audio delta without what belongs to it"), {}, size
    if kind == _DONE and not isinstance(event.get("response"), dict):
        # Taken for the end of the one that runs, it would drop what is still said of that.
        return ModelMalformed("the end of no response"), {}, size
    return ModelEvent(event), event, _size(frame)


def _size(frame: bytes) -> int:
    """What an event that was read from `frame` takes, in bytes."""
    return len(frame) + _OBJECT * frame.count(b",")


def known_of(item: Input, outputs: Sequence[Output]) -> Input | None:
    """What of `item` whoever reads along may know; None where that is nothing, or nothing yet."""
    first = outputs[0] if outputs else None
    if type(first) is HoldInput:
        return None
    if type(first) is ConcealInput:
        return None if first.event is None else ModelEvent(first.event)
    return item
