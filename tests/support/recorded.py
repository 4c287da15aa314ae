"""Recorded events of made-up conversations, as their owner would write them."""

from typing import Any

from voicebus.adapters.database.lines import RecordedEvent
from voicebus.contracts.envelope import Entry

STARTED_AT = 1_700_000_000_000


def entry(session: str, seq: int | None, type_: str, data: dict[str, Any], *, at: int | None = None) -> Entry:
    """An entry of the event stream, `seq` * 100 ms into the session unless `at` says otherwise."""
    moment = STARTED_AT + 100 * (seq or 0) if at is None else at
    return Entry(id=f"01{session}{seq}", type=type_, session=session, epoch=1, seq=seq, at=moment, data=data)


def started(session: str, seq: int = 1, *, agent: str = "front_desk", at: int | None = None) -> Entry:
    audio = {"input": {"type": "audio/pcm", "rate": 24000}, "output": {"type": "audio/pcm", "rate": 24000}}
    data = {"agent": agent, "model": "gpt-realtime-2.1", "face": "native", "audio": audio}
    return entry(session, seq, "session_started", data, at=at)


def said(session: str, seq: int, role: str, text: str, *, start: int, item: str = "", **more: Any) -> Entry:
    data = {"item_id": item or f"item_{seq}", "role": role, "agent": "front_desk", "text": text}
    return entry(session, seq, "item_recorded", {**data, "started_ms": start, "ended_ms": start + 500, **more})


def ended(session: str, seq: int, reason: str = "hangup") -> Entry:
    return entry(session, seq, "session_ended", {"reason": reason, "duration_ms": 100 * seq})


def tool_start(session: str, seq: int, call: str = "call_1", *, start: int = 300) -> Entry:
    data = {"call_id": call, "item_id": f"fc_{call}", "tool": "get_weather", "arguments": '{"city": "Paris"}'}
    return entry(session, seq, "tool_start", {**data, "agent": "front_desk", "started_ms": start})


def tool_end(session: str, seq: int, call: str = "call_1", *, start: int = 300, output: str = "sunny") -> Entry:
    data = {"call_id": call, "item_id": f"fc_{call}", "tool": "get_weather", "arguments": '{"city": "Paris"}'}
    ends = {"output": output, "outcome": "ok", "worker": "w-1", "started_ms": start, "ended_ms": start + 40}
    return entry(session, seq, "tool_end", {**data, "agent": "front_desk", **ends})


def conversation(session: str, *, at: int | None = None) -> list[Entry]:
    """A whole short call of eight events: a question, a tool call, the answer; the user's words are recorded late."""
    return [
        started(session, at=at),
        tool_start(session, 2),
        said(session, 3, "user", "What is the weather in Paris?", start=100),
        tool_end(session, 4),
        said(session, 5, "assistant", "It is sunny in Paris.", start=700),
        entry(session, 6, "turn_ended", {"response_id": "resp_1", "agent": "front_desk", "status": "completed"}),
        said(session, 7, "user", "Thanks, bye.", start=1900),
        ended(session, 8),
    ]


def recorded(*entries: Entry) -> list[RecordedEvent]:
    return [RecordedEvent.of(each) for each in entries]
