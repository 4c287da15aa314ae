"""What a recorded event changes in its session's state in Redis. Pure: the same record gives the same changes.

State hash: `id` `tenant` `agent` `model` `face` `audio` `status` (active, ended) `owner` `epoch` `seq` `started_at`
`ended_at` `end_reason` `at`; epoch, seq and started_at are written by the scripts alone. Beside them stands what an
owner keeps for the next one (`takeover.py`). Items hash: item id -> the item with its seq. Calls hash: call id -> the
call's latest event; a decision about its approval under `CALL:decision`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from voicebus.contracts.journal import (
    Handoff,
    ItemRecorded,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    ToolApprovalDecided,
    ToolApprovalRequired,
    ToolEnd,
    ToolStart,
)
from voicebus.engine.outputs import Record


@dataclass(frozen=True, slots=True)
class Changes:
    """Fields of the state to set, and the one among the items or calls that takes the event itself."""

    state: Mapping[str, str] = field(default_factory=dict)
    item: str | None = None
    call: str | None = None


def changes_of(record: Record, at_ms: int) -> Changes:
    """The changes that `record`, made at `at_ms`, brings."""
    at = str(at_ms)
    match record.data:
        case SessionStarted(agent=agent, tenant=tenant, model=model, face=face, audio=audio):
            state = {"agent": agent, "tenant": tenant, "model": model, "face": face, "status": "active", "at": at}
            return Changes({**state, "audio": json.dumps(audio)})
        case SessionResumed(agent=agent):
            return Changes({"agent": agent, "status": "active", "at": at})
        case Handoff(to_agent=agent):
            return Changes({"agent": agent, "at": at})
        case SessionEnded(reason=reason):
            return Changes({"status": "ended", "ended_at": at, "end_reason": reason, "at": at})
        case ItemRecorded(item_id=item_id):
            return Changes({"at": at}, item=item_id)
        case ToolApprovalDecided(call_id=call_id):
            return Changes({"at": at}, call=f"{call_id}:decision")
        case ToolApprovalRequired(call_id=call_id) | ToolStart(call_id=call_id) | ToolEnd(call_id=call_id):
            return Changes({"at": at}, call=call_id)
        case _:
            return Changes({"at": at})
