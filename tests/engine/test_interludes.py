"""What is said while tools run: progress and hold phrases, in silence only, and the answer follows all the same."""

from typing import Any

import pytest

from support.talk import Talk, agent, tool
from voicebus.contracts.journal import EventType
from voicebus.contracts.tools import ToolProgress
from voicebus.engine.config import Face, HoldSpec
from voicebus.engine.inputs import End, ListenerBack, ListenerLeft, ToolProgressArrived
from voicebus.engine.interludes import INTERLUDE_TIMER

HOLD = HoldSpec(("One moment.", "Still at it."))


def waiting(*tools: Any, **config: Any) -> Talk:
    """A conversation in which the first of `tools` runs and nothing is said."""
    talk = Talk(agent(tools=tools), **config).asked()
    talk.calls(tools[0].name)
    talk.ends()
    return talk


def news(talk: Talk, text: str, call: str = "call_1", *, after: float = 0.0) -> None:
    talk.put(ToolProgressArrived(ToolProgress(call_id=call, text=text)), after=after)


def asked_for(talk: Talk) -> list[str]:
    """What the interludes so far were to say."""
    told = [event["response"].get("instructions") for event in talk.sent("response.create")]
    return [text.rpartition(": ")[2] for text in told if text]


def speaking() -> Talk:
    return waiting(tool(speak_progress=True))


def holding(hold: HoldSpec = HOLD, **fields: Any) -> Talk:
    return waiting(tool(hold=hold), **fields)


# --- progress -------------------------------------------------------------------------------------


def test_progress_is_said_in_a_response_that_may_call_nothing_and_the_answer_follows_it() -> None:
    talk = speaking()
    news(talk, "3 of 7")
    (create,) = talk.sent("response.create", talk.last)
    assert create["response"]["tool_choice"] == "none"
    assert create["response"]["instructions"].startswith("Be brief.\n\n"), "the agent's own words come first"
    assert create["response"]["instructions"].endswith('"3 of 7"')
    talk.begins("resp_2")
    talk.result("sunny")
    assert talk.sent_types() == ["conversation.item.create"], "one response at a time"
    talk.ends("resp_2")
    (answer,) = talk.sent("response.create", talk.last)
    assert "instructions" not in answer["response"]
    assert "tool_choice" not in answer["response"]


def test_progress_is_an_event_whether_it_is_said_or_not() -> None:
    talk = waiting(tool())
    news(talk, "3 of 7")
    assert talk.emitted("tool_progress") == [
        {"call_id": "call_1", "tool": "weather", "agent": "helper", "text": "3 of 7"}
    ]
    assert asked_for(talk) == []


def test_progress_waits_for_the_response_that_runs() -> None:
    talk = Talk(agent(tools=[tool(speak_progress=True)])).asked()
    talk.calls()
    news(talk, "3 of 7")
    assert talk.sent_types() == []
    talk.ends()
    assert asked_for(talk) == ['"3 of 7"']


def test_progress_waits_for_the_user_and_for_what_is_being_played() -> None:
    talk = Talk(agent(tools=[tool(speak_progress=True)])).asked()
    talk.speaks("Let me look.", 800)
    talk.calls()
    talk.ends()
    news(talk, "3 of 7")
    assert asked_for(talk) == []
    talk.model("input_audio_buffer.speech_started", item_id="item_u", audio_start_ms=0)
    assert INTERLUDE_TIMER not in talk.timers()
    talk.model("input_audio_buffer.speech_stopped", item_id="item_u", audio_end_ms=100, after=5.0)
    assert asked_for(talk) == ['"3 of 7"']


def test_progress_is_said_when_what_is_played_is_over() -> None:
    talk = Talk(agent(tools=[tool(speak_progress=True)])).asked()
    talk.speaks("Let me look.", 800)
    talk.calls()
    talk.ends()
    news(talk, "3 of 7")
    talk.timer(INTERLUDE_TIMER)
    assert talk.now == pytest.approx(100.8)
    assert asked_for(talk) == ['"3 of 7"']


def test_of_a_calls_news_the_last_is_said_and_of_several_calls_all_together() -> None:
    talk = Talk(agent(tools=[tool("a", speak_progress=True), tool("b", speak_progress=True)])).asked()
    talk.calls("a", "call_1")
    talk.calls("b", "call_2")
    news(talk, "1 of 2", "call_1")
    news(talk, "1 of 3", "call_2")
    news(talk, "2 of 2", "call_1")
    talk.ends()
    assert asked_for(talk) == ['"2 of 2 1 of 3"']


def test_some_seconds_lie_between_two_interludes_for_news() -> None:
    talk = speaking()
    news(talk, "one")
    talk.begins("resp_2")
    talk.ends("resp_2")
    news(talk, "two", after=0.5)
    news(talk, "three", after=0.5)
    assert asked_for(talk) == ['"one"']
    talk.timer(INTERLUDE_TIMER)
    assert talk.now == pytest.approx(103.0)
    assert asked_for(talk) == ['"one"', '"three"']


