"""When a call is answered, what it prints, and that it ends where nothing more can come."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from voicebus.errors import RemoteError
from voicebus_services.call import command
from voicebus_services.call.command import CallOptions, Progress, _show, run_call


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


class Silent:
    """A gateway's conversation in which nobody answers; it ends as its client hangs up."""

    session, close_code, close_reason = "S", 1000, ""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._over = asyncio.Event()

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        await self._over.wait()
        yield {"type": "session_ended", "reason": "ended"}

    async def say(self, text: str) -> None:
        self.said.append(text)

    async def hang_up(self) -> None:
        self._over.set()


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Silent:
    conversation = Silent()

    @asynccontextmanager
    async def opened(*_: object, **__: object) -> AsyncIterator[Silent]:
        yield conversation

    monkeypatch.setattr(command, "open_conversation", opened)
    return conversation


async def test_lines_of_a_file_are_waited_for_no_longer_than_any_answer(
    silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\nare you there?\n"))
    with pytest.raises(RemoteError, match=r"no complete answer within 0.05 s \(session S\)"):
        await run_call(CallOptions("http://127.0.0.1:1", timeout_s=0.05), out=lambda _: None)
    assert silent.said == ["hello"]


async def test_a_line_that_is_no_utf8_is_said_as_far_as_it_can_be_read(
    silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Caracas\xe9\n"), encoding="utf-8"))
    with pytest.raises(RemoteError):
        await run_call(CallOptions("http://127.0.0.1:1", timeout_s=0.05), out=lambda _: None)
    assert silent.said == ["Caracas\N{REPLACEMENT CHARACTER}"]


async def test_a_microphone_that_fails_ends_the_call(silent: Silent, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unplugged:
        async def chunks(self) -> AsyncIterator[bytes]:
            raise OSError("unplugged")
            yield b""

        def close(self) -> None: ...

    monkeypatch.setattr(command, "open_microphone", Unplugged)
    with pytest.raises(OSError, match="unplugged"):
        await run_call(CallOptions("http://127.0.0.1:1", mic=True), out=lambda _: None)
