"""Entries and messages travel unharmed; what cannot be read is refused with a reason."""

import contextlib
import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebus.contracts import commands, guardrails, journal, tools
from voicebus.contracts.envelope import VERSION, Entry, Message
from voicebus.contracts.journal import EVENTS, EventType
from voicebus.errors import ContractError

EXAMPLES: list[Message] = [
    tools.ToolCall(call_id="c", tool="t", arguments='{"a": 1}', agent="a", reply_to="r", context={"user": "u"}),
    tools.Caller(tenant="acme", subject="desk"),
    tools.ToolStarted(call_id="c", worker="w"),
    tools.ToolProgress(call_id="c", text="half done"),
    tools.ToolFailure(kind="raised", message="no"),
    tools.ToolResult(
        call_id="c", outcome=tools.Outcome.ERROR, output="o", worker="w", duration_ms=3,
        error=tools.ToolFailure(kind="raised", message="no"), context={"nights": {"before": 1, "after": 2}},
    ),
    tools.ToolCancel(call_id="c", reason="hangup"),
    tools.ToolHandover(call_id="c", queue="default", entry_id="1-0"),
    tools.ToolHandover(call_id="c", queue="q", entry_id="1-0"),
    tools.ToolFollow(call_id="c", reply_to="vb:inbox:{g}"),
    tools.ToolRegistration(
        name="t", description="d", parameters={"type": "object"}, queue="q", timeout_ms=1, workers=["w"], at=1
    ),
    guardrails.GuardrailCheck(
        check_id="k", response_id="r", item_id="i", agent="a", guardrails=["g"], text="text", final=True, reply_to="x"
    ),
    guardrails.GuardrailResult(name="g", tripped=True, info={"why": [1]}),
    guardrails.GuardrailVerdict(
        check_id="k", response_id="r", worker="w", duration_ms=1,
        results=[guardrails.GuardrailResult(name="g", tripped=False, error="raised")],
    ),
    commands.SessionCommand.model_validate({"command_id": "1", "command": "send_message", "text": "hello"}),
    commands.SessionAnswer(command_id="1", error=commands.CommandFailure(code="unknown_call", message="no such call")),
    commands.SessionTaken(gateway="g-2-abcdef"),
    commands.CommandFailure(code="unknown_call", message="no such call"),
    journal.SessionStarted(agent="a", model="m", face="openai", audio={"input": {"type": "audio/pcm"}}),
    journal.SessionResumed(agent="a", from_seq=7),
    journal.ItemRecorded(item_id="i", role="user", agent="a", text="Grüße", started_ms=0, ended_ms=1),
    journal.ToolApprovalRequired(call_id="c", tool="t", arguments="{}", agent="a"),
    journal.DecidedBy(via="http", tenant="acme", key_id="ops"),
    journal.ToolApprovalDecided(call_id="c", approved=True, tool="t", by=journal.DecidedBy(via="client"), at_ms=5),
    journal.ToolStart(call_id="c", item_id="i", tool="t", arguments="{}", agent="a", started_ms=1),
    journal.ToolEnd(
        call_id="c", item_id="i", tool="t", arguments="{}", agent="a", output="o", outcome=tools.Outcome.UNKNOWN,
        started_ms=1, ended_ms=2,
    ),
    journal.Handoff(from_agent="a", to_agent="b", at_ms=1),
    journal.GuardrailTripped(response_id="r", item_id="i", agent="a", guardrails=["g"], message="m", at_ms=1),
    journal.TurnEnded(response_id="r", agent="a", status="completed", latencies={"first_audio": 1.5}),
    journal.ErrorRecorded(code="c", message="m", source="tool", at_ms=1),
    journal.ModelReconnecting(cause="lost", attempt=1),
    journal.ModelReconnected(attempt=1),
    journal.TranscriptGap(first=3, last=4),
    commands.Resend.model_validate({"from": 3, "to": 4}),
    journal.SessionEnded(reason="hangup", duration_ms=1),
]  # fmt: skip

FIELDS = {"v": "1", "id": "x", "type": "t", "session": "s", "epoch": "1", "at": "1", "data": "{}"}

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


def test_every_message_has_an_example_here() -> None:
    defined = {
        cls
        for module in (tools, guardrails, commands, journal)
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, Message) and cls is not Message
    }
    assert {type(example) for example in EXAMPLES} == defined


