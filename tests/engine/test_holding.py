"""Guardrails of mode `hold`: nothing of an answer is known to anybody before it was judged whole (contract 8)."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from support.talk import Talk, agent, tool
from voicebus.contracts.guardrails import GuardrailResult
from voicebus.contracts.journal import EventType
from voicebus.contracts.tools import ToolResult
from voicebus.engine import holding
from voicebus.engine.config import Face, GuardrailMode, GuardrailSpec, Transport
from voicebus.engine.inputs import (
    AudioInterrupted,
    End,
    Interrupt,
    ModelAudio,
    Playback,
    ToolResultArrived,
    UpdateAgent,
)
from voicebus.engine.outputs import (
    ConcealInput,
    DispatchCheck,
    DispatchTool,
    Emit,
    ForwardAudio,
    HoldInput,
    Output,
    Record,
    ReturnInputs,
    StopModel,
    ToClient,
)
from voicebus.engine.state import State

HOLD = GuardrailSpec("rude", mode=GuardrailMode.HOLD, debounce=-1)
NO = GuardrailResult(name="rude", tripped=True, info="bad word")
YES = GuardrailResult(name="rude", tripped=False)


def held(*guardrails: GuardrailSpec, **config: Any) -> Talk:
    return Talk(agent(guardrails=guardrails or (HOLD,), tools=[tool()]), **config).asked()


def on_openai(*guardrails: GuardrailSpec) -> Talk:
    talk = Talk(agent(guardrails=guardrails or (HOLD,), tools=[tool()]), face=Face.OPENAI).live()
    talk.client("response.create")
    talk.begins()
    return talk


def check(talk: Talk) -> str:
    return talk.of(DispatchCheck)[-1].check_id


def leaked(talk: Talk, *words: str) -> list[Output]:
    """What clients were told that holds one of `words`, or audio. Records that are marked withheld are not for them."""
    told = [output for output in talk.all if isinstance(output, Emit | ToClient | Record | ForwardAudio)]
    told = [output for output in told if not (isinstance(output, Record) and getattr(output.data, "withheld", False))]
    return [
        output for output in told if isinstance(output, ForwardAudio) or any(word in repr(output) for word in words)
    ]


def speak(talk: Talk, text: str = "Damn you all", ms: float = 1000, item: str = "item_a") -> None:
    """A whole spoken answer, as servers send it."""
    where: dict[str, Any] = {"response_id": "resp_1", "item_id": item, "output_index": 0, "content_index": 0}
    talk.item_begins(item)
    talk.model("response.content_part.added", part={"type": "audio", "transcript": ""}, **where)
    talk.says(text, item)
    talk.sounds(ms / 2, item)
    talk.sounds(ms / 2, item)
    talk.model("response.output_audio.done", **where)
    talk.said(text, item)
    talk.model("response.content_part.done", part={"type": "audio", "transcript": text}, **where)
    talk.item_ends(text, item)


def test_nothing_of_an_answer_is_known_before_its_verdict() -> None:
    talk = held(raw_events=True)
    speak(talk)
    talk.ends(
        output=[{"id": "item_a", "type": "message", "role": "assistant", "content": [{"transcript": "Damn you"}]}]
    )
    assert leaked(talk, "Damn") == []
    assert [(one.text, one.final) for one in talk.of(DispatchCheck)] == [("Damn you all", True)]


def test_what_has_passed_is_told_in_order_and_played_from_then_on() -> None:
    talk = held(raw_events=True)
    speak(talk, "Good day", 1000)
    talk.ends()
    talk.now += 1.5
    talk.verdict(check(talk), YES)
    kinds = [output.type if isinstance(output, Emit) else type(output).__name__ for output in talk.last]
    told = [kind for kind in kinds if kind in ("transcript_delta", "ForwardAudio", "audio_end", "agent_end")]
    assert told == ["transcript_delta", "ForwardAudio", "ForwardAudio", "audio_end", "agent_end"]
    assert talk.emitted("transcript_delta") == [
        {"item_id": "item_a", "role": "assistant", "delta": "Good day", "text": "Good day"}
    ]
    talk.now += 0.5
    talk.model("input_audio_buffer.speech_started", item_id="item_u")
    assert talk.sent("conversation.item.truncate", talk.last)[0]["audio_end_ms"] == 500, "played since its release"


def test_a_trip_leaves_nothing_to_hear_and_tells_the_model_why() -> None:
    talk = held(raw_events=True)
    speak(talk)
    talk.verdict(check(talk), NO)
    assert talk.sent_types() == ["response.cancel", "conversation.item.truncate", "conversation.item.create"]
    assert talk.sent("conversation.item.truncate", talk.last)[0]["audio_end_ms"] == 0
    talk.sounds(200)
    talk.says("you and you")
    talk.ends(status="cancelled", output=[{"id": "item_a", "type": "message", "content": [{"transcript": "Damn"}]}])
    assert leaked(talk, "Damn", "you") == []
    assert talk.emitted("audio_interrupted") == []
    (line,) = talk.records(EventType.ITEM_RECORDED)
    assert (line.text, line.heard_text, line.truncated, line.withheld) == ("Damn you all", "", True, True)
    (tripped,) = talk.records(EventType.GUARDRAIL_TRIPPED)
    assert (tripped.message, tripped.withheld) == ("Damn you all", True)
    (item,) = talk.emitted("history_updated")[-1]["history"]
    assert (item["content"], item["status"]) == ([], "incomplete")
    assert talk.sent_types() == ["response.create"]


def test_a_trip_after_the_model_was_done_cancels_nothing_and_goes_on_at_once() -> None:
    talk = held()
    speak(talk)
    talk.ends()
    talk.verdict(check(talk), NO)
    assert talk.sent_types() == ["conversation.item.truncate", "conversation.item.create", "response.create"]
    assert leaked(talk, "Damn") == []


def test_a_text_answer_is_held_and_dropped_without_truncation() -> None:
    talk = held()
    talk.item_begins()
    talk.says("Damn you", spoken=False)
    talk.said("Damn you", spoken=False)
    assert leaked(talk, "Damn") == []
    talk.verdict(check(talk), NO)
    assert talk.sent_types() == ["response.cancel", "conversation.item.create"]
    talk.ends(status="cancelled")
    assert talk.lines() == [("assistant", "Damn you", "", True)]


def test_a_stream_of_deltas_is_judged_by_the_debounce_so_that_it_stops_early() -> None:
    talk = held(GuardrailSpec("rude", mode=GuardrailMode.HOLD, debounce=5))
    talk.item_begins()
    talk.says("Damn you")
    assert [(one.text, one.final) for one in talk.of(DispatchCheck)] == [("Damn you", False)]
    talk.verdict(check(talk), YES)
    assert leaked(talk, "Damn") == [], "only a final check lets anything pass"
    talk.says(" and you")
    talk.verdict(check(talk), NO)
    assert talk.sent("response.cancel", talk.last)
    talk.ends(status="cancelled")
    assert leaked(talk, "Damn") == []


def test_the_rest_of_a_part_that_has_passed_is_heard_at_once() -> None:
    talk = held()
    talk.item_begins()
    talk.says("Good day")
    talk.said("Good day")
    talk.verdict(check(talk), YES)
    assert talk.of(ForwardAudio, talk.sounds(100))
    talk.sounds(100)
    talk.item_ends("Good day")
    assert talk.kept == []
    assert [line[1] for line in talk.lines()] == []
    talk.ends()
    talk.timer("heard")
    assert talk.lines() == [("assistant", "Good day", None, False)]


def test_text_that_comes_after_the_verdict_is_judged_anew() -> None:
    talk = held()
    talk.item_begins()
    talk.said("Good day")
    talk.verdict(check(talk), YES)
    talk.says(" you idiot")
    assert talk.sounds(100)[0] == HoldInput()
    assert leaked(talk, "idiot") == []
    talk.said("Good day you idiot")
    assert talk.of(DispatchCheck)[-1].text == "Good day you idiot"
    talk.verdict(check(talk), NO)
    talk.ends(status="cancelled")
    assert leaked(talk, "idiot") == []


def test_a_transcript_that_denies_its_deltas_is_judged_with_them() -> None:
    talk = held()
    talk.item_begins()
    talk.says("Damn you")
    talk.said("Good day")
    assert talk.of(DispatchCheck)[-1].text == "Damn you Good day"


def test_what_only_the_end_of_an_item_or_response_says_is_judged_before_it_is_told() -> None:
    talk = held()
    talk.item_begins()
    talk.said("Good day", spoken=False)
    talk.verdict(check(talk), YES)
    talk.item_ends("Damn you", spoken=False)
    assert leaked(talk, "Damn") == []
    assert talk.of(DispatchCheck)[-1].text == "Good day Damn you"
    talk.ends(output=[{"id": "item_a", "type": "message", "content": [{"type": "output_text", "text": "Idiot"}]}])
    assert talk.of(DispatchCheck)[-1].text == "Good day Damn you Idiot"
    talk.verdict(check(talk), NO)
    assert leaked(talk, "Damn", "Idiot") == []


def test_parts_are_released_one_by_one_and_in_order() -> None:
    talk = held()
    talk.item_begins()
    where: dict[str, Any] = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0}
    for index, text in enumerate(("One", "Two")):
        talk.put(ModelAudio("resp_1", "item_a", 0, index, 4800))
        talk.model("response.output_audio_transcript.done", content_index=index, transcript=text, **where)
    first, second = talk.of(DispatchCheck)
    assert (first.text, second.text) == ("One", "One Two")
    talk.verdict(first.check_id, YES)
    assert talk.of(ForwardAudio) == [ForwardAudio("resp_1", "item_a", 0, 0)]
    talk.verdict(second.check_id, YES)
    assert [one.content_index for one in talk.of(ForwardAudio)] == [0, 1]
    assert talk.kept == []


def test_a_later_item_waits_for_an_earlier_one() -> None:
    talk = held()
    for item in ("item_a", "item_b"):
        talk.item_begins(item)
        talk.said(f"This is {item}", item, spoken=False)
    first, second = (one.check_id for one in talk.of(DispatchCheck))
    talk.verdict(second, YES)
    assert talk.kept
    assert leaked(talk, "This") == []
    talk.verdict(first, YES)
    assert talk.kept == []


def test_a_verdict_on_all_parts_releases_those_that_were_asked_about_before() -> None:
    talk = held()
    talk.item_begins()
    where: dict[str, Any] = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0}
    for index, text in enumerate(("One", "Two")):
        talk.model("response.output_text.done", content_index=index, text=text, **where)
    talk.verdict(check(talk), YES)
    assert talk.kept == []


def test_a_verdict_on_what_has_grown_since_releases_nothing() -> None:
    talk = held()
    talk.item_begins()
    talk.said("Good day")
    asked = check(talk)
    talk.says(" you idiot")
    talk.verdict(asked, YES)
    assert leaked(talk, "Good") == []


@pytest.mark.parametrize(("policy", "heard"), [("open", True), ("closed", False)])
def test_a_verdict_that_never_comes_releases_or_stops_by_policy(policy: Any, heard: bool) -> None:
    talk = held(GuardrailSpec("rude", mode=GuardrailMode.HOLD, debounce=-1, on_unavailable=policy))
    speak(talk, "Good day")
    talk.timer(f"check:{check(talk)}")
    assert bool(talk.of(ForwardAudio)) is heard
    assert talk.errors() == ["guardrail_unavailable"]
    assert bool(talk.sent("response.cancel")) is not heard


@pytest.mark.parametrize(("policy", "heard"), [("open", True), ("closed", False)])
def test_a_guardrail_that_raised_releases_or_stops_by_policy(policy: Any, heard: bool) -> None:
    talk = held(GuardrailSpec("rude", mode=GuardrailMode.HOLD, debounce=-1, on_error=policy))
    speak(talk, "Good day")
    talk.verdict(check(talk), GuardrailResult(name="rude", tripped=False, error="boom"))
    assert bool(talk.of(ForwardAudio)) is heard


@pytest.mark.parametrize(("policy", "heard"), [("open", True), ("closed", False)])
def test_audio_without_transcript_is_released_or_stopped_by_policy_at_its_end(policy: Any, heard: bool) -> None:
    talk = held(GuardrailSpec("rude", mode=GuardrailMode.HOLD, debounce=-1, on_unavailable=policy))
    talk.item_begins()
    talk.sounds(500)
    talk.said("")
    assert talk.of(ForwardAudio) == []
    talk.item_ends("")
    talk.ends()
    assert bool(talk.of(ForwardAudio)) is heard
    assert talk.errors() == ["guardrail_unavailable"]


def test_an_item_that_says_nothing_passes_at_its_end() -> None:
    talk = held()
    talk.item_begins()
    talk.said("", spoken=False)
    assert talk.kept
    talk.item_ends("", spoken=False)
    talk.ends()
    assert talk.kept == []
    assert talk.errors() == []


def test_calls_pass_and_the_response_ends_when_its_text_was_judged() -> None:
    talk = held()
    talk.item_begins()
    talk.said("One moment", spoken=False)
    talk.model("response.function_call_arguments.delta", response_id="resp_1", item_id="item_call_1", delta="{")
    talk.calls()
    assert talk.of(DispatchTool)
    talk.ends()
    talk.put(ToolResultArrived(ToolResult(call_id="call_1", outcome="ok", output="", worker="w", duration_ms=1)))
    assert "response.create" not in talk.sent_types(), "the response has not ended for anybody"
    talk.verdict(check(talk), YES)
    assert talk.sent_types() == ["response.create"]


def test_a_guardrail_that_only_observes_holds_nothing_back() -> None:
    talk = held(HOLD, GuardrailSpec("curious", mode=GuardrailMode.OBSERVE, debounce=-1))
    speak(talk, "Good day")
    talk.verdict(check(talk), YES, GuardrailResult(name="curious", tripped=True))
    assert talk.of(ForwardAudio)
    assert len(talk.records(EventType.GUARDRAIL_TRIPPED)) == 1


def test_speech_of_the_user_drops_what_nobody_has_heard() -> None:
    talk = held()
    speak(talk, "Good day")
    talk.model("input_audio_buffer.speech_started", item_id="item_u")
    assert talk.sent("conversation.item.truncate", talk.last)[0]["audio_end_ms"] == 0
    assert talk.observed("barge_in")
    talk.verdict(check(talk), YES)
    talk.ends(status="cancelled")
    assert leaked(talk, "Good") == []
    assert talk.lines() == [("assistant", "Good day", "", True)]


@pytest.mark.parametrize("named", [None, "resp_1", "resp_9"])
def test_an_interruption_by_the_client_drops_what_it_names(named: str | None) -> None:
    talk = held()
    speak(talk, "Good day")
    talk.put(Interrupt(named))
    assert bool(talk.sent("response.cancel")) is (named != "resp_9")
    talk.verdict(check(talk), YES)
    assert bool(talk.of(ForwardAudio)) is (named == "resp_9")


def test_an_interruption_of_one_answer_that_is_held_leaves_the_other_one() -> None:
    talk = held()
    speak(talk, "Good day")
    talk.ends()
    first = check(talk)
    talk.asks("And tomorrow?")
    talk.begins("resp_2")
    talk.speaks("Sunny", 1000, "item_b", "resp_2")
    talk.put(Interrupt("resp_2"))
    talk.verdict(first, YES)
    assert {audio.response_id for audio in talk.of(ForwardAudio)} == {"resp_1"}


def test_a_response_that_was_cancelled_elsewhere_is_not_heard_afterwards() -> None:
    talk = held()
    talk.item_begins()
    talk.says("Good day to")
    talk.sounds(500)
    talk.ends(status="cancelled")
    assert talk.sent_types() == ["conversation.item.truncate"]
    assert talk.of(DispatchCheck) == []
    assert leaked(talk, "Good") == []


def test_the_session_ends_with_what_was_withheld_in_its_record() -> None:
    talk = held()
    speak(talk, "Good day")
    talk.put(End("hangup"))
    line = talk.records(EventType.ITEM_RECORDED)[0]
    assert (line.text, line.heard_text, line.withheld) == ("Good day", "", True)


def test_an_answer_beside_the_conversation_that_is_withheld_is_in_no_record() -> None:
    talk = Talk(agent(guardrails=(HOLD,)), face=Face.OPENAI).live()
    talk.client("response.create", response={"conversation": "none"})
    talk.begins(conversation_id=None)
    talk.says("Good day")
    talk.sounds(1000)
    talk.put(End("hangup"))
    assert leaked(talk, "Good") == []
    assert talk.lines() == []


def test_a_client_of_the_protocol_meets_an_answer_when_it_has_passed() -> None:
    talk = on_openai()
    speak(talk, "Good day")
    talk.ends(
        output=[{"id": "item_a", "type": "message", "role": "assistant", "content": [{"transcript": "Good day"}]}]
    )
    assert leaked(talk, "Good") == []
    assert [event["item"]["content"] for event in talk.shown("response.output_item.added")] == [[]]
    talk.verdict(check(talk), YES)
    assert talk.shown("response.output_audio_transcript.done")[0]["transcript"] == "Good day"
    assert talk.shown("response.done")[0]["response"]["output"][0]["content"] == [{"transcript": "Good day"}]
    assert len(talk.of(ForwardAudio)) == 2


def test_a_client_of_the_protocol_sees_an_emptied_end_of_what_was_forbidden() -> None:
    talk = on_openai()
    speak(talk)
    item = {"id": "item_a", "type": "message", "role": "assistant", "content": [{"transcript": "Damn you all"}]}
    talk.ends(output=[item, {"id": "item_x", "type": "reasoning"}])
    talk.verdict(check(talk), NO)
    assert leaked(talk, "Damn") == []
    (done,) = talk.shown("response.output_item.done")
    assert (done["item"]["status"], done["item"]["content"]) == ("incomplete", [])
    assert talk.shown("response.done") == [], "another answer is to come"
    talk.client("response.cancel")
    (ended,) = talk.shown("response.done")
    assert [one.get("content") for one in ended["response"]["output"]] == [[], None]
    assert leaked(talk, "Damn") == []


def test_a_client_of_the_protocol_sees_why_there_is_no_other_answer() -> None:
    rude = GuardrailSpec("rude", mode=GuardrailMode.HOLD, debounce=-1, replacement="Damn.")
    talk = on_openai(rude)
    for number in (1, 2):
        item = {"id": f"item_{number}", "type": "message", "role": "assistant"}
        where: dict[str, Any] = {"response_id": f"resp_{number}", "item_id": f"item_{number}", "content_index": 0}
        talk.model("response.output_item.added", response_id=f"resp_{number}", output_index=0, item=item)
        talk.model("response.output_audio_transcript.done", transcript="Damn", output_index=0, **where)
        talk.ends(f"resp_{number}", output=[{**item, "content": [{"transcript": "Damn"}]}])
        talk.verdict(check(talk), NO)
        if number == 1:
            talk.begins("resp_2")
    (ended,) = talk.shown("response.done")
    assert ended["response"]["status_details"] == {"type": "incomplete", "reason": "content_filter"}
    assert [one["content"] for one in ended["response"]["output"]] == [[], []]
    assert leaked(talk, "Damn") == []


def test_what_was_forbidden_cannot_be_retrieved() -> None:
    talk = on_openai()
    talk.item_begins()
    talk.said("Damn you", spoken=False)
    talk.verdict(check(talk), NO)
    talk.ends(status="cancelled")
    item = {
        "id": "item_a",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Damn"}],
    }
    talk.model("conversation.item.retrieved", item=item)
    assert talk.shown("conversation.item.retrieved")[0]["item"]["content"] == []
    assert leaked(talk, "Damn") == []


def test_an_announcement_passes_without_what_it_holds() -> None:
    talk = held(raw_events=True)
    item = {"id": "item_a", "type": "message", "role": "assistant", "status": "in_progress"}
    full = {**item, "content": [{"type": "output_text", "text": "Damn"}]}
    talk.model("response.output_item.added", response_id="resp_1", output_index=0, item=full)
    assert isinstance(talk.last[0], ConcealInput)
    talk.model("conversation.item.added", item=full)
    assert talk.emitted("history_added")
    assert leaked(talk, "Damn") == []


def test_an_item_of_the_old_protocol_is_held_although_no_response_names_it() -> None:
    talk = held(raw_events=True)
    item = {"id": "item_a", "type": "message", "role": "assistant", "status": "completed"}
    talk.model("conversation.item.created", item={**item, "content": [{"type": "text", "text": "Damn"}]})
    assert talk.last[0] == HoldInput()
    assert talk.of(DispatchCheck)[-1].text == "Damn"
    talk.verdict(check(talk), NO)
    assert leaked(talk, "Damn") == []


def test_an_item_that_no_response_has_announced_is_held_at_its_end() -> None:
    talk = held()
    item = {"id": "item_a", "type": "message", "role": "assistant", "status": "completed"}
    talk.model("conversation.item.done", item={**item, "content": [{"type": "output_text", "text": "Damn"}]})
    assert talk.last[0] == HoldInput()
    assert talk.of(DispatchCheck)[-1].text == "Damn"


def test_what_the_user_says_is_not_held() -> None:
    talk = held()
    talk.user_speaks()
    talk.transcript("Hello there")
    assert talk.kept == []
    assert talk.emitted("history_updated")


def test_items_of_the_assistant_outside_of_any_response_are_not_held() -> None:
    talk = Talk(agent(guardrails=[HOLD])).live()
    item = {"id": "item_s", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}
    talk.model("conversation.item.added", item=item)
    talk.model("conversation.item.done", item=item)
    talk.model("conversation.item.retrieved", item=item)
    assert talk.kept == []


def test_an_agent_without_such_guardrails_is_not_held_up_by_one_before_it() -> None:
    talk = Talk(agent(guardrails=[GuardrailSpec("rude")])).asked()
    speak(talk, "Good day")
    assert talk.of(ForwardAudio)
    assert talk.kept == []


def test_answers_that_wait_are_bounded_and_beyond_that_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "_MAX_KEPT", 100_000)
    talk = held()
    talk.item_begins()
    talk.sounds(1000)
    assert talk.errors() == []
    talk.sounds(2000)
    assert talk.errors() == ["hold_overflow"]
    assert talk.sent_types() == ["response.cancel", "conversation.item.truncate"]
    assert talk.kept == []
    assert [type(output) for output in talk.sounds(1000)] == [ConcealInput]


def says_in_items(talk: Talk) -> None:
    """Each is judged and passes, but for one too many."""
    for number in range(1024):
        talk.said("Good day", f"item_{number}", spoken=False)
        talk.verdict(check(talk), YES)
    talk.said("Damn you", "item_last", spoken=False)


def says_in_parts(talk: Talk) -> None:
    where: dict[str, Any] = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0}
    for index in range(64):
        talk.model("response.output_text.done", content_index=index, text="Good day", **where)
    talk.verdict(check(talk), YES)
    talk.model("response.output_text.done", content_index=64, text="Damn you", **where)


def says_at_length(talk: Talk) -> None:
    talk.said("Good day" * 25_000, spoken=False)
    talk.verdict(check(talk), YES)
    talk.said("Damn you", "item_b", spoken=False)


@pytest.mark.parametrize("raw_events", [True, False])
@pytest.mark.parametrize("too_much", [says_in_items, says_in_parts, says_at_length])
def test_an_answer_that_says_more_than_can_be_judged_is_stopped_and_the_rest_of_it_is_not_known(
    too_much: Callable[[Talk], None], raw_events: bool
) -> None:
    talk = held(raw_events=raw_events)
    too_much(talk)
    assert talk.errors() == ["guardrail_overflow"]
    assert talk.sent_types() == ["response.cancel"]
    assert talk.kept == []
    content = [{"type": "output_text", "text": "Good day"}] * 64 + [{"type": "output_text", "text": "Damn you"}]
    for item_id in ("item_a", "item_b", "item_last"):
        item = {"id": item_id, "type": "message", "role": "assistant", "content": content}
        talk.model("response.output_item.done", response_id="resp_1", output_index=0, item=item)
        talk.model("conversation.item.retrieved", item=item)
    talk.ends(output=[{"id": "item_a", "type": "message", "content": content}])
    assert leaked(talk, "Damn") == []


@pytest.mark.parametrize("too_much", [says_in_items, says_in_parts, says_at_length])
def test_a_client_of_the_protocol_sees_nothing_of_what_is_more_than_can_be_judged(
    too_much: Callable[[Talk], None],
) -> None:
    talk = on_openai()
    too_much(talk)
    talk.ends(output=[{"id": "item_last", "type": "message", "content": [{"type": "output_text", "text": "Damn you"}]}])
    assert leaked(talk, "Damn") == []


def test_a_response_that_stalls_with_something_held_is_given_up() -> None:
    talk = held()
    talk.item_begins()
    talk.says("Good day")
    talk.timer("stall")
    assert talk.errors() == ["response_stalled"]
    assert talk.kept == []
    assert leaked(talk, "Good") == []


def test_a_response_that_only_waits_for_its_verdict_does_not_stall() -> None:
    talk = held(guardrail_timeout_ms=60_000)
    speak(talk, "Good day")
    talk.ends()
    talk.timer("stall")
    assert talk.errors() == []
    talk.verdict(check(talk), YES)
    assert talk.of(ForwardAudio)


def test_the_end_of_a_response_that_is_told_again_tells_nothing_new() -> None:
    talk = held(raw_events=True)
    talk.item_begins()
    talk.said("Damn you", spoken=False)
    talk.verdict(check(talk), NO)
    for _ in range(2):
        talk.ends(output=[{"id": "item_a", "type": "message", "content": [{"type": "output_text", "text": "Damn"}]}])
    assert leaked(talk, "Damn") == []


def test_a_verdict_for_what_was_forgotten_changes_nothing() -> None:
    talk = held()
    speak(talk, "Good day")
    asked = check(talk)
    talk.session._p.holding._responses.clear()
    talk.verdict(asked, YES)
    assert talk.of(ForwardAudio) == []


def test_a_model_that_stops_itself_is_told_to_and_truncates_by_itself() -> None:
    talk = Talk(agent(guardrails=[HOLD]), transport=Transport.EVENTS)
    talk.model("response.created", response={"id": "resp_1"})
    speak(talk)
    talk.verdict(check(talk), NO)
    assert talk.of(StopModel) == [StopModel("resp_1", cancel=True, truncate=True)]
    assert talk.sent("conversation.item.truncate") == []
    assert leaked(talk, "Damn") == []


def test_a_model_that_has_stopped_itself_leaves_nothing_to_hear() -> None:
    talk = Talk(agent(guardrails=[HOLD]), transport=Transport.EVENTS)
    talk.model("response.created", response={"id": "resp_1"})
    speak(talk, "Good day")
    talk.put(AudioInterrupted("item_a", 0))
    assert talk.emitted("audio_interrupted")
    talk.verdict(check(talk), YES)
    assert leaked(talk, "Good") == []


def test_only_what_may_be_known_is_brought_again() -> None:
    talk = held()
    for item in ("item_a", "item_b"):
        talk.item_begins(item)
        talk.said(f"This is {item}", item, spoken=False)
    first = talk.of(DispatchCheck)[0].check_id
    outputs: Sequence[Output] = talk.verdict(first, YES)
    assert [output for output in outputs if isinstance(output, ReturnInputs | HoldInput)] == [ReturnInputs(1)]
    assert len(talk.kept) == 1


@pytest.mark.parametrize("spoken", [True, False])
@pytest.mark.parametrize("verdict", [YES, NO])
def test_what_comes_of_an_answer_that_has_ended_keeps_no_other_waiting(spoken: bool, verdict: GuardrailResult) -> None:
    talk = held()
    speak(talk, "Good day")
    talk.ends()
    talk.verdict(check(talk), YES)
    if spoken:
        talk.sounds(200, "item_b")  # nobody can judge it
    else:
        talk.says("Damn you", "item_b")
        talk.verdict(check(talk), verdict)
    talk.asked("And now?", "resp_2")
    talk.item_begins("item_c", "resp_2")
    talk.sounds(200, "item_c", "resp_2")
    talk.item_ends("Good night", "item_c", "resp_2")
    talk.verdict(check(talk), YES)
    assert [audio.item_id for audio in talk.of(ForwardAudio)] == ["item_a", "item_a", "item_c"]
    assert not talk.kept
    assert leaked(talk, "Damn") == talk.of(ForwardAudio)


def test_a_part_that_was_heard_stays_heard_when_a_later_one_trips() -> None:
    talk = held()
    talk.item_begins()
    where: dict[str, Any] = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0}
    talk.sounds(1000)
    talk.model("response.output_audio_transcript.done", content_index=0, transcript="One two", **where)
    talk.verdict(check(talk), YES)
    talk.put(Playback("item_a", 0, 500))
    talk.put(ModelAudio("resp_1", "item_a", 0, 1, 4800))
    talk.model("response.output_audio_transcript.done", content_index=1, transcript="Damn", **where)
    talk.verdict(check(talk), NO)
    assert [one["content_index"] for one in talk.emitted("audio_interrupted")] == [0]
    assert {event["content_index"]: event["audio_end_ms"] for event in talk.sent("conversation.item.truncate")} == {
        0: 500,
        1: 0,
    }
    talk.ends(status="cancelled")
    assert talk.lines() == [("assistant", "One two", "One", True)]


def test_an_interruption_of_playback_alone_leaves_the_response_running_unheard() -> None:
    talk = held()
    speak(talk, "Good day")
    talk.put(Interrupt(cancel=False))
    assert talk.sent_types() == ["conversation.item.truncate"]
    talk.verdict(check(talk), YES)
    assert leaked(talk, "Good") == []


def test_responses_and_items_of_long_sessions_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "_MAX_RESPONSES", 2)
    monkeypatch.setattr(holding, "_MAX_ITEMS", 2)
    talk = held()
    for number in range(1, 6):
        if number > 1:
            talk.asks()
            talk.begins(f"resp_{number}")
        talk.item_begins(f"item_{number}", f"resp_{number}")
        talk.said("Good day", f"item_{number}", f"resp_{number}", spoken=False)
        talk.verdict(check(talk), YES)
        talk.ends(f"resp_{number}")
    assert talk.kept == []
    assert len(talk.session._p.holding._responses) <= 3
    assert len(talk.session._p.holding._items) == 2


def test_a_response_of_another_agent_is_not_held_after_a_handoff() -> None:
    talk = held()
    talk.put(UpdateAgent(agent("other")))
    talk.model("response.output_text.delta", response_id="resp_9", item_id="item_z", content_index=0, delta="Good day")
    assert talk.kept == []


def test_what_is_nested_so_deeply_that_its_size_cannot_be_told_is_held_as_too_much() -> None:
    talk = held()
    deep: Any = 1
    for _ in range(sys.getrecursionlimit()):
        deep = {"a": deep}
    talk.model("response.output_text.done", response_id="resp_1", item_id="item_a", text="Hello", more=deep)
    assert talk.errors() == ["hold_overflow"]
    assert not leaked(talk, "Hello")


def test_sound_that_is_held_back_before_the_model_has_confirmed_anything_is_a_sign_of_life() -> None:
    talk = Talk(agent(guardrails=(HOLD,)))
    talk.sounds(20)
    assert talk.session.state is State.LIVE
    assert not talk.of(ForwardAudio)
