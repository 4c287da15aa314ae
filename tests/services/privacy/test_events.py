"""Recorded events without what their tenant does not keep: every part of every type is either text or a name."""

from collections import Counter
from typing import Any

import pytest

from support.recorded import entry, recorded, said, tool_end
from voicebus.adapters.database.lines import RecordedEvent
from voicebus.contracts.journal import EVENTS, EventType
from voicebus.detection import detector
from voicebus.errors import ContractError
from voicebus_services.privacy.events import NAMES, redacted_event, redacted_fields
from voicebus_services.privacy.redaction import Redaction, Rule

RULES = Redaction([Rule("email", detector("email"), "[email]")])
TEXTS = {
    "item_recorded": {"text", "heard_text"},
    "tool_approval_required": {"arguments"},
    "tool_approval_decided": {"message"},
    "tool_start": {"arguments"},
    "tool_end": {"arguments", "output"},
    "guardrail_tripped": {"message", "info"},
    "error": {"message"},
}


def redacted(event: RecordedEvent) -> dict[str, Any]:
    return redacted_event(lambda _: RULES, "acme", event, Counter()).data


@pytest.mark.parametrize("type_", list(EventType))
def test_every_part_of_an_event_is_a_name_or_a_text(type_: EventType) -> None:
    fields = set(EVENTS[type_].model_fields)
    assert NAMES[type_] == fields - TEXTS.get(type_.value, set())


@pytest.mark.parametrize(
    ("type_", "data", "part"),
    [
        ("tool_approval_required", {"call_id": "c", "tool": "t", "agent": "a"}, "arguments"),
        ("tool_start", {"call_id": "c", "item_id": "i", "tool": "t", "agent": "a", "started_ms": 1}, "arguments"),
        ("tool_approval_decided", {"call_id": "c", "approved": False}, "message"),
        ("error", {"code": "c", "source": "tool", "at_ms": 1}, "message"),
        (
            "guardrail_tripped",
            {"response_id": "r", "item_id": "i", "agent": "a", "guardrails": ["g"], "at_ms": 1},
            "message",
        ),
        ("session_ended", {"reason": "hangup", "duration_ms": 1}, "what_a_later_release_adds"),
        ("of_a_later_release", {}, "anything"),
    ],
)
def test_texts_of_every_type_lose_it(type_: str, data: dict[str, Any], part: str) -> None:
    (event,) = recorded(entry("s1", 2, type_, {**data, part: "ann@example.org asks"}))
    assert redacted(event) == {**data, part: "[email] asks"}


def test_what_is_nested_too_deeply_is_refused_and_ends_nobody() -> None:
    refused: list[ContractError] = []
    for depth in range(400, 900, 10):
        nested: Any = "ann@example.org"
        for _ in range(depth):
            nested = [nested]
        event = entry("s1", 2, "of_a_later_release", {"anything": nested})
        try:
            assert "ann" not in str(redacted(RecordedEvent.of(event)))
        except ContractError as error:
            refused.append(error)
    assert 0 < len(refused) < 50
    assert {(error.reason, str(error)) for error in refused} == {("malformed", "its data is nested too deeply")}


def test_what_was_said_and_heard_a_tool_call_and_a_rules_findings_lose_it() -> None:
    (item,) = recorded(said("s1", 2, "user", "I am ann@example.org", start=1, heard_text="I am ann@exa"))
    assert (redacted(item)["text"], redacted(item)["heard_text"]) == ("I am [email]", "I am [email]")
    (call,) = recorded(tool_end("s1", 3, output='{"to": "ann@example.org"}'))
    assert redacted(call)["output"] == '{"to": "[email]"}'
    trip = {"response_id": "r", "item_id": "i", "agent": "a", "guardrails": ["g"], "at_ms": 1, "message": ""}
    (tripped,) = recorded(entry("s1", 4, "guardrail_tripped", {**trip, "info": {"g": {"ann@example.org": 1}}}))
    assert redacted(tripped)["info"] == {"g": {"[email]": 1}}


def test_an_event_without_any_is_the_same_one() -> None:
    (event,) = recorded(said("s1", 2, "user", "Hello", start=1))
    assert redacted_event(lambda _: RULES, None, event, Counter()) is event


def test_an_entry_that_cannot_be_read_loses_it_too_and_keeps_its_place() -> None:
    fields = {
        "v": "1",
        "id": "x",
        "session": "s1",
        "seq": "2",
        "data": '{"text": "ann\\u0040example.org"',
        "why": "a@b.de",
    }
    assert redacted_fields(RULES, fields) == {**fields, "data": fields["data"], "why": "[email]"}
