"""The client events: which types exist and the shape of each, and how a text frame becomes one."""

from collections.abc import Mapping
from typing import Any

import msgspec

from voicebus_services.model_simulator.protocol.checks import (
    Check,
    Required,
    anything,
    array,
    boolean,
    integer,
    metadata,
    nullable,
    obj,
    one_of,
    string,
    unsupported,
)
from voicebus_services.model_simulator.protocol.items import check_input_item, check_item
from voicebus_services.model_simulator.protocol.refusal import RefusedError
from voicebus_services.model_simulator.protocol.session_config import (
    audio_format,
    max_output_tokens,
    output_modalities,
    prompt,
    reasoning,
    tool_choice,
    tools,
    voice,
)

JsonObject = dict[str, Any]

_response = obj(
    {
        "instructions": nullable(string()),
        "output_modalities": nullable(output_modalities),
        "audio": nullable(obj({"output": nullable(obj({"format": nullable(audio_format), "voice": nullable(voice)}))})),
        "tools": nullable(tools),
        "tool_choice": nullable(tool_choice),
        "max_output_tokens": nullable(max_output_tokens),
        "conversation": nullable(one_of("auto", "none")),
        "input": nullable(array(check_input_item)),
        "metadata": nullable(metadata),
        "prompt": prompt,
        "reasoning": reasoning,
        "parallel_tool_calls": nullable(boolean),
    }
)
_item_id = Required(string(longest=512))


def _event(**fields: Check | Required) -> Check:
    return obj({"type": string(), "event_id": nullable(string(longest=512)), **fields})


SHAPES: dict[str, Check] = {
    # The session itself is checked against the session's type, where it is applied.
    "session.update": _event(session=Required(anything)),
    "input_audio_buffer.append": _event(audio=Required(string(longest=32 * 1024 * 1024))),
    "input_audio_buffer.commit": _event(),
    "input_audio_buffer.clear": _event(),
    "conversation.item.create": _event(item=Required(check_item), previous_item_id=nullable(string(longest=512))),
    "conversation.item.retrieve": _event(item_id=_item_id),
    "conversation.item.truncate": _event(
        item_id=_item_id, content_index=Required(integer(0)), audio_end_ms=Required(integer(0))
    ),
    "conversation.item.delete": _event(item_id=_item_id),
    "response.create": _event(response=nullable(_response)),
    "response.cancel": _event(response_id=nullable(string(longest=512))),
}

CALL_SHAPES: dict[str, Check] = {**SHAPES, "output_audio_buffer.clear": _event()}
"""Of a call (WebRTC, SIP), whose caller the server plays to."""

_decode = msgspec.json.Decoder().decode


def parse(text: str | bytes) -> JsonObject:
    """One text frame as a JSON object with a `type` that is text; its other fields are not checked yet.

    Raises:
        RefusedError: `invalid_json`, or `invalid_event` without a type.
    """
    try:
        event = _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RefusedError(
            "We could not parse the JSON body of your event. Each text frame must hold one JSON object.",
            code="invalid_json",
        ) from error
    if not isinstance(event, dict):
        raise RefusedError("The event must be a JSON object.", code="invalid_event")
    if not isinstance(event.get("type"), str):
        raise RefusedError("The event has no 'type'.", code="invalid_event", param="type")
    return event


def check(event: JsonObject, shapes: Mapping[str, Check] = SHAPES) -> JsonObject:
    """The event with every field checked, against the types that there are.

    Raises:
        RefusedError: an unknown type (`invalid_value`, param "type") or a field that is not as it must be.
    """
    shape = shapes.get(event["type"])
    if shape is None:
        raise unsupported(event["type"], "type", list(shapes))
    checked: JsonObject = shape(event, "")
    return checked


def event_id_of(event: JsonObject) -> str | None:
    """What `error.event_id` echoes: the client's own id if it is one."""
    identity = event.get("event_id")
    return identity[:512] if isinstance(identity, str) else None