def test_every_recorded_event_has_its_model() -> None:
    assert set(EVENTS) == set(EventType)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_journey(message: Message) -> None:
    entry = Entry(id="x", type="t", session="s", epoch=1, at=1, data=message.model_dump(mode="json"))
    assert type(message).of(Entry.parse(entry.fields())) == message


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_fields_of_a_later_version_are_no_error(message: Message) -> None:
    data = message.model_dump(mode="json") | {"added_later": True}
    entry = Entry(id="x", type="t", session="s", epoch=1, at=1, data=data)
    read = type(message).of(Entry.parse(entry.fields()))
    assert set(message.model_dump()) <= set(read.model_dump())


@given(
    entry=st.builds(
        Entry, v=st.just(VERSION), id=text, type=text, session=text, epoch=st.integers(0, 2**53),
        seq=st.none() | st.integers(1, 2**53), at=st.integers(0, 2**53), deadline=st.none() | st.integers(0, 2**53),
        traceparent=st.none() | text, data=st.dictionaries(text, json, max_size=4),
    )
)  # fmt: skip
def test_an_entry_survives_the_journey(entry: Entry) -> None:
    fields = entry.fields()
    assert all(isinstance(value, str) for value in fields.values())
    assert Entry.parse(fields) == entry


@given(st.dictionaries(st.sampled_from([*FIELDS, "seq", "deadline", "other"]), text))
def test_reading_anything_at_all_raises_contract_errors_only(fields: dict[str, str]) -> None:
    with contextlib.suppress(ContractError):
        Entry.parse(FIELDS | fields)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"v": "2"}, "unsupported_version"), ({"v": "999999999999"}, "unsupported_version"), ({"v": ""}, "malformed"),
        ({"v": "9" * 5000}, "unsupported_version"), ({"v": "\u00b2"}, "malformed"), ({"v": "\u0661"}, "malformed"),
        ({"v": "one"}, "malformed"), ({"data": "[]"}, "malformed"), ({"data": "{"}, "malformed"),
        ({"epoch": "-1"}, "malformed"), ({"seq": "0"}, "malformed"), ({"at": "now"}, "malformed"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_a_reason(changed: dict[str, str], reason: str) -> None:
    with pytest.raises(ContractError) as caught:
        Entry.parse(FIELDS | changed)
    assert caught.value.reason == reason


@pytest.mark.parametrize("missing", ["v", "id", "type", "session", "epoch", "at", "data"])
def test_a_missing_field_is_malformed(missing: str) -> None:
    with pytest.raises(ContractError) as caught:
        Entry.parse({name: value for name, value in FIELDS.items() if name != missing})
    assert caught.value.reason == "malformed"


def test_half_a_surrogate_pair_that_a_worker_in_javascript_left_is_a_question_mark() -> None:
    half = r'{"call_id": "c", "outcome": "ok", "output": "so \ud83d", "worker": "w", "duration_ms": 1}'
    assert tools.ToolResult.of(Entry.parse(FIELDS | {"data": half})).output == "so ?"
    assert tools.ToolResult.stored(half).output == "so ?"
    with pytest.raises(ContractError, match="data"):
        Entry.parse(FIELDS | {"data": half.removesuffix("}")})


def test_fractions_of_a_millisecond_are_no_reason_to_refuse_a_result() -> None:
    result = {"call_id": "c", "outcome": "ok", "output": "o", "worker": "w", "duration_ms": 12.7}
    assert tools.ToolResult.model_validate(result).duration_ms == 13


def test_data_of_another_message_is_malformed() -> None:
    with pytest.raises(ContractError, match=r"^t: call_id: Field required$"):
        tools.ToolCall.of(Entry.parse(FIELDS))


def test_a_command_keeps_its_own_fields() -> None:
    data: dict[str, Any] = {"command_id": "1", "command": "playback", "item_id": "i", "played_ms": 5}
    assert commands.SessionCommand.model_validate(data).arguments == {"item_id": "i", "played_ms": 5}


def test_of_what_is_too_long_to_be_told_to_a_session_the_beginning_is_kept_and_a_result_is_an_error() -> None:
    progress = tools.ToolProgress(call_id="c", text="p" * (tools.MAX_PROGRESS + 1))
    assert progress.text == "p" * (tools.MAX_PROGRESS - 1) + "…"
    largest = tools.ToolResult(
        call_id="c", outcome=tools.Outcome.OK, output="o" * tools.MAX_RESULT, worker="w", duration_ms=3
    )
    assert largest.bounded() is largest
    larger = largest.model_copy(update={"output": largest.output + "o"}).bounded()
    assert larger.outcome is tools.Outcome.ERROR
    assert larger.error is not None
    assert larger.error.kind == "output_too_large"
    assert len(larger.output) < 200
