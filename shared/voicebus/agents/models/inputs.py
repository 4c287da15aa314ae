"""What a `RealtimeModel` is told, as inputs of the engine: the single home of that translation, and of what a raw
client event must look like (protocol section 2).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import pybase64

from voicebus.agents.models.kinds import kind_of
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
)
from voicebus.agents.models.setup import settings_patch
from voicebus.engine.inputs import (
    ChangeSettings,
    CommitAudio,
    Input,
    Interrupt,
    SendMessage,
    SendRaw,
    SendToolOutput,
    Trouble,
)
from voicebus.errors import UserError, WrongValueError
from voicebus.runtime.frames import append_frame

# The fields that a client event cannot be without, and their JSON type.
_CLIENT_EVENTS: Final[Mapping[str, Mapping[str, type | tuple[type, ...]]]] = {
    "session.update": {"session": Mapping},
    "input_audio_buffer.append": {"audio": str},
    "input_audio_buffer.commit": {},
    "input_audio_buffer.clear": {},
    "conversation.item.create": {"item": Mapping},
    "conversation.item.retrieve": {"item_id": str},
    "conversation.item.truncate": {"item_id": str, "content_index": int, "audio_end_ms": int},
    "conversation.item.delete": {"item_id": str},
    "response.create": {},
    "response.cancel": {},
    "output_audio_buffer.clear": {},
}
_OPTIONAL: Final[Mapping[str, type | tuple[type, ...]]] = {
    "event_id": str,
    "previous_item_id": (str, type(None)),
    "response_id": (str, type(None)),
    "response": (Mapping, type(None)),
}
_KINDS: Final[Mapping[type, str]] = {Mapping: "an object", str: "a string", int: "a whole number"}

INVALID_CLIENT_EVENT: Final = "invalid_client_event"


def inputs_of(event: RealtimeModelSendEvent) -> list[Input]:
    """The inputs that `event` comes to, in order; the samples of a `RealtimeModelSendAudio` are `append_of`'s.

    A raw message that is no client event comes to one `Trouble`, and nothing is sent.

    Raises:
        UserError: settings that cannot be, or something that is no send event.
    """
    handler = _HANDLERS.get(kind_of(event, _HANDLERS))
    if handler is None:
        raise UserError(f"{event!r} is nothing that a model can be told")
    return handler(event)


def append_of(event: RealtimeModelSendAudio) -> bytes | None:
    """The frame that carries the samples, None where there are none."""
    return append_frame(pybase64.b64encode(event.audio).decode("ascii")) if event.audio else None


def user_content(message: RealtimeModelUserInput) -> list[dict[str, Any]]:
    """The input parts of a user message; what is no text and no image is left out (parity 14)."""
    if isinstance(message, str):
        return [{"type": "input_text", "text": message}]
    parts = message.get("content") if isinstance(message, Mapping) else None
    return [checked for part in parts if (checked := _part(part))] if isinstance(parts, list | tuple) else []


def _part(part: object) -> dict[str, Any] | None:
    if not isinstance(part, Mapping):
        return None
    if part.get("type") == "input_text" and isinstance(part.get("text"), str):
        return {"type": "input_text", "text": part["text"]}
    if part.get("type") == "input_image" and isinstance(part.get("image_url"), str):
        detail = {"detail": part["detail"]} if isinstance(part.get("detail"), str) else {}
        return {"type": "input_image", "image_url": part["image_url"], **detail}
    return None


def raw_event(message: RealtimeModelRawClientMessage) -> dict[str, Any]:
    """The client event that a raw message stands for.

    Raises:
        UserError: it is none; the text says what is wrong with it.
    """
    if not isinstance(message, Mapping) or not isinstance(message.get("type"), str):
        raise UserError("a raw message needs a type, the name of a client event")
    other = message.get("other_data") or {}
    if not isinstance(other, Mapping):
        raise UserError("a raw message's other_data must be an object")
    event = {**other, "type": message["type"]}
    required = _CLIENT_EVENTS.get(event["type"])
    if required is None:
        raise UserError(f"{event['type'][:80]!r} is no client event of the protocol")
    for name, kinds in (*required.items(), *((name, kinds) for name, kinds in _OPTIONAL.items() if name in event)):
        value = event.get(name)
        if not isinstance(value, kinds) or isinstance(value, bool):
            kind = _KINDS[kinds if isinstance(kinds, type) else kinds[0]]
            raise UserError(f"{event['type']} needs {name}, {kind}, not {type(value).__name__}")
    return event


# --- one function per kind of event ------------------------------------------------------------------


def _raw(event: RealtimeModelSendRawMessage) -> list[Input]:
    try:
        return [SendRaw(raw_event(event.message))]
    except UserError as error:
        return [Trouble(INVALID_CLIENT_EVENT, f"The message was not sent: {error}", "client")]


def _user_input(event: RealtimeModelSendUserInput) -> list[Input]:
    content = user_content(event.user_input)
    return [SendMessage(content)] if content else []


def _audio(event: RealtimeModelSendAudio) -> list[Input]:
    # Committing asks for no response: with turn detection the server does, without it the program (parity 15).
    return [CommitAudio(respond=False)] if event.commit else []


def _tool_output(event: RealtimeModelSendToolOutput) -> list[Input]:
    return [SendToolOutput(event.tool_call.call_id, event.output, event.start_response)]


def _interrupt(event: RealtimeModelSendInterrupt) -> list[Input]:
    if event.playback_only and (event.cancel_response_only or event.force_response_cancel):
        raise WrongValueError(
            "RealtimeModelSendInterrupt: playback_only cancels no response; leave it out, or the rest"
        )
    return [
        Interrupt(event.response_id, cancel=not event.playback_only, truncate=not event.cancel_response_only)
    ]  # fmt: skip


def _session_update(event: RealtimeModelSendSessionUpdate) -> list[Input]:
    return [ChangeSettings(settings_patch(event.session_settings))]


_HANDLERS: Final[Mapping[type, Callable[[Any], list[Input]]]] = {
    RealtimeModelSendRawMessage: _raw,
    RealtimeModelSendUserInput: _user_input,
    RealtimeModelSendAudio: _audio,
    RealtimeModelSendToolOutput: _tool_output,
    RealtimeModelSendInterrupt: _interrupt,
    RealtimeModelSendSessionUpdate: _session_update,
}
