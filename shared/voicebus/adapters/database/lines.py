"""From recorded events to rows: what one event says about its session, a line of the transcript, a turn. Pure.

Rows merge by the rule that a later `seq` wins, whatever the order of arrival, so writing an event twice, or late,
gives the same transcript.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from pydantic import ValidationError
from ulid_transform import ulid_now

from voicebus.adapters.database.schema import SESSION_CHARS, USAGE
from voicebus.contracts.envelope import Entry, Message
from voicebus.contracts.journal import (
    EVENTS,
    INTERRUPTED,
    ErrorRecorded,
    EventType,
    GuardrailTripped,
    Handoff,
    ItemRecorded,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    ToolApprovalRequired,
    ToolEnd,
    ToolStart,
    TranscriptGap,
    TurnEnded,
)
from voicebus.errors import ContractError

Row: TypeAlias = dict[str, Any]
Identity: TypeAlias = tuple[str, int, str, int]
"""Session, seq, type and time of an event: what is the same each time that it is delivered."""
Claim: TypeAlias = tuple[str, int, int]
"""Session, seq and epoch: whose an event is, of those that want one place."""

_MAX_SEQ: Final = 2**31 - 1
_MAX_EPOCH: Final = 2**31 - 1
_MAX_AT: Final = 253_402_300_799_000  # the end of the year 9999
_MAX_TOKENS: Final = 2**53
_MODELS: Final[Mapping[str, type[Message]]] = {name.value: model for name, model in EVENTS.items()}

AGENT_EVENTS: Final = (EventType.SESSION_STARTED, EventType.SESSION_RESUMED, EventType.HANDOFF)
"""The events that tell which agent a session is with."""

COUNTED: Final = ("stored", "lost", "turns", *USAGE)
"""Columns of sessions to which each event adds."""

ITEM_FIELDS: Final = (
    "type", "role", "agent", "item_id", "text", "heard_text", "truncated", "start_ms", "end_ms", "tool", "call_id",
    "arguments", "output", "outcome", "worker", "duration_ms", "details",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An entry of an event stream that can be stored. `event` is None for a type that this release does not know;
    `epoch` is its owner's, 0 where that is unknown.
    """

    session: str
    seq: int
    type: str
    at: int
    epoch: int
    data: dict[str, Any]
    event: Message | None

    @classmethod
    def of(cls, entry: Entry) -> "RecordedEvent":
        """Read an entry.

        Raises:
            ContractError: `malformed`; dead-letter the entry.
        """
        if entry.seq is None or entry.seq > _MAX_SEQ:
            raise _malformed(f"a recorded event needs a seq between 1 and {_MAX_SEQ}, this one has {entry.seq}")
        if entry.epoch > _MAX_EPOCH:
            raise _malformed(f"epoch={entry.epoch} is above {_MAX_EPOCH}")
        if not 0 <= entry.at <= _MAX_AT:
            raise _malformed(f"at={entry.at} is no time")
        if not 0 < len(entry.session) <= SESSION_CHARS or len(entry.type) > 64 or "\x00" in entry.session + entry.type:
            raise _malformed(f"session and type must be text of at most {SESSION_CHARS} and 64 characters")
        try:
            data = _without_nul(entry.data)
            event = _event(entry.type, data)
        except RecursionError as error:
            raise _malformed("its data is nested too deeply") from error
        return cls(entry.session, entry.seq, entry.type, entry.at, entry.epoch, data, event)

    @classmethod
    def stored(cls, session: str, seq: int, type_: str, at: int, epoch: int, data: dict[str, Any]) -> "RecordedEvent":
        """One as it is stored.

        Raises:
            ContractError: `malformed`; another release has stored what is none to this one.
        """
        return cls(session, seq, type_, at, epoch, data, _event(type_, data))

    @property
    def identity(self) -> "Identity":
        return self.session, self.seq, self.type, self.at

    @property
    def claim(self) -> "Claim":
        return self.session, self.seq, self.epoch

    def told(self, data: dict[str, Any]) -> "RecordedEvent":
        """The same event with other data.

        Raises:
            ContractError: `malformed`; it is not data of such an event.
        """
        return replace(self, data=data, event=_event(self.type, data))

    def event_row(self) -> Row:
        return {
            "session": self.session,
            "seq": self.seq,
            "type": self.type,
            "at": self.at,
            "epoch": self.epoch,
            "data": self.data,
        }

    def fields(self) -> dict[str, str]:
        """The event as an entry of a stream, under an id of its own."""
        entry = Entry(ulid_now(), self.type, self.session, self.epoch, self.at, self.data, self.seq)
        return entry.fields()

    def session_row(self) -> Row:
        row: Row = {
            "session": self.session,
            "agent": None,
            "tenant": None,
            "model": None,
            "face": None,
            "status": "active",
            "started_at": self.at,
            "ended_at": None,
            "end_reason": None,
            "last_seq": self.seq,
            "epoch": self.epoch,
            "stored": 1,
            "lost": 0,
            "turns": 0,
            **dict.fromkeys(USAGE, 0),
        }
        if isinstance(self.event, SessionStarted | SessionResumed):
            row["agent"] = self.event.agent
            row["tenant"] = self.event.tenant
            if isinstance(self.event, SessionStarted):
                row |= {"model": self.event.model, "face": self.event.face}
        elif isinstance(self.event, TranscriptGap):
            first, last = self.event.first, self.event.last
            row["lost"] = last - first + 1 - (first <= self.seq <= last)
        elif isinstance(self.event, TurnEnded):
            row |= {"turns": 1, **tokens(self.event.usage)}
        elif isinstance(self.event, SessionEnded):
            status = INTERRUPTED if self.event.reason == INTERRUPTED else "ended"
            row |= {"status": status, "ended_at": self.at, "end_reason": self.event.reason}
        return row

    def item_row(self) -> Row | None:
        """The line of the transcript that this event makes or completes; None where it makes none."""
        describe = _ITEMS.get(type(self.event))
        if describe is None or self.event is None:
            return None
        key, fields = describe(self.event)
        row: Row = dict.fromkeys(ITEM_FIELDS)
        row |= {
            "session": self.session,
            "key": key or f"event:{self.seq}",
            "seq": self.seq,
            "revised_seq": self.seq,
            "at": self.at,
        }
        return row | fields

    def turn_row(self) -> Row | None:
        """The model response that ended with this event, if one did."""
        if not isinstance(self.event, TurnEnded):
            return None
        latencies = self.event.latencies
        return {
            "session": self.session,
            "seq": self.seq,
            "at": self.at,
            "response_id": self.event.response_id,
            "agent": self.event.agent,
            "status": self.event.status,
            **{f"{name}_ms": latencies.get(name) for name in ("first_audio", "first_text", "total")},
            **tokens(self.event.usage),
        }


