"""A model's server has closed its socket as a message was too large (1009): it would do so with the next one, too.

Which message it was nobody says. It is taken to be the largest of those that the server has not answered, where that is
large at all, and is given up as if the server had refused it; the session goes on.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from voicebus.engine import wire
from voicebus.engine.parts import Parts
from voicebus.engine.replaying import Conversation, Replay

Event = Mapping[str, Any]

LARGE: Final = 256 * 1024
"""Characters; no server is known to refuse a smaller message for its size."""

_CODE: Final = "message_too_large"
_REFUSED: Final = "The model takes no message as large as this one, which has no effect; send less."
_LEFT_OUT: Final = "An item could not be told again: the model takes no message as large as it."


def refuse_largest(parts: Parts, refuse: Callable[[Event], object]) -> None:
    """The socket served: what the session or its client has asked for last is given up; `refuse` gets an `error`."""
    messages = parts.out.uplink.messages
    updates = [update for update in parts.settings.unanswered if not update.first]
    asked: list[Event] = [
        *messages,
        *({"type": "session.update", "event_id": update.id, "session": update.session} for update in updates),
        *(
            {"type": "response.create", "event_id": create.event_id, "response": create.response}
            for create in parts.turns.asked
        ),
    ]
    largest = max(asked, key=wire.size, default=None)
    if largest is None or wire.size(largest) < LARGE:
        return
    if largest["type"] == "conversation.item.create":
        parts.out.uplink.give_up(largest)
        return
    parts.turns.connected_now = False  # what comes next waits for the next socket
    error = {
        "type": "invalid_request_error", "code": _CODE, "message": _REFUSED, "param": None,
        "event_id": largest["event_id"],
    }  # fmt: skip
    refuse({"type": "error", "error": error})


def leave_out_largest(parts: Parts, conversation: Conversation, replay: Replay) -> None:
    """The socket was being told the conversation: sound of turns whose words are not known, else the largest item."""
    told = replay.told
    sounds = {item.id for item in told if item.speech}
    if sounds:
        conversation.silent |= sounds
        return
    largest = max(told, key=lambda item: wire.size(item.wire), default=None)
    if largest is None or wire.size(largest.wire) < LARGE:
        return
    call_id = wire.text(largest.wire, "call_id")
    # A call goes with its output, or neither.
    conversation.left_out |= {item.id for item in told if call_id and wire.text(item.wire, "call_id") == call_id}
    conversation.left_out.add(largest.id)
    parts.out.error("replay_item_refused", _LEFT_OUT, "model")
