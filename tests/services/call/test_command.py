"""When a call is answered, and what it prints."""

from typing import Any

import pytest

from voicebus_services.call.command import Progress, _show


def after(*events: dict[str, Any]) -> Progress:
    progress = Progress()
    for event in events:
        progress.note(event)
    return progress


ASSISTANT = {"type": "item_recorded", "role": "assistant", "text": "hello"}
USER = {"type": "item_recorded", "role": "user", "text": "hi"}


def test_a_call_is_settled_once_an_answer_was_heard_and_nothing_runs() -> None:
    assert not after().settled
    assert not after(USER).settled
    assert after(USER, ASSISTANT).settled
    assert not after(USER, ASSISTANT, {"type": "agent_start"}).settled
    assert after(USER, {"type": "agent_start"}, {"type": "turn_ended"}, ASSISTANT).settled


def test_a_preamble_before_a_tool_is_no_answer_yet() -> None:
    start, end = {"type": "tool_start", "call_id": "c"}, {"type": "tool_end", "call_id": "c"}
    assert not after(USER, ASSISTANT, start).settled
    assert not after(USER, ASSISTANT, start, end).settled
    assert after(USER, ASSISTANT, start, end, ASSISTANT).settled


def test_a_handoff_waits_for_the_new_agents_word() -> None:
    assert not after(USER, ASSISTANT, {"type": "handoff"}).settled


def test_a_refusal_is_told_with_what_to_do() -> None:
    unknown = {"type": "error", "code": "unknown_agent", "message": "there is no agent 'x' here"}
    keyless = {"type": "error", "code": "credentials", "message": "send a credential"}
    assert after(unknown).failure == "there is no agent 'x' here; GET /v1/agents of the gateway lists them"
    assert after(keyless).failure == "send a credential; --api-key-file names the file with the key"


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (
            {"type": "tool_approval_required", "tool": "pay", "arguments": "{}", "session": "S", "call_id": "c1"},
            "approval: pay({}) waits for POST /v1/sessions/S/tool-calls/c1/approve, or /reject, at the gateway",
        ),
        ({"type": "tool_progress", "tool": "search", "text": "half of it"}, "progress: search: half of it"),
        (
            {"type": "guardrail_tripped", "guardrails": ["no_cards", "polite"]},
            "guardrail: no_cards, polite forbade the answer",
        ),
        ({"type": "input_guardrail_tripped", "guardrails": ["calm"]}, "guardrail: calm forbade what the user said"),
        ({"type": "model_reconnecting"}, "model reconnecting"),
        (
            {"type": "error", "code": "tool_error", "message": "a\x1b]0;title\x07"},
            "error: tool_error: a\ufffd]0;title\ufffd",
        ),
    ],
)
def test_who_calls_is_told_why_the_conversation_waits_or_turns(
    event: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    _show(event, False, lines.append)
    assert capsys.readouterr().err == f"{told}\n"
    assert lines == []