def tokens(usage: Mapping[str, Any] | None) -> dict[str, int]:
    """The columns of `USAGE` from what the model reported; what is no count in it counts as nothing."""

    def count(*path: str) -> int:
        value: Any = usage
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value if isinstance(value, int) and 0 <= value <= _MAX_TOKENS else 0

    return {
        "input_tokens": count("input_tokens"),
        "input_cached_tokens": count("input_token_details", "cached_tokens"),
        "input_audio_tokens": count("input_token_details", "audio_tokens"),
        "output_tokens": count("output_tokens"),
        "output_audio_tokens": count("output_token_details", "audio_tokens"),
    }


def agents_of(events: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """The agents that a session went through, from its `AGENT_EVENTS` (type, data) in the order of `seq`."""
    agents: list[str] = []
    for type_, data in events:
        name = data.get("to_agent" if type_ == EventType.HANDOFF else "agent")
        if isinstance(name, str) and name != (agents[-1] if agents else None):
            agents.append(name)
    return agents


def merge_sessions(rows: Iterable[Row]) -> list[Row]:
    """One row per session, sorted by it (two writers lock in the same order)."""
    merged: dict[str, Row] = {}
    for row in rows:
        known = merged.setdefault(row["session"], row)
        known["started_at"] = min(known["started_at"], row["started_at"])
        for name in ("last_seq", "epoch"):
            known[name] = max(known[name], row[name])
        for name in ("agent", "tenant", "model", "face"):
            known[name] = known[name] or row[name]
        if known is not row:
            for name in COUNTED:
                known[name] += row[name]
        if row["ended_at"] is not None:
            known |= {name: row[name] for name in ("status", "ended_at", "end_reason")}
    return [merged[session] for session in sorted(merged)]


def _event(type_: str, data: Mapping[str, Any]) -> Message | None:
    model = _MODELS.get(type_)
    try:
        return model.model_validate(data) if model else None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _malformed(f"{type_}.{where}: {first['msg']}") from error


def _malformed(text: str) -> ContractError:
    return ContractError(text, reason="malformed")


def _without_nul(value: Any) -> Any:
    """PostgreSQL stores no U+0000 in text; one in an event must not hold up the others."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, Mapping):
        return {_without_nul(name): _without_nul(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_nul(inner) for inner in value]
    return value


def _message(event: ItemRecorded) -> tuple[str, Row]:
    return f"item:{event.item_id}", {
        "type": "message", "role": event.role, "agent": event.agent, "item_id": event.item_id, "text": event.text,
        "heard_text": event.heard_text, "truncated": event.truncated, "start_ms": event.started_ms,
        "end_ms": event.ended_ms, "details": {"withheld": True} if event.withheld else None,
    }  # fmt: skip


def _tool_asked(event: ToolApprovalRequired) -> tuple[str, Row]:
    """A call that waits for a person is in the transcript already, without an outcome."""
    return f"call:{event.call_id}", {
        "type": "tool_call", "agent": event.agent, "tool": event.tool, "call_id": event.call_id,
        "arguments": event.arguments, "start_ms": event.at_ms,
    }  # fmt: skip


def _tool_start(event: ToolStart) -> tuple[str, Row]:
    return f"call:{event.call_id}", {
        "type": "tool_call", "agent": event.agent, "item_id": event.item_id, "start_ms": event.started_ms,
        "tool": event.tool, "call_id": event.call_id, "arguments": event.arguments,
    }  # fmt: skip


def _tool_end(event: ToolEnd) -> tuple[str, Row]:
    return f"call:{event.call_id}", {
        "type": "tool_call", "agent": event.agent, "item_id": event.item_id, "start_ms": event.started_ms,
        "end_ms": event.ended_ms, "tool": event.tool, "call_id": event.call_id, "arguments": event.arguments,
        "output": event.output, "outcome": event.outcome.value, "worker": event.worker,
        "duration_ms": max(0, event.ended_ms - event.started_ms),
    }  # fmt: skip


def _handoff(event: Handoff) -> tuple[str | None, Row]:
    return None, {
        "type": "handoff", "agent": event.from_agent, "text": f"{event.from_agent} -> {event.to_agent}",
        "call_id": event.call_id, "start_ms": event.at_ms, "end_ms": event.at_ms,
        "details": {"to_agent": event.to_agent},
    }  # fmt: skip


def _guardrail(event: GuardrailTripped) -> tuple[str | None, Row]:
    return None, {
        "type": "guardrail", "agent": event.agent, "item_id": event.item_id, "text": event.message,
        "outcome": ", ".join(event.guardrails), "start_ms": event.at_ms, "end_ms": event.at_ms,
        "details": {
            "stage": event.stage, "response_id": event.response_id, "info": event.info, "withheld": event.withheld,
        },
    }  # fmt: skip


def _error(event: ErrorRecorded) -> tuple[str | None, Row]:
    return None, {
        "type": "error", "text": event.message, "outcome": event.code, "start_ms": event.at_ms, "end_ms": event.at_ms,
        "details": {"source": event.source},
    }  # fmt: skip


_ITEMS: Final[Mapping[type[Any], Callable[[Any], tuple[str | None, Row]]]] = {
    ItemRecorded: _message,
    ToolApprovalRequired: _tool_asked,
    ToolStart: _tool_start,
    ToolEnd: _tool_end,
    Handoff: _handoff,
    GuardrailTripped: _guardrail,
    ErrorRecorded: _error,
}
