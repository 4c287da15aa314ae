"""What a model of transport EVENTS says and tells of late, or never, is in the history and the record all the same."""

from typing import Any

import pytest

from support.talk import Talk, agent
from voicebus.contracts.guardrails import GuardrailResult
from voicebus.engine.config import GuardrailMode, GuardrailSpec, Transport
from voicebus.engine.outputs import DispatchCheck


def talking(**fields: Any) -> Talk:
    talk = Talk(agent(**fields), transport=Transport.EVENTS)
    talk.model("response.created", response={"id": "resp_1"})
    return talk


def tells(talk: Talk, *content: dict[str, Any], status: str = "completed", kind: str = "done") -> None:
    item = {"id": "item_a", "type": "message", "role": "assistant", "content": list(content), "status": status}
    talk.model(f"conversation.item.{kind}", item=item)


def content(talk: Talk) -> list[Any]:
    """What the history shows of each item."""
    return [[part.get("transcript") or part.get("text") for part in item["content"]] for item in talk.session.history]


@pytest.mark.parametrize("told", [[], [{"type": "audio"}], [{"type": "audio", "transcript": ""}]])
@pytest.mark.parametrize("after", [False, True])
def test_an_item_that_is_told_of_without_its_words_has_those_that_were_spoken(told: Any, after: bool) -> None:
    talk = talking()
    talk.says("Hello ")
    talk.says("there")
    if after:
        talk.ends()
    tells(talk, *told)
    (_, update) = talk.emitted("history_updated")
    assert [part["transcript"] for part in update["history"][0]["content"]] == ["Hello there"]
    assert not talk.emitted("history_added"), "it was there already, as with its peer"


def test_words_alone_are_an_item_that_is_complete_when_the_turn_is() -> None:
    talk = talking()
    talk.says("Hello")
    assert [item["status"] for item in talk.session.history] == ["in_progress"]
    talk.ends()
    assert content(talk) == [["Hello"]]
    assert [item["status"] for item in talk.session.history] == ["completed"]
    assert not talk.emitted("history_added")
    assert talk.emitted("history_updated") == [{"history": []}], "that of the beginning"


@pytest.mark.parametrize("spoken", [True, False])
def test_words_alone_are_recorded_whole(spoken: bool) -> None:
    talk = talking()
    talk.says("Hello", spoken=spoken)
    talk.ends()
    assert talk.lines() == [("assistant", "Hello", None, False)]


def test_what_is_written_waits_for_its_item() -> None:
    talk = talking()
    talk.says("Hello", spoken=False)
    assert content(talk) == []
    tells(talk, {"type": "text", "text": "Hello"})
    (added,) = talk.emitted("history_added")
    assert added["item"]["content"] == [{"type": "text", "text": "Hello"}]


def test_an_item_whose_end_is_not_told_ends_with_its_turn() -> None:
    talk = talking()
    tells(talk, {"type": "audio"}, status="in_progress", kind="added")
    talk.says("Hello")
    talk.ends()
    assert [item["status"] for item in talk.session.history] == ["completed"]
    assert talk.lines() == [("assistant", "Hello", None, False)]


def test_what_the_model_calls_incomplete_stays_so() -> None:
    talk = talking()
    talk.says("Hello th")
    tells(talk, {"type": "audio"}, status="incomplete")
    talk.ends()
    assert [item["status"] for item in talk.session.history] == ["incomplete"]


@pytest.mark.parametrize(("tripped", "shown"), [(True, []), (False, [["Hello"]])])
def test_what_a_guardrail_holds_back_is_in_the_history_once_it_was_let_pass(tripped: bool, shown: Any) -> None:
    talk = talking(guardrails=[GuardrailSpec("rude", mode=GuardrailMode.HOLD, debounce=-1)])
    talk.says("Hello")
    talk.ends()
    assert content(talk) == []
    talk.verdict(talk.of(DispatchCheck)[-1].check_id, GuardrailResult(name="rude", tripped=tripped))
    assert content(talk) == shown
