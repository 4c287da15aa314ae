"""What a model of transport EVENTS says and tells of late, or never, is in the history and the record all the same."""

from typing import Any

import pytest

from support.talk import Talk, agent
from voicebus.contracts.guardrails import GuardrailResult
from voicebus.engine.config import GuardrailMode, GuardrailSpec, Transport
from voicebus.engine.outputs import DispatchCheck, ForwardAudio, StopModel


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


def test_sound_that_comes_behind_the_end_of_its_turn_is_heard_and_told_to_have_ended() -> None:
    talk = talking()
    talk.says("Hello")
    talk.ends()
    talk.sounds(500)
    talk.sounds(500)
    talk.model("response.output_audio.done", response_id="resp_1", item_id="item_a", content_index=0)
    where = {"item_id": "item_a", "content_index": 0}
    assert talk.of(ForwardAudio) == [ForwardAudio("resp_1", "item_a", 0, 0)] * 2
    assert [talk.emitted(f"audio_{kind}") for kind in ("start", "end", "stopped")] == [[where]] * 3
    assert len(talk.emitted("agent_start")) == len(talk.emitted("agent_end")) == 1


def test_words_that_come_behind_the_end_of_their_turn_are_told_judged_and_kept() -> None:
    talk = talking(guardrails=[GuardrailSpec("rude", debounce=-1)])
    talk.says("Hello")
    talk.ends()
    talk.says(" there")
    assert [event["text"] for event in talk.emitted("transcript_delta")] == ["Hello", "Hello there"]
    assert [(check.text, check.final) for check in talk.of(DispatchCheck)] == [("Hello", True), ("Hello there", True)]
    assert content(talk) == [["Hello there"]]


def test_an_item_of_which_all_is_late_is_complete_and_keeps_no_other_line_waiting() -> None:
    talk = talking()
    talk.ends()
    talk.sounds(1000)
    talk.says("Hello")
    talk.timer("heard")
    assert [item["status"] for item in talk.session.history] == ["completed"]
    assert talk.lines() == [("assistant", "Hello", None, False)]


def test_what_a_guardrail_has_stopped_after_its_turn_is_heard_no_more() -> None:
    talk = talking(guardrails=[GuardrailSpec("rude", debounce=-1)])
    talk.says("Hello")
    talk.ends()
    talk.sounds(500)
    talk.verdict(talk.of(DispatchCheck)[-1].check_id, GuardrailResult(name="rude", tripped=True))
    assert talk.of(StopModel) == [StopModel("resp_1", cancel=False, truncate=True)]
    talk.sounds(500)
    talk.says(" there")
    talk.model("response.output_audio.done", response_id="resp_1", item_id="item_a", content_index=0)
    assert len(talk.of(ForwardAudio)) == len(talk.emitted("transcript_delta")) == 1
    assert len(talk.emitted("audio_end")) == 1


def test_what_names_no_turn_while_none_runs_is_of_the_last_one() -> None:
    talk = talking()
    talk.ends()
    talk.says("Hello", response="")
    talk.sounds(500, response="")
    assert content(talk) == [["Hello"]]
    assert len(talk.of(ForwardAudio)) == 1
    assert len(talk.emitted("agent_start")) == 1


def test_what_names_no_turn_before_there_was_any_begins_one_that_may_be_named_later() -> None:
    talk = Talk(transport=Transport.EVENTS)
    talk.says("Hello", response="")
    talk.model("response.created", response={"id": "resp_1"})
    talk.says(" there")
    talk.ends()
    (ended,) = talk.emitted("agent_end")
    assert (ended["output"], len(talk.emitted("agent_start"))) == ("Hello there", 1)


@pytest.mark.parametrize(("tripped", "shown"), [(True, [["Hello"]]), (False, [["Hello there"]])])
def test_late_words_that_a_guardrail_holds_back_are_known_once_they_were_let_pass(tripped: bool, shown: Any) -> None:
    talk = talking(guardrails=[GuardrailSpec("rude", mode=GuardrailMode.HOLD, debounce=-1)])

    def judge(trips: bool) -> None:
        talk.verdict(talk.of(DispatchCheck)[-1].check_id, GuardrailResult(name="rude", tripped=trips))

    talk.says("Hello")
    talk.ends()
    judge(False)
    talk.sounds(500)
    assert len(talk.of(ForwardAudio)) == 1, "its words were judged"
    talk.says(" there")
    talk.sounds(500)
    assert (content(talk), len(talk.of(ForwardAudio))) == ([["Hello"]], 1)
    judge(tripped)
    assert (content(talk), len(talk.of(ForwardAudio))) == (shown, 1 if tripped else 2)
    assert not talk.kept