def test_news_of_a_call_that_has_ended_are_not_said() -> None:
    talk = Talk(agent(tools=[tool(speak_progress=True)])).asked()
    talk.calls()
    news(talk, "3 of 7")
    talk.result()
    talk.ends()
    assert asked_for(talk) == []
    assert INTERLUDE_TIMER not in talk.timers()


# --- hold phrases ---------------------------------------------------------------------------------


def test_a_hold_phrase_is_said_once_after_a_silence() -> None:
    talk = holding()
    talk.timer(INTERLUDE_TIMER)
    assert talk.now == pytest.approx(101.5)
    assert asked_for(talk) == ['"One moment."']
    talk.begins("resp_2")
    talk.ends("resp_2")
    assert INTERLUDE_TIMER not in talk.timers()


def test_further_hold_phrases_are_said_in_turn_after_further_silences() -> None:
    talk = holding(HoldSpec(("One moment.", "Still at it."), after_ms=1000, every_ms=4000))
    for number in (2, 3, 4):
        talk.timer(INTERLUDE_TIMER)
        talk.begins(f"resp_{number}")
        talk.ends(f"resp_{number}")
    assert asked_for(talk) == ['"One moment."', '"Still at it."', '"One moment."']
    assert talk.now == pytest.approx(109.0)


def test_silence_begins_when_what_was_said_before_has_been_heard() -> None:
    talk = Talk(agent(tools=[tool(hold=HOLD)])).asked()
    talk.speaks("Let me look.", 2000)
    talk.calls()
    talk.ends()
    talk.timer(INTERLUDE_TIMER)
    assert talk.now == pytest.approx(103.5)
    assert asked_for(talk) == ['"One moment."']


def test_a_tool_that_answers_in_time_is_not_talked_about() -> None:
    talk = holding()
    talk.result("sunny", after=1.4)
    assert asked_for(talk) == []
    assert INTERLUDE_TIMER not in talk.timers()


def test_one_phrase_is_for_all_calls_that_run() -> None:
    talk = Talk(agent(tools=[tool("a", hold=HOLD), tool("b", hold=HOLD)])).asked()
    talk.calls("a", "call_1")
    talk.calls("b", "call_2")
    talk.ends()
    talk.timer(INTERLUDE_TIMER)
    talk.begins("resp_2")
    talk.ends("resp_2")
    assert asked_for(talk) == ['"One moment."']
    assert INTERLUDE_TIMER not in talk.timers()


def test_progress_that_is_said_puts_the_hold_phrase_off() -> None:
    talk = waiting(tool(hold=HOLD, speak_progress=True))
    news(talk, "3 of 7", after=1.0)
    talk.begins("resp_2")
    talk.ends("resp_2")
    talk.timer(INTERLUDE_TIMER)
    assert talk.now == pytest.approx(102.5)
    assert asked_for(talk) == ['"3 of 7"', '"One moment."']


def test_nothing_is_said_to_somebody_who_is_away() -> None:
    talk = holding()
    talk.put(ListenerLeft())
    assert INTERLUDE_TIMER not in talk.timers()
    talk.put(ListenerBack(), after=10.0)
    talk.timer(INTERLUDE_TIMER)
    assert talk.now == pytest.approx(111.5)


def test_the_end_of_the_session_leaves_no_timer() -> None:
    talk = holding()
    talk.put(End("hangup"))
    assert INTERLUDE_TIMER not in talk.timers()


# --- what may go wrong ----------------------------------------------------------------------------


def test_an_interlude_that_meets_the_models_own_response_is_dropped() -> None:
    talk = speaking()
    news(talk, "3 of 7")
    sent = talk.sent("response.create")[-1]["event_id"]
    talk.begins("resp_2", unasked=True)
    talk.fails("conversation_already_has_active_response", event_id=sent)
    talk.ends("resp_2")
    assert asked_for(talk) == ['"3 of 7"']
    talk.result()
    assert talk.sent_types() == ["conversation.item.create", "response.create"]


def test_an_interlude_that_fails_is_not_tried_again() -> None:
    talk = speaking()
    news(talk, "3 of 7")
    talk.begins("resp_2")
    error = {"type": "tokens", "code": "rate_limit_exceeded", "message": "Please try again in 1.2s."}
    talk.ends("resp_2", "failed", status_details={"type": "failed", "error": error})
    assert talk.sent_types() == []
    talk.result()
    assert talk.sent_types() == ["conversation.item.create", "response.create"]


