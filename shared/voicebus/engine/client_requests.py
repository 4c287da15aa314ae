"""The shape of client events, and what `response.create` may hold: checks before anything is decided.

What only the model can judge (values, unknown extra fields, item contents) passes to the model.
"""

from collections.abc import Mapping
from typing import Any, Final

from voicebus.engine.bounds import Recent
from voicebus.engine.client_conversation import Conversation
from voicebus.engine.client_errors import (
    EVENT_ID_LIMIT,
    ClientEventError,
    duplicate_item,
    invalid_type,
    invalid_value,
    missing,
    unknown_call,
    unknown_parameter,
    unknown_tool,
)
from voicebus.engine.client_settings import ClientSettings
from voicebus.engine.client_tools import Tools
from voicebus.engine.offering import in_order
from voicebus.engine.view import OWN_METADATA_KEY, OWN_PREFIX

# type -> field -> (expected, required). An optional field may also be null.
_TEXT: Final = "a string"
_OBJECT: Final = "an object"
_INTEGER: Final = "an integer"
SHAPES: Final[Mapping[str, Mapping[str, tuple[str, bool]]]] = {
    "session.update": {"session": (_OBJECT, True)},
    "input_audio_buffer.append": {"audio": (_TEXT, True)},
    "input_audio_buffer.commit": {},
    "input_audio_buffer.clear": {},
    "conversation.item.create": {"item": (_OBJECT, True), "previous_item_id": (_TEXT, False)},
    "conversation.item.retrieve": {"item_id": (_TEXT, True)},
    "conversation.item.delete": {"item_id": (_TEXT, True)},
    "conversation.item.truncate": {
        "item_id": (_TEXT, True),
        "content_index": (_INTEGER, True),
        "audio_end_ms": (_INTEGER, True),
    },
    "response.create": {"response": (_OBJECT, False)},
    "response.cancel": {"response_id": (_TEXT, False)},
}

# What a response may override of the session, and what belongs to a response alone.
_OVERRIDES: Final = frozenset(
    {
        *("instructions", "output_modalities", "audio", "tools", "tool_choice", "max_output_tokens", "prompt"),
        *("reasoning", "parallel_tool_calls"),
    }
)
MAX_METADATA: Final = 16
_MAX_KEY: Final = 64
_MAX_VALUE: Final = 512

_OWN_FIELDS: Final = frozenset({"conversation", "metadata", "input"})


def event_id_of(event: Mapping[str, Any]) -> str | None:
    """The client's `event_id`. Raises `ClientEventError` where it cannot be one."""
    event_id = event.get("event_id")
    if event_id is None:
        return None
    if not isinstance(event_id, str):
        raise invalid_type("event_id", "a string", event_id)
    if len(event_id) > EVENT_ID_LIMIT:
        raise ClientEventError(
            "string_above_max_length",
            f"Invalid 'event_id': string too long. Expected a string with maximum length {EVENT_ID_LIMIT}, "
            f"but got a string with length {len(event_id)} instead.",
            "event_id",
        )
    if event_id.startswith(OWN_PREFIX):
        raise _reserved("event_id", event_id)
    return event_id


def type_of(event: Mapping[str, Any]) -> str:
    """The event's type, its fields checked against `SHAPES`. Raises `ClientEventError`."""
    if "type" not in event:
        raise missing("type")
    kind = event["type"]
    if not isinstance(kind, str) or kind not in SHAPES:
        known = ", ".join(f"'{name}'" for name in SHAPES)
        raise invalid_value("type", f"Invalid value: '{str(kind)[:64]}'. Supported values are: {known}.")
    for field, (expected, required) in SHAPES[kind].items():
        value = event.get(field)
        if value is None:
            if required:
                raise missing(field)
        elif not _fits(value, expected):
            raise invalid_type(field, expected, value)
    return kind


