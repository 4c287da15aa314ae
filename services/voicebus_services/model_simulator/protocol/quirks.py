"""The points where servers of the protocol differ or sources are silent, each with the choice made by default."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Milliseconds = Annotated[float, Field(ge=0, le=10_000)]


def _rising(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the least, {bounds[0]:g}, is above the most, {bounds[1]:g}")
    return bounds


class Quirks(BaseModel):
    """Switches of one simulator.

    Attributes:
        rate_limits: where `rate_limits.updated` comes: after `response.done`, after `response.created`, or never.
        overlapping_turn: a turn detected while an uninterruptible response is active waits for its end, or fails with
            `conversation_already_has_active_response`.
        session_type_optional: accept a `session.update` without `session.type`.
        conversation_created: send `conversation.created` after `session.created`, as the schema has it.
        extra_fields: put a field no schema knows on every event.
        reordered: take the other way round what the protocol leaves open, see `orders`.
        counted_ids: number items, responses and calls from 1 in each session, so that a client meets ids again behind a
            reconnect.
        frame_delay_ms: the least and the most, in ms, that each frame to a client is held up, in order; default none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate_limits: Literal["after", "before", "never"] = "after"
    overlapping_turn: Literal["wait", "fail"] = "wait"
    session_type_optional: bool = False
    conversation_created: bool = False
    extra_fields: bool = False
    reordered: bool = False
    counted_ids: bool = False
    frame_delay_ms: Annotated[tuple[Milliseconds, Milliseconds], AfterValidator(_rising)] = (0.0, 0.0)