@pytest.mark.parametrize("begun", [False, True])
def test_an_interlude_is_not_asked_for_again_on_another_socket_and_the_answer_is(begun: bool) -> None:
    talk = speaking()
    news(talk, "3 of 7")
    if begun:
        talk.begins("resp_2")
    talk.loses_the_link()
    talk.reconnects()
    assert asked_for(talk) == ['"3 of 7"']
    assert talk.sent("response.create", talk.last) == []
    talk.result()
    assert talk.sent_types()[-1] == "response.create"


def test_the_answers_latency_counts_from_the_users_turn_also_behind_an_interlude() -> None:
    talk = Talk(agent(tools=[tool(hold=HOLD)])).live()
    talk.user_speaks()
    talk.begins("resp_1", unasked=True)
    talk.calls()
    talk.ends()
    talk.timer(INTERLUDE_TIMER)
    talk.begins("resp_2")
    talk.sounds(100, "item_h", "resp_2")
    talk.ends("resp_2")
    assert talk.observed("response_latency") == []
    talk.result(after=3.0)
    talk.begins("resp_3")
    talk.sounds(100, "item_a", "resp_3")
    (latency,) = talk.observed("response_latency")
    assert latency.value == pytest.approx(4.5)


def test_what_an_interlude_says_is_recorded() -> None:
    talk = holding()
    talk.timer(INTERLUDE_TIMER)
    talk.begins("resp_2")
    talk.speaks("One moment.", 500, "item_h", "resp_2")
    talk.ends("resp_2")
    talk.put(End("hangup"), after=2.0)
    assert ("assistant", "One moment.", None, False) in talk.lines()


# --- a client of the OpenAI face ------------------------------------------------------------------


def client() -> Talk:
    """A client's response whose tool runs."""
    talk = Talk(agent(tools=[tool(hold=HOLD)]), face=Face.OPENAI).live()
    talk.client("response.create", response={"metadata": {"mine": "1"}})
    talk.begins("resp_1")
    talk.calls()
    talk.ends()
    return talk


def says_phrase(talk: Talk) -> None:
    talk.timer(INTERLUDE_TIMER)
    talk.begins("resp_2")
    talk.speaks("One moment.", 500, "item_h", "resp_2")


def test_a_client_sees_one_response_with_the_phrase_and_the_answer_in_it() -> None:
    talk = client()
    says_phrase(talk)
    talk.ends("resp_2")
    assert talk.shown("response.done") == []
    talk.result(after=1.0)
    talk.begins("resp_3")
    talk.speaks("It is sunny.", 500, "item_a", "resp_3")
    talk.ends("resp_3")
    assert [event["response"]["id"] for event in talk.shown("response.created")] == ["resp_1"]
    (done,) = talk.shown("response.done")
    assert done["response"]["id"] == "resp_1"
    assert [item["id"] for item in done["response"]["output"]] == ["item_h", "item_a"]
    assert done["response"]["metadata"] == {"mine": "1"}


def test_a_result_that_comes_while_the_phrase_is_said_keeps_the_clients_response_open() -> None:
    talk = client()
    says_phrase(talk)
    talk.result()
    talk.ends("resp_2")
    assert talk.shown("response.done") == []
    assert talk.sent_types() == ["response.create"]
    talk.begins("resp_3")
    talk.ends("resp_3")
    assert [event["response"]["id"] for event in talk.shown("response.done")] == ["resp_1"]


def test_a_phrase_that_the_user_interrupts_ends_the_clients_response() -> None:
    talk = client()
    says_phrase(talk)
    talk.model("input_audio_buffer.speech_started", item_id="item_u", audio_start_ms=0)
    talk.ends("resp_2", "cancelled", status_details={"type": "cancelled", "reason": "turn_detected"})
    (done,) = talk.shown("response.done")
    assert (done["response"]["id"], done["response"]["status"]) == ("resp_1", "cancelled")
    talk.result()
    assert talk.sent_types() == ["conversation.item.create"], "the model has it, and is not asked about it"


def test_nothing_more_is_said_for_a_response_that_the_client_has_cancelled() -> None:
    talk = client()
    talk.client("response.cancel")
    assert INTERLUDE_TIMER not in talk.timers()
    assert talk.shown("response.done")[0]["response"]["status"] == "cancelled"


def test_a_phrase_that_the_model_refuses_is_no_error_of_the_clients() -> None:
    talk = client()
    talk.timer(INTERLUDE_TIMER)
    talk.fails("rate_limit_exceeded", event_id=talk.sent("response.create")[-1]["event_id"])
    assert talk.shown("error") == []
    talk.result()
    talk.begins("resp_3")
    talk.ends("resp_3")
    assert [event["response"]["status"] for event in talk.shown("response.done")] == ["completed"]


def test_a_record_has_every_response_of_the_chain() -> None:
    talk = client()
    says_phrase(talk)
    talk.ends("resp_2")
    assert [turn.response_id for turn in talk.records(EventType.TURN_ENDED)] == ["resp_1", "resp_2"]
