"""The protocol's errors as a client of the OpenAI face gets them: codes, wording and the `error` event.

The single home of these texts. They are the protocol's own (protocol section 3.3), because a hidden item has to be
indistinguishable from one that does not exist.
"""

from typing import Any

from voicebus.errors import UsageError

EVENT_ID_LIMIT = 512


class ClientEventError(UsageError):
    """A client event that cannot be obeyed; it has no effect at all, and the session goes on."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param

    def event(self, event_id: str | None) -> dict[str, Any]:
        """The `error` event that answers the client event `event_id`."""
        return {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "code": self.code,
                "message": self.message,
                "param": self.param,
                "event_id": event_id,
            },
        }


def invalid_value(param: str, message: str) -> ClientEventError:
    return ClientEventError("invalid_value", message, param)


def invalid_type(param: str, expected: str, value: object) -> ClientEventError:
    message = f"Invalid type for '{param}': expected {expected}, but got {_json_type(value)} instead."
    return ClientEventError("invalid_type", message, param)


def missing(param: str) -> ClientEventError:
    return ClientEventError("missing_required_parameter", f"Missing required parameter: '{param}'.", param)


def unknown_parameter(path: str, key: str) -> ClientEventError:
    param = f"{path}.{key[:64]}"
    return ClientEventError("unknown_parameter", f"Unknown parameter: '{param}'.", param)


def forbidden(param: str) -> ClientEventError:
    return ClientEventError(
        "forbidden_parameter", f"The parameter '{param}' is set by the server; a client may not change it.", param
    )


def unknown_tool(param: str, name: str) -> ClientEventError:
    return invalid_value(param, f"Invalid value: '{name}'. The tool is not among the tools of this request.")


def no_such_item(action: str, item_id: str) -> ClientEventError:
    """`action` is one of delete, retrieve, truncate."""
    doing = {"delete": "deleting", "retrieve": "retrieving", "truncate": "truncating"}[action]
    return ClientEventError(
        f"item_{action}_invalid_item_id", f"Error {doing} item: the item with id '{item_id}' does not exist.", "item_id"
    )


def no_previous_item(item_id: str) -> ClientEventError:
    return ClientEventError(
        "item_create_invalid_previous_item_id",
        f"Error adding item: the previous item with id '{item_id}' does not exist.",
        "previous_item_id",
    )


def duplicate_item(item_id: str) -> ClientEventError:
    return ClientEventError(
        "item_create_duplicate_item_id", f"Error adding item: an item with id '{item_id}' already exists.", "item.id"
    )


def unknown_call(param: str, call_id: str) -> ClientEventError:
    return ClientEventError("invalid_tool_call_id", f"Tool call ID '{call_id}' not found in conversation.", param)


def active_response(response_id: str) -> ClientEventError:
    return ClientEventError(
        "conversation_already_has_active_response",
        f"Conversation already has an active response in progress: {response_id}. "
        "Wait until the response is finished before creating a new one.",
    )


def no_active_response() -> ClientEventError:
    return ClientEventError("response_cancel_not_active", "Cancellation failed: no active response found")


def _json_type(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
