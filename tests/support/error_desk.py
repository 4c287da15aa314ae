"""A TARGET with an agent for each way in which a model may tell of each error that it is known to have."""

from typing import Final

from support.phase_desk import runner
from voicebus.engine.failures import FATAL_CODES, RATE_LIMIT_CODES

OTHERS: Final = (
    "invalid_json", "invalid_event", "invalid_value", "unknown_parameter", "missing_required_parameter",
    "integer_below_min_value", "string_above_max_length", "response_cancel_not_active",
    "input_audio_buffer_commit_empty", "item_create_duplicate_item_id", "item_create_invalid_previous_item_id",
    "item_delete_invalid_item_id", "item_retrieve_invalid_item_id", "item_truncate_invalid_item_id",
    "unsupported_content_type", "cannot_update_voice", "server_error", "invalid_tool_call_id", "something_new",
)  # fmt: skip
"""Errors of a model that are the end of nothing."""

ACTIVE: Final = "conversation_already_has_active_response"

CODES: Final = (*sorted(FATAL_CODES), *sorted(RATE_LIMIT_CODES), *OTHERS, ACTIVE, "session_expired", "")
"""All that are known; "" is an error without a code."""

WAYS: Final = ("beside the answer", "instead of the answer", "as the end of the answer")

NAMES: Final = tuple(f"{code or 'no code'} {way}" for code in CODES for way in WAYS)

globals().update({f"runner_{number}": runner(name, "text") for number, name in enumerate(NAMES)})
