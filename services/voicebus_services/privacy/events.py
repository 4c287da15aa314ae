"""Recorded events without what their tenant does not keep: which parts of an event are texts, and which are names.

A part of a known event is left alone only where `NAMES` has it: what a later release adds is taken for text.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from voicebus.adapters.database.lines import RecordedEvent
from voicebus.contracts.journal import EVENTS, EventType, GuardrailTripped, ItemRecorded
from voicebus.errors import ContractError
from voicebus_services.privacy.redaction import Redaction

NAMES: Final[Mapping[str, frozenset[str]]] = {
    EventType.SESSION_STARTED: frozenset({"agent", "tenant", "model", "face", "audio"}),
    EventType.SESSION_RESUMED: frozenset({"agent", "tenant", "from_seq"}),
    EventType.ITEM_RECORDED: frozenset({"item_id", "role", "agent", "truncated", "started_ms", "ended_ms", "withheld"}),
    EventType.TOOL_APPROVAL_REQUIRED: frozenset({"call_id", "tool", "agent", "at_ms"}),
    EventType.TOOL_APPROVAL_DECIDED: frozenset({"call_id", "approved", "always", "tool", "by", "at_ms"}),
    EventType.TOOL_START: frozenset({"call_id", "item_id", "tool", "agent", "started_ms"}),
    EventType.TOOL_END: frozenset(
        {"call_id", "item_id", "tool", "agent", "outcome", "worker", "started_ms", "ended_ms"}
    ),
    EventType.HANDOFF: frozenset({"from_agent", "to_agent", "call_id", "at_ms"}),
    EventType.GUARDRAIL_TRIPPED: frozenset(
        {"response_id", "item_id", "agent", "guardrails", "at_ms", "stage", "withheld"}
    ),
    EventType.TURN_ENDED: frozenset({"response_id", "agent", "status", "latencies", "usage"}),
    EventType.ERROR: frozenset({"code", "source", "at_ms"}),
    EventType.MODEL_RECONNECTING: frozenset({"cause", "attempt"}),
    EventType.MODEL_RECONNECTED: frozenset({"attempt"}),
    EventType.TRANSCRIPT_GAP: frozenset({"first", "last"}),
    EventType.SESSION_ENDED: frozenset({"reason", "duration_ms"}),
}
_ENVELOPE: Final = frozenset({"v", "id", "type", "session", "epoch", "seq", "at", "deadline", "traceparent"})

_SAID: Final = frozenset(
    {
        (EventType.ITEM_RECORDED, "text"),
        (EventType.ITEM_RECORDED, "heard_text"),
        (EventType.GUARDRAIL_TRIPPED, "message"),
    }
)

Rules = Callable[[str | None], Redaction]
"""The rules for a tenant's records; for None, whose tenant nobody knows, all that there are."""


def redacted_event(rules: Rules, tenant: str | None, event: RecordedEvent, counts: Counter[str]) -> RecordedEvent:
    """An event as it may be written; `counts` is told how often each rule has taken something.

    Raises:
        ContractError: `malformed`; it is nested too deeply to be looked through.
    """
    redaction = rules(tenant)
    if not redaction:
        return event
    try:
        data = _data(redaction, event, counts)
    except RecursionError as error:
        raise ContractError("its data is nested too deeply", reason="malformed") from error
    return event if data == event.data else event.told(data)


def redacted_fields(redaction: Redaction, fields: Mapping[str, str]) -> dict[str, str]:
    """The fields of an entry that cannot be understood, as they may be written to the dead letters."""
    counts = Counter[str]()
    return {
        name: text if name in _ENVELOPE else redaction.text(text, counts) for name, text in fields.items()
    }  # the counts are of the archive


def _data(redaction: Redaction, event: RecordedEvent, counts: Counter[str]) -> dict[str, Any]:
    names = NAMES.get(event.type, frozenset()) if event.type in EVENTS else frozenset()
    data = {
        name: value if name in names else redaction.value(value, counts)
        for name, value in event.data.items()
        if (event.type, name) not in _SAID
    }
    match event.event:
        case ItemRecorded(text=text, heard_text=heard, truncated=cut):
            said, heard = redaction.said(text, heard, counts, cut=cut)
            data |= {"text": said} | ({"heard_text": heard} if "heard_text" in event.data else {})
        case GuardrailTripped(message=text, stage=stage):
            # What the model said when it was judged: the rest of a number may have been on its way.
            data["message"], _ = redaction.said(text, None, counts, cut=stage == "output")
        case _:
            pass
    return data
