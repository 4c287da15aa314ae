"""The points where servers of the protocol differ or sources are silent, each with the choice made by default."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Quirks(BaseModel):
    """Switches of one simulator.

    Attributes:
        rate_limits: where `rate_limits.updated` comes: after `response.done`, after `response.created`, or never.
        overlapping_turn: a turn detected while an uninterruptible response is active waits for its end, or fails with
            `conversation_already_has_active_response`.
        session_type_optional: accept a `session.update` without `session.type`.
        conversation_created: send `conversation.created` after `session.created`, as the schema has it.
        extra_fields: put a field no schema knows on every event.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate_limits: Literal["after", "before", "never"] = "after"
    overlapping_turn: Literal["wait", "fail"] = "wait"
    session_type_optional: bool = False
    conversation_created: bool = False
    extra_fields: bool = False
