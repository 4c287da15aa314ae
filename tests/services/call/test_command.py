"""When a call is answered, and what it prints."""

from typing import Any

import pytest

from voicebus.errors import UsageError
from voicebus_services.call.command import Progress
from voicebus_services.call.conversation import native_url


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


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://h:1", "ws://h:1/v1/sessions/connect?agent=a+b"),
        ("https://h/", "wss://h/v1/sessions/connect?agent=a+b"),
        ("ws://h/other?raw=1", "ws://h/other?raw=1&agent=a+b"),
    ],
)
def test_a_gateways_address_leads_to_its_native_face(url: str, address: str) -> None:
    assert native_url(url, "a b") == address


@pytest.mark.parametrize("url", ["ftp://h", "nonsense", "http://"])
def test_what_is_no_gateway_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="no gateway address"):
        native_url(url, None)