class ItemRules:
    """What a client's items may not be: hidden ones, and parts of calls that are the server's."""

    def __init__(self, conversation: Conversation, tools: Tools) -> None:
        self._conversation = conversation
        self._tools = tools
        self.server_calls: Recent = Recent()

    def check(self, item: Mapping[str, Any], param: str) -> None:
        """Raises `ClientEventError` for a new item that a client may not create."""
        item_id, call_id, name = item.get("id"), item.get("call_id"), item.get("name")
        if isinstance(item_id, str):
            if item_id.startswith(OWN_PREFIX):
                raise _reserved(f"{param}.id", item_id)
            if self._conversation.hides(item_id):
                raise duplicate_item(item_id)
        if isinstance(call_id, str) and call_id in self.server_calls:
            raise unknown_call(f"{param}.call_id", call_id)
        if item.get("type") == "function_call" and self._tools.is_server(name):
            raise unknown_tool(f"{param}.name", str(name))

    def check_input(self, items: object) -> None:
        """Raises `ClientEventError` where a response's `input` refers to what is hidden."""
        for number, item in enumerate(items if isinstance(items, list) else []):
            if isinstance(item, Mapping):
                param = f"response.input[{number}]"
                if self._conversation.hides(item_id := item.get("id")):
                    raise invalid_value(
                        f"{param}.id", f"Error creating response: the item with id '{item_id}' does not exist."
                    )
                if item.get("type") != "item_reference":
                    self.check(item, param)


def _check_metadata(metadata: object) -> None:
    """Metadata as the protocol bounds them (section 2.1). Raises `ClientEventError`."""
    param = "response.metadata"
    if metadata is None:
        return
    if not isinstance(metadata, Mapping):
        raise invalid_type(param, "an object", metadata)
    if OWN_METADATA_KEY in metadata:
        raise _reserved(param, OWN_METADATA_KEY)
    if len(metadata) > MAX_METADATA:
        raise invalid_value(param, f"At most {MAX_METADATA} pairs are allowed, not {len(metadata)}.")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise invalid_type(f"{param}.{key[:_MAX_KEY]}", "a string", value)
        if len(key) > _MAX_KEY or len(value) > _MAX_VALUE:
            raise invalid_value(param, f"Keys have at most {_MAX_KEY} characters and values at most {_MAX_VALUE}.")


def response_parameters(
    response: Mapping[str, Any], *, settings: ClientSettings, tools: Tools, items: ItemRules
) -> dict[str, Any]:
    """A client's `response.create` parameters for the wire. Raises `ClientEventError`.

    In the default conversation the server's tools are there as well, and what the client may not set in the session
    it may not override for one response either. An out-of-band response writes nothing to the conversation: it has
    the client's tools alone, and instructions of its own.
    """
    out_of_band = response.get("conversation") == "none"
    if not out_of_band:
        response = settings.heeded(response)
    for key, value in response.items():
        if key not in _OVERRIDES and key not in _OWN_FIELDS:
            raise unknown_parameter("response", key)
        own_context = out_of_band and key == "instructions"
        if key in _OVERRIDES and not own_context:
            settings.require(value, key, f"response.{key}")
    _check_metadata(response.get("metadata"))
    items.check_input(response.get("input"))
    tools.check_choice(response.get("tool_choice"), "response.tool_choice")
    parameters = dict(response)
    if "tools" in response:
        listed = tools.check(response["tools"], "response.tools")
        own = tools.without_servers(listed)
        tools.declare(own, for_session=False)
        parameters["tools"] = own if out_of_band else in_order(listed, tools.server)
    elif out_of_band:
        # Left out, the session's tools would apply, and these include the server's.
        parameters["tools"] = settings.own_tools
        parameters.setdefault("tool_choice", "auto")
    return parameters


def _fits(value: object, expected: str) -> bool:
    if expected == _TEXT:
        return isinstance(value, str)
    if expected == _INTEGER:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, Mapping)


def _reserved(param: str, value: str) -> ClientEventError:
    return invalid_value(param, f"Invalid value: '{value[:64]}' is reserved for the server.")
