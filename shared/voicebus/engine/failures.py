"""What the failures of a model mean: the single home of which of them connecting again cannot mend (protocol 3.3).

An `error` code, a WebSocket close code and an HTTP status each tell by themselves.
"""

from collections.abc import Mapping
from typing import Any, Final

from voicebus.engine import wire

NO_CALL: Final = "call_id_not_found"
"""There is no call of this id to join: it is over, if somebody was on it."""

FATAL_CODES: Final = frozenset(
    {
        "invalid_api_key",
        "invalid_model",
        "missing_model",
        "beta_api_shape_disabled",
        "insufficient_quota",
        "account_deactivated",
        "billing_hard_limit_reached",
        NO_CALL,
    }
)
"""Errors between us and the model's provider: a client of the OpenAI face is not told of them."""

RATE_LIMIT_CODES: Final = frozenset({"rate_limit_exceeded", "inference_rate_limit_exceeded"})
"""Failures of a response that waiting mends, on the same socket."""

PASSING_CODES: Final = frozenset({"server_error"})
"""Failures of a response that are likely to be over when it is asked for again at once."""

CIRCUIT_OPEN: Final = "circuit_open"
"""An address that has failed too often of late, and is not dialled for a while."""

DEAD_AIR: Final = "dead_air"
"""The socket of a model that did not begin its answer is left."""

KEY_UNAVAILABLE: Final = "model_key_unavailable"
"""The function that gives the model's key raised, took too long or gave none: it is asked again."""

SESSION_EXPIRED: Final = "session_expired"

REFUSED_KEY: Final = "invalid_api_key"

KEY_REFUSED: Final = "The model's server refused the API key."
"""What a caller is told of it."""

REFUSED_REQUEST: Final = 4000
"""The close code of a server that does not have what was asked for, as the model."""

MESSAGE_TOO_BIG: Final = 1009
"""The close code of a server that was sent a message of more bytes than it takes."""

_FATAL_CLOSES: Final = frozenset({3000, REFUSED_REQUEST})
_TOO_MANY_REQUESTS: Final = 429
_REQUEST_TIMEOUT: Final = 408

# Codes that may label a metric; anything else counts as "other".
_KNOWN_CODES: Final = (
    FATAL_CODES
    | RATE_LIMIT_CODES
    | {
        "response_cancel_not_active",
        "conversation_already_has_active_response",
        "item_truncate_invalid_item_id",
        "item_delete_invalid_item_id",
        "item_retrieve_invalid_item_id",
        "item_create_duplicate_item_id",
        "item_create_invalid_previous_item_id",
        "invalid_json",
        "invalid_event",
        "invalid_value",
        "unknown_parameter",
        "missing_required_parameter",
        "input_audio_buffer_commit_empty",
        "cannot_update_voice",
        "server_error",
        "model_lost",
        "model_malformed",
        "model_silent",
        "response_failed",
        "response_create_timeout",
        "response_stalled",
        DEAD_AIR,
        CIRCUIT_OPEN,
        KEY_UNAVAILABLE,
        SESSION_EXPIRED,
    }
)


def error_label(code: str) -> str:
    """`code` as a label of bounded cardinality."""
    return code if code in _KNOWN_CODES else "other"


def code_of(error: Mapping[str, Any]) -> str:
    """The code of an error; some have none, and name what is wrong as their type (protocol 3.3)."""
    return wire.text(error, "code") or wire.text(error, "type")


def without_key(error: Mapping[str, Any]) -> Mapping[str, Any]:
    """An error as callers may hear of it: what is said of a refused key may quote it."""
    return {**error, "message": KEY_REFUSED} if code_of(error) == REFUSED_KEY else error


def text_of(error: Mapping[str, Any], otherwise: str) -> str:
    """What an error says to callers, `otherwise` where it says nothing."""
    return wire.text(without_key(error), "message") or otherwise


def is_fatal(code: str | None, close_code: int | None = None) -> bool:
    """Whether connecting again to the same address cannot help."""
    return code in FATAL_CODES or close_code in _FATAL_CLOSES


def is_fatal_status(status: int) -> bool:
    """The same of the HTTP status with which a server refused the connection."""
    return 400 <= status < 500 and status not in (_TOO_MANY_REQUESTS, _REQUEST_TIMEOUT)
