"""A model's socket that is lost in every state: what is told again, what is asked again, what nobody notices."""

from collections.abc import Sequence
from typing import Any

import pytest

from support.talk import Talk, agent, handoff, tool
from voicebus.contracts.guardrails import GuardrailResult
from voicebus.contracts.journal import EventType
from voicebus.engine import replaying
from voicebus.engine.backoff import MAX_ATTEMPTS, MAX_FIRST_ATTEMPTS, Backoff
from voicebus.engine.config import Face, GuardrailMode, GuardrailSpec, Recovering
from voicebus.engine.inputs import AgentResolved, CommitAudio, End, LinkLost, LinkOpened
from voicebus.engine.outputs import Close, Dial, DispatchCheck, DropLink, Output, ReleaseAudio, SendModel, ToClient
from voicebus.engine.state import RECONNECT_TIMER, State
from voicebus.engine.transcript import HEARD_TIMER


def state(talk: Talk) -> State:
    return talk.session.state


def test_the_waits_grow_are_spread_and_come_to_an_end() -> None:
    shortest, longest = Backoff(), Backoff()
    waits = [(shortest.next(0.0), longest.next(1.0)) for _ in range(MAX_ATTEMPTS)]
    assert waits[:3] == [(0.125, 0.25), (0.25, 0.5), (0.5, 1.0)]
    assert waits[-1] == (2.5, 5.0)
    assert longest.next(1.0) is None
    longest.restart()
    assert longest.next(1.0) == 0.25


def test_a_server_that_asks_for_it_is_left_alone_for_as_long_within_bounds() -> None:
    asked, spread, longest = Backoff(), Backoff(), Backoff()
    assert [asked.next(0.0, asked=2.0), spread.next(1.0, asked=2.0), longest.next(0.0, asked=3600.0)] == [2.0, 3.0, 5.0]
    assert Backoff().next(1.0, asked=0.125) == 0.25


def test_what_one_address_asks_for_does_not_put_off_the_next() -> None:
    alone, pair = Talk(), Talk(models=("a", "b"))
    for talk in (alone, pair):
        talk.put(LinkLost("refused", retry_after=3.0))
    assert alone.timers()[RECONNECT_TIMER] == alone.now + 3.0
    assert pair.timers()[RECONNECT_TIMER] < pair.now + 1.0
    assert pair.of(Dial, pair.timer(RECONNECT_TIMER)) == [Dial(1)]


def test_a_message_that_is_too_large_for_the_model_is_left_out_and_told() -> None:
    talk = Talk().live()
    talk.asks("small")
    talk.asks("large" * 100_000)
    talk.loses_the_link(close_code=1009)
    assert talk.errors() == ["message_too_large"]
    assert talk.told_again(talk.reconnects()) == [("user", "small")]


def test_a_socket_that_is_closed_as_something_was_too_large_costs_no_small_message() -> None:
    talk = Talk().live()
    talk.asks("small")
    talk.loses_the_link(close_code=1009)
    assert not talk.errors()
    assert talk.told_again(talk.reconnects()) == [("user", "small")]


LARGE = "large" * 100_000
MINE = {"type": "function", "name": "mine", "description": LARGE, "parameters": {"type": "object"}}


def refused_for_its_size(talk: Talk) -> str | None:
    """The event of the client's that it is told of."""
    (error,) = talk.shown("error")
    assert error["error"]["code"] == "message_too_large"
    event_id: str | None = error["error"]["event_id"]
    return event_id


def sizes(told: Sequence[Output]) -> list[int]:
    return [len(str(output.event)) for output in told if isinstance(output, SendModel)]


def test_settings_that_are_too_large_for_the_model_are_refused_and_the_session_goes_on() -> None:
    talk = Talk(face=Face.OPENAI).live()
    talk.client("session.update", event_id="e1", session={"type": "realtime", "tools": [MINE]})
    talk.loses_the_link(close_code=1009)
    assert refused_for_its_size(talk) == "e1"
    told = talk.dials()
    assert max(sizes(told)) < 10_000
    talk.confirms(told)
    assert state(talk) is State.LIVE
    talk.client("session.update", event_id="e2", session={"type": "realtime", "tools": [{**MINE, "description": ""}]})
    assert [tool["name"] for tool in talk.sent("session.update")[-1]["session"]["tools"]] == ["mine"]


@pytest.mark.parametrize("conversation", ["auto", "none"])
def test_an_answer_whose_input_is_too_large_for_the_model_is_refused_and_not_asked_for_again(conversation: str) -> None:
    talk = Talk(face=Face.OPENAI).live()
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": LARGE}]}
    talk.client("response.create", event_id="e1", response={"conversation": conversation, "input": [item]})
    talk.client("response.create", event_id="e2")
    talk.loses_the_link(close_code=1009)
    assert refused_for_its_size(talk) == "e1"
    after = talk.reconnects()
    assert max(sizes(after)) < 10_000
    assert len(talk.sent("response.create", after)) == 1


def both_told(talk: Talk) -> list[Output]:
    """What the next socket is told of the conversation, and of what waited."""
    told = talk.dials()
    talk.model("session.created", session={"id": "sess_2"})
    return [*told, *talk.confirms(told)]


def says(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


@pytest.mark.parametrize(
    ("code", "param"),
    [("string_above_max_length", "item.content[0].text"), ("item_create_invalid_previous_item_id", None)],
)
def test_what_a_client_says_behind_an_item_that_was_refused_is_told_once_though_neither_event_has_an_id(
    code: str, param: str | None
) -> None:
    talk = Talk(face=Face.OPENAI).live()
    talk.client("conversation.item.create", item=says("refused"))
    talk.fails(code, param=param)
    talk.client("conversation.item.create", item=says("Hello"))
    talk.model("conversation.item.added", item={"id": "item_1", **says("Hello")}, previous_item_id=None)
    talk.loses_the_link()
    assert talk.told_again(both_told(talk)) == [("user", "Hello")]


def test_a_deletion_that_was_refused_is_not_asked_for_again_though_it_has_no_id() -> None:
    talk = Talk(face=Face.OPENAI).live()
    talk.client("conversation.item.delete", item_id="item_x")
    talk.fails("item_delete_invalid_item_id")
    talk.loses_the_link()
    assert talk.sent("conversation.item.delete", both_told(talk)) == []


def test_an_error_about_something_else_leaves_what_was_said_to_be_told_again() -> None:
    talk = Talk(face=Face.OPENAI).live()
    talk.client("conversation.item.create", item=says("Hello"))
    talk.fails("item_retrieve_invalid_item_id", param="item_id")
    talk.loses_the_link()
    assert talk.told_again(both_told(talk)) == [("user", "Hello")]


def test_sound_that_is_too_large_to_be_told_again_is_left_out() -> None:
    talk = Talk().live()
    talk.user_speaks("item_u")
    talk.loses_the_link()
    assert [output.speech for output in talk.of(SendModel, talk.dials()) if output.speech] == ["item_u"]
    talk.loses_the_link(close_code=1009)
    told = talk.dials()
    assert not [output.speech for output in talk.of(SendModel, told) if output.speech]
    assert talk.told_again(told) == [("user", "[audio not transcribed]")]
    talk.confirms(told)
    talk.user_speaks("item_v")
    talk.loses_the_link()
    assert [output.speech for output in talk.of(SendModel, talk.dials()) if output.speech] == ["item_v"]


def test_of_the_items_that_are_told_again_the_largest_is_left_out_with_all_that_belongs_to_it() -> None:
    talk = conversation()
    talk.asks("And in Rome?")
    talk.begins("resp_3")
    talk.calls("weather", "call_2", response="resp_3")
    talk.ends("resp_3")
    talk.result(LARGE, "call_2")
    talk.loses_the_link()
    assert ("function_call", "call_2") in talk.told_again(talk.dials())
    talk.loses_the_link(close_code=1009)
    told = talk.dials()
    assert talk.errors() == ["replay_item_refused"]
    assert max(sizes(told)) < 10_000
    assert ("user", "How is the weather?") in talk.told_again(told)
    assert "call_2" not in dict(talk.told_again(told)).values()


def test_a_socket_that_finds_a_conversation_without_a_large_item_too_large_costs_none_of_them() -> None:
    talk = conversation()
    talk.loses_the_link()
    told = talk.told_again(talk.dials())
    talk.loses_the_link(close_code=1009)
    assert talk.told_again(talk.dials()) == told
    assert not talk.errors()


def test_a_lost_socket_is_dropped_and_another_one_dialled_after_a_wait() -> None:
    talk = Talk().live()
    talk.put(LinkLost("reset", close_code=1006, jitter=1.0))
    assert state(talk) is State.RECONNECTING
    assert [(record.cause, record.attempt) for record in talk.records(EventType.MODEL_RECONNECTING)] == [("dropped", 1)]
    assert talk.of(DropLink, talk.last)
    assert talk.timers()[RECONNECT_TIMER] == talk.now + 0.25
    assert talk.of(Dial, talk.timer(RECONNECT_TIMER)) == [Dial(0)]
    talk.put(LinkOpened())
    assert state(talk) is State.REPLAYING
    assert not talk.errors()


def test_the_next_socket_gets_the_session_with_detection_off_then_on_and_then_the_audio() -> None:
    talk = Talk().live()
    talk.loses_the_link()
    told = talk.dials()
    first, second = (event["session"] for event in talk.sent("session.update", told))
    assert first["audio"]["input"]["turn_detection"] is None
    assert first["instructions"] == "Be brief."
    assert second["audio"]["input"]["turn_detection"]["create_response"] is True
    assert not talk.of(ReleaseAudio)
    talk.model("session.updated", session=first)
    assert state(talk) is State.REPLAYING
    after = talk.model("session.updated", session=second)
    assert state(talk) is State.LIVE
    assert talk.of(ReleaseAudio, after) == [ReleaseAudio()]
    assert [record.attempt for record in talk.records(EventType.MODEL_RECONNECTED)] == [1]
    assert not talk.sent("response.create", after)


def conversation(**more: Any) -> Talk:
    """A spoken turn, a call with its output, and an answer that was heard."""
    talk = Talk(agent(tools=[tool()]), **more).live()
    talk.user_speaks("item_u")
    talk.transcript("How is the weather?")
    talk.begins("resp_1", unasked=True)
    talk.calls("weather", arguments='{"city":"Paris"}')
    talk.ends("resp_1")
    talk.result("sunny")
    talk.begins("resp_2")
    talk.speaks("It is sunny.", 500, "item_a", "resp_2")
    talk.ends("resp_2")
    talk.now += 60
    return talk


def test_items_are_told_in_order_under_their_ids_and_a_call_with_its_output() -> None:
    talk = conversation()
    talk.loses_the_link()
    told = talk.dials()
    events = talk.sent("conversation.item.create", told)
    assert [event["item"]["id"] for event in events][:2] == ["item_u", "item_call_1"]
    previous = ["root", *(event["item"]["id"] for event in events[:-1])]
    assert [event["previous_item_id"] for event in events] == previous
    assert talk.told_again(told) == [
        ("user", "How is the weather?"),
        ("function_call", "call_1"),
        ("function_call_output", "call_1"),
        ("assistant", "It is sunny."),
    ]
    history = talk.session.history
    records = len(talk.records(EventType.ITEM_RECORDED))
    talk.confirms(told)
    assert not talk.sent("response.create", talk.last), "every turn has been answered"
    assert talk.session.history == history
    assert len(talk.records(EventType.ITEM_RECORDED)) == records


def test_an_answer_is_told_as_it_was_heard() -> None:
    talk = Talk().asked()
    talk.speaks("One two three four", 2000)
    talk.ends()
    talk.model("input_audio_buffer.speech_started", item_id="item_v", after=1.0)
    talk.loses_the_link()
    assert ("assistant", "One two") in talk.told_again(talk.dials())


@pytest.mark.parametrize("transcript", ["Hello?", None])
def test_speech_is_told_as_its_words_or_as_its_sound(transcript: str | None) -> None:
    talk = Talk().live()
    talk.user_speaks("item_u")
    if transcript is not None:
        talk.transcript(transcript)
    talk.begins("resp_1", unasked=True)
    talk.ends("resp_1")
    talk.loses_the_link()
    told = talk.dials()
    (sent,) = [one for one in talk.of(SendModel, told) if one.event["type"] == "conversation.item.create"]
    assert sent.speech == (None if transcript else "item_u")
    assert talk.told_again(told) == [("user", transcript or "[audio not transcribed]")]


def test_a_turn_that_the_model_would_have_answered_by_itself_is_asked_for() -> None:
    talk = Talk().live()
    talk.user_speaks("item_u")
    talk.loses_the_link()
    assert len(talk.sent("response.create", talk.reconnects())) == 1


def test_a_turn_is_not_lost_that_was_committed_and_whose_item_had_not_come() -> None:
    talk = Talk().live()
    talk.model("input_audio_buffer.committed", item_id="item_u")
    talk.loses_the_link()
    told = talk.dials()
    assert [output.speech for output in talk.of(SendModel, told) if output.speech] == ["item_u"]
    talk.confirms(told)
    assert [item["item_id"] for item in talk.session.history] == ["item_u"]
    assert len(talk.sent("response.create", talk.last)) == 1


def test_nobody_is_answered_who_did_not_ask() -> None:
    talk = Talk(agent(vad=None)).live()
    talk.put(CommitAudio(respond=False))
    talk.model("input_audio_buffer.committed", item_id="item_u")
    talk.user_item("item_u", [{"type": "input_audio", "transcript": None}])
    talk.loses_the_link()
    assert not talk.sent("response.create", talk.reconnects())


def test_a_create_without_its_response_is_sent_again() -> None:
    talk = Talk().live()
    talk.asks("Hello")
    talk.loses_the_link()
    told = talk.dials()
    assert talk.told_again(told) == []
    talk.confirms(told)
    assert talk.told_again(talk.last) == [("user", "Hello")]
    assert talk.sent_types()[-2:] == ["conversation.item.create", "response.create"]


def test_a_response_that_was_cut_is_kept_as_far_as_it_came_and_asked_for_again() -> None:
    talk = Talk().asked("Hello")
    talk.user_item("item_u", [{"type": "input_text", "text": "Hello"}])
    talk.item_begins()
    talk.says("Good eve", spoken=False)
    talk.loses_the_link()
    assert talk.lines()[-1] == ("assistant", "Good eve", None, True)
    assert [turn.status for turn in talk.records(EventType.TURN_ENDED)] == ["incomplete"]
    told = talk.dials()
    assert talk.told_again(told)[-1] == ("assistant", "Good eve")
    talk.confirms(told)
    assert len(talk.sent("response.create", talk.last)) == 1


def test_a_response_of_which_only_the_end_is_missing_is_not_asked_for_again() -> None:
    talk = Talk().asked()
    talk.item_begins()
    talk.says("Hi.", spoken=False)
    talk.said("Hi.", spoken=False)
    talk.item_ends("Hi.", spoken=False)
    talk.loses_the_link()
    assert [turn.status for turn in talk.records(EventType.TURN_ENDED)] == ["completed"]
    assert not talk.sent("response.create", talk.reconnects())


@pytest.mark.parametrize("spoken", [False, True])
def test_an_answer_that_was_said_to_its_end_is_complete_and_not_asked_for_again(spoken: bool) -> None:
    talk = Talk().asked()
    talk.item_begins()
    where: dict[str, Any] = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0, "content_index": 0}
    talk.model("response.content_part.added", part={"type": "audio" if spoken else "text"}, **where)
    talk.says("Hi.", spoken=spoken)
    if spoken:
        talk.sounds(500)
        talk.model("response.output_audio.done", **where)
    talk.said("Hi.", spoken=spoken)
    talk.loses_the_link()
    assert [turn.status for turn in talk.records(EventType.TURN_ENDED)] == ["completed"]
    assert not talk.sent("response.create", talk.reconnects())
    talk.now += 60
    if spoken:
        talk.timer(HEARD_TIMER)
    assert ("assistant", "Hi.", None, False) in talk.lines()


def test_an_answer_whose_words_are_complete_and_whose_sound_is_not_is_asked_for_again() -> None:
    talk = Talk().asked()
    talk.item_begins()
    where: dict[str, Any] = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0, "content_index": 0}
    talk.model("response.content_part.added", part={"type": "audio"}, **where)
    talk.says("Hi.")
    talk.said("Hi.")
    talk.sounds(200)
    talk.loses_the_link()
    assert len(talk.sent("response.create", talk.reconnects())) == 1


def test_a_result_that_comes_meanwhile_is_told_once_and_then_the_model_goes_on() -> None:
    talk = Talk(agent(tools=[tool()])).asked()
    talk.calls()
    talk.loses_the_link()
    assert not talk.sent("conversation.item.create", talk.result("sunny"))
    told = talk.dials()
    assert talk.told(told) == [("call_1", "sunny")]
    after = talk.confirms(told)
    assert not talk.told(after)
    assert len(talk.sent("response.create", after)) == 1
    talk.result("sunny again")
    assert not talk.told(talk.last)


def test_a_result_that_comes_after_the_replay_brings_its_call_along() -> None:
    talk = Talk(agent(tools=[tool()])).asked()
    talk.calls()
    talk.loses_the_link()
    told = talk.dials()
    assert ("function_call", "call_1") not in talk.told_again(told)
    assert not talk.sent("response.create", talk.confirms(told)), "its output is missing"
    after = talk.result("sunny")
    assert talk.told_again(after) == [("function_call", "call_1"), ("function_call_output", "call_1")]
    assert len(talk.sent("response.create", after)) == 1


def test_a_result_that_comes_during_the_replay_is_told_behind_it() -> None:
    talk = Talk(agent(tools=[tool()])).asked()
    talk.confirms(talk.all)
    talk.calls()
    talk.loses_the_link()
    told = talk.dials()
    assert not talk.of(SendModel, talk.result("sunny"))
    after = talk.confirms(told)
    assert talk.told_again(after) == [("function_call", "call_1"), ("function_call_output", "call_1")]
    assert talk.sent_types(after)[-1] == "response.create"


def test_messages_wait_in_order_and_are_sent_once() -> None:
    talk = Talk().live()
    talk.loses_the_link()
    assert not talk.of(SendModel, talk.asks("One"))
    told = talk.dials()
    talk.asks("Two")
    after = talk.confirms(told)
    assert talk.told_again(after) == [("user", "One"), ("user", "Two")]
    assert len(talk.sent("response.create", after)) == 1


def test_a_flood_of_messages_is_bounded_and_each_refused_one_is_told() -> None:
    talk = Talk().live()
    talk.loses_the_link()
    for number in range(258):
        talk.asks(str(number))
    assert talk.errors() == ["not_sent", "not_sent"]
    assert len(talk.told_again(talk.reconnects())) == 256


def test_a_message_that_the_model_has_confirmed_is_told_again_once() -> None:
    talk = Talk().asked("Hello")
    talk.confirms(talk.all)
    talk.ends()
    talk.loses_the_link()
    told = talk.dials()
    assert talk.told_again(told) == [("user", "Hello")]
    assert not talk.sent("conversation.item.create", talk.confirms(told))


def test_a_socket_that_is_lost_during_the_replay_is_replaced_in_turn() -> None:
    talk = conversation()
    talk.loses_the_link()
    talk.dials()
    talk.loses_the_link()
    assert [record.attempt for record in talk.records(EventType.MODEL_RECONNECTING)] == [1, 2]
    told = talk.dials()
    assert len(talk.told_again(told)) == 4
    talk.confirms(told)
    assert state(talk) is State.LIVE


def test_attempts_are_bounded_and_the_session_then_ends_with_one_error() -> None:
    talk = Talk().live()
    talk.loses_the_link(jitter=1.0)
    for _ in range(MAX_ATTEMPTS):
        assert state(talk) is State.RECONNECTING
        talk.timer(RECONNECT_TIMER)
        talk.put(LinkLost("refused", jitter=1.0))
    assert talk.last[-1] == Close("model_lost", 1011)
    assert talk.errors() == ["model_lost"]


def test_a_model_that_was_never_there_is_tried_a_few_times() -> None:
    talk = Talk()
    talk.loses_the_link()
    for _ in range(MAX_FIRST_ATTEMPTS):
        talk.timer(RECONNECT_TIMER)
        talk.put(LinkLost("refused"))
    assert talk.last[-1] == Close("model_lost", 1011)


def test_a_socket_that_answered_was_good_and_one_that_only_opened_was_not() -> None:
    talk = Talk().live()
    for attempt in (1, 2):
        talk.loses_the_link()
        assert talk.records(EventType.MODEL_RECONNECTING)[-1].attempt == attempt
        talk.reconnects()
    talk.asks()
    talk.begins()
    talk.ends()
    talk.loses_the_link()
    assert talk.records(EventType.MODEL_RECONNECTING)[-1].attempt == 1


@pytest.mark.parametrize("lost", [{"code": "insufficient_quota"}, {"close_code": 3000}, {"close_code": 4000}])
def test_what_connecting_cannot_mend_ends_the_session_at_once(lost: dict[str, Any]) -> None:
    talk = Talk().live()
    talk.put(LinkLost("closed", **lost))
    assert talk.last[-1] == Close("model_lost", 1011)
    assert len(talk.errors()) == 1
    assert not talk.records(EventType.MODEL_RECONNECTING)


def test_a_quota_error_on_an_open_socket_ends_the_session_with_one_error() -> None:
    talk = Talk().live()
    talk.fails("insufficient_quota", "You exceeded your current quota.")
    assert talk.errors() == ["insufficient_quota"]
    assert talk.last[-1] == Close("model_lost", 1011)


def test_an_expired_session_is_replaced_without_an_error() -> None:
    talk = conversation()
    talk.fails("session_expired", "60 minutes.")
    assert talk.records(EventType.MODEL_RECONNECTING)[0].cause == "expired"
    talk.reconnects()
    assert state(talk) is State.LIVE
    assert not talk.errors()


def test_an_item_that_is_refused_is_left_out_and_those_behind_it_are_told_again() -> None:
    talk = conversation()
    talk.loses_the_link()
    told = talk.dials()
    first, *behind = talk.sent("conversation.item.create", told)
    off, on = talk.sent("session.update", told)
    talk.model("session.updated", session=off["session"])
    talk.fails("invalid_value", "No such content.", first["event_id"])
    for event in behind:
        talk.fails("item_create_invalid_previous_item_id", "No such item.", event["event_id"])
    again = talk.model("session.updated", session=on["session"])
    assert state(talk) is State.REPLAYING
    assert [role for role, _ in talk.told_again(again)] == ["function_call", "function_call_output", "assistant"]
    assert talk.sent("conversation.item.create", again)[0]["previous_item_id"] == "root"
    talk.confirms(again)
    assert state(talk) is State.LIVE
    assert talk.errors() == ["replay_item_refused"]


def test_a_socket_that_refuses_the_settings_ends_the_session() -> None:
    talk = Talk().live()
    talk.loses_the_link()
    told = talk.dials()
    talk.fails("invalid_value", "Unknown voice.", talk.sent("session.update", told)[0]["event_id"])
    assert talk.last[-1] == Close("error", 1011)


# --- the OpenAI face ------------------------------------------------------------------------------------


def kinds(talk: Talk, since: int = 0) -> list[str]:
    return [event.event["type"] for event in talk.of(ToClient)][since:]


def test_a_client_sees_one_response_that_goes_on_where_the_socket_was_lost() -> None:
    talk = Talk(face=Face.OPENAI).live()
    talk.client("conversation.item.create", item={"type": "message", "role": "user", "content": []})
    talk.client("response.create", event_id="c-1", response={"metadata": {"mine": "1"}})
    talk.begins("resp_1")
    talk.item_begins("item_1", "resp_1")
    part = {"type": "audio", "transcript": ""}
    where: dict[str, Any] = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
    talk.model("response.content_part.added", part=part, **where)
    talk.says("Good eve", "item_1")
    since = len(kinds(talk))
    talk.loses_the_link()
    assert kinds(talk, since) == [
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
    ]
    talk.reconnects()
    assert kinds(talk, since + 5) == [], "it notices nothing of the replay"
    talk.begins("resp_2")
    talk.item_begins("item_2", "resp_2")
    talk.item_ends("Good morning.", "item_2", "resp_2")
    talk.ends("resp_2")
    assert [event["response"]["id"] for event in talk.shown("response.created")] == ["resp_1"]
    (done,) = talk.shown("response.done")
    assert done["response"]["id"] == "resp_1"
    assert done["response"]["status"] == "completed"
    assert done["response"]["metadata"] == {"mine": "1"}
    assert [item["id"] for item in done["response"]["output"]] == ["item_1", "item_2"]
    assert len(talk.shown("session.created")) == 1


def test_a_chain_that_rests_on_a_tool_goes_on_after_the_replay() -> None:
    talk = Talk(agent(tools=[tool()]), face=Face.OPENAI).live()
    talk.client("response.create")
    talk.begins("resp_1")
    talk.calls()
    talk.ends("resp_1")
    talk.loses_the_link()
    talk.result("sunny")
    talk.reconnects()
    talk.begins("resp_2")
    talk.ends("resp_2")
    assert len(talk.shown("response.created")) == len(talk.shown("response.done")) == 1


def test_the_output_of_a_clients_tool_follows_its_call_to_the_next_socket() -> None:
    mine = {"type": "function", "name": "mine", "parameters": {}}
    talk = Talk(face=Face.OPENAI).live()
    update = talk.client("session.update", session={"type": "realtime", "tools": [mine]})
    talk.model("session.updated", session=talk.sent("session.update", update)[0]["session"])
    talk.client("response.create")
    talk.begins("resp_1")
    talk.calls("mine")
    talk.loses_the_link()
    (done,) = talk.shown("response.done")
    assert done["response"]["status"] == "completed"
    talk.reconnects()
    output = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
    after = talk.client("conversation.item.create", item=output)
    assert talk.told_again(after) == [("function_call", "call_1"), ("function_call_output", "call_1")]


def test_a_response_out_of_band_that_was_cut_has_failed() -> None:
    talk = Talk(face=Face.OPENAI).live()
    talk.client("response.create", response={"conversation": "none"})
    talk.begins("resp_1", conversation_id=None)
    talk.loses_the_link()
    (done,) = talk.shown("response.done")
    assert done["response"]["status"] == "failed"
    assert not talk.sent("response.create", talk.reconnects())


def test_an_answer_that_is_interrupted_after_the_replay_is_told_anew_as_it_was_heard() -> None:
    talk = Talk().asked("Hello")
    talk.confirms(talk.all)
    talk.speaks("One two three four", 2000)
    talk.ends()
    talk.loses_the_link()
    talk.reconnects()
    after = talk.model("input_audio_buffer.speech_started", item_id="item_v", after=0.5)
    assert not talk.sent("conversation.item.truncate", after)
    assert [event["item_id"] for event in talk.sent("conversation.item.delete", after)] == ["item_a"]
    assert talk.told_again(after) == [("assistant", "One")]
    talk.model("conversation.item.deleted", item_id="item_a")
    assert "item_a" in [item["item_id"] for item in talk.session.history]


def test_a_client_that_truncates_what_the_socket_knows_as_text_is_answered_as_ever() -> None:
    talk = Talk(face=Face.OPENAI).live()
    talk.client("response.create")
    talk.begins()
    talk.speaks("One two three four", 2000)
    talk.ends()
    talk.loses_the_link()
    talk.reconnects()
    talk.client("conversation.item.truncate", event_id="c-1", item_id="item_a", content_index=0, audio_end_ms=1000)
    (truncated,) = talk.shown("conversation.item.truncated")
    assert (truncated["item_id"], truncated["audio_end_ms"]) == ("item_a", 1000)
    assert talk.told_again(talk.last) == [("assistant", "One two")]


def test_an_answer_that_is_truncated_to_nothing_is_taken_back_and_what_follows_stands_behind_it() -> None:
    talk = Talk(face=Face.OPENAI).live()
    talk.user_item("item_u", [{"type": "input_text", "text": "Hello"}])
    talk.client("response.create")
    talk.begins()
    talk.speaks("One two three four", 2000)
    talk.ends()
    talk.loses_the_link()
    talk.reconnects()
    talk.client("conversation.item.truncate", item_id="item_a", content_index=0, audio_end_ms=0)
    assert [event["item_id"] for event in talk.sent("conversation.item.delete", talk.last)] == ["item_a"]
    assert talk.told_again(talk.last) == []
    talk.user_item("item_v", [{"type": "input_text", "text": "Again"}], previous="item_u")
    assert [item["item_id"] for item in talk.session.history] == ["item_u", "item_a", "item_v"]


def test_what_was_told_anew_again_and_again_is_remembered_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "_MAX_CREATING", 5)
    talk = Talk(face=Face.OPENAI).live()
    talk.client("response.create")
    talk.begins()
    talk.speaks("One two three four", 2000)
    talk.ends()
    talk.loses_the_link()
    talk.reconnects()
    for number in range(20):
        talk.client("conversation.item.truncate", item_id="item_a", content_index=0, audio_end_ms=1000 - number)
    assert len(talk.sent("conversation.item.create")) > 20
    assert len(talk.session._linking.recovery._replay._creating) == 5


# --- calls that live elsewhere --------------------------------------------------------------------------


def attached() -> Talk:
    return Talk(agent(tools=[tool()]), recovering=Recovering.ATTACH).live()


def test_a_call_that_ended_in_order_is_over() -> None:
    talk = attached()
    talk.put(LinkLost("The caller has left.", close_code=1000))
    (close,) = talk.of(Close, talk.last)
    assert close.reason == "hangup"
    assert talk.errors() == []


def test_a_call_that_lives_elsewhere_is_joined_again_and_told_nothing() -> None:
    talk = attached().asked("Hello")
    talk.confirms(talk.all)
    talk.item_begins()
    talk.says("Good", spoken=False)
    talk.loses_the_link()
    talk.asks("One more")
    assert not talk.of(SendModel, talk.dials())
    after = talk.model("session.created", session={"id": "sess_1"})
    assert state(talk) is State.LIVE
    assert talk.told_again(after) == [("system", "."), ("user", "One more")]
    assert not talk.sent("response.create", after), "the answer before runs on"
    (probe, _), (asked,) = talk.sent("conversation.item.create", after), talk.sent("conversation.item.retrieve", after)
    talk.model("conversation.item.added", item=probe["item"], previous_item_id=asked["item_id"])
    item = {"id": asked["item_id"], "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    talk.model("conversation.item.retrieved", item=item)
    talk.says(" day", spoken=False)
    assert len(talk.sent("response.create", talk.ends())) == 1
    assert [turn.status for turn in talk.records(EventType.TURN_ENDED)] == ["completed"]


def test_a_call_that_is_over_ends_without_an_error() -> None:
    talk = attached()
    talk.loses_the_link()
    talk.timer(RECONNECT_TIMER)
    talk.put(LinkLost("refused", fatal=True))
    assert talk.last[-1] == Close("hangup", 1000)
    assert not talk.errors()


def test_a_call_whose_model_session_expires_ends_with_its_reason() -> None:
    talk = attached()
    talk.fails("session_expired", "60 minutes.")
    assert talk.records(EventType.SESSION_ENDED)[0].reason == "model_expired"
    assert talk.errors() == ["session_expired"]


# --- what else may be under way -------------------------------------------------------------------------


def test_a_handoff_that_is_made_during_the_outage_holds_on_the_next_socket() -> None:
    talk = Talk(agent(handoffs=[handoff("billing")])).asked("Hello")
    talk.confirms(talk.all)
    talk.calls("transfer_to_billing")
    talk.loses_the_link()
    talk.put(AgentResolved("call_1", agent("billing", instructions="Bill.")))
    told = talk.dials()
    assert talk.told(told) == [("call_1", '{"assistant": "billing"}')]
    after = talk.confirms(told)
    assert [event["session"]["instructions"] for event in talk.sent("session.update", after)] == ["Bill."]
    assert talk.sent_types(after)[-1] == "response.create"
    assert len(talk.sent("response.create", after)) == 1


def test_a_handoff_that_is_made_after_the_replay_is_told_with_its_call() -> None:
    talk = Talk(agent(handoffs=[handoff("billing")])).asked("Hello")
    talk.confirms(talk.all)
    talk.calls("transfer_to_billing")
    talk.loses_the_link()
    talk.reconnects()
    after = talk.put(AgentResolved("call_1", agent("billing")))
    assert talk.told_again(after) == [("function_call", "call_1"), ("function_call_output", "call_1")]
    assert len(talk.sent("response.create", after)) == 1


def test_what_a_guardrail_holds_back_is_dropped_and_said_again() -> None:
    judge = GuardrailSpec("judge", mode=GuardrailMode.HOLD)
    talk = Talk(agent(guardrails=[judge])).asked("Hello")
    talk.confirms(talk.all)
    talk.item_begins()
    talk.says("Good day.", spoken=False)
    talk.said("Good day.", spoken=False)
    (check,) = talk.of(DispatchCheck)
    talk.loses_the_link()
    assert not talk.emitted("transcript_delta")
    told = talk.dials()
    assert talk.told_again(told) == [("user", "Hello")], "nobody has heard it"
    after = talk.confirms(told)
    assert len(talk.sent("response.create", after)) == 1
    talk.verdict(check.check_id, GuardrailResult(name="judge", tripped=False, info=None, error=None))
    assert not talk.emitted("transcript_delta")


def test_a_turn_that_an_input_guardrail_holds_back_is_asked_for_after_its_verdict_alone() -> None:
    judge = GuardrailSpec("judge", mode=GuardrailMode.HOLD)
    talk = Talk(agent(input_guardrails=(judge,))).live()
    talk.user_speaks("item_u")
    talk.transcript("Hello?")
    (check,) = talk.of(DispatchCheck)
    talk.loses_the_link()
    assert not talk.sent("response.create", talk.reconnects())
    verdict = talk.verdict(check.check_id, GuardrailResult(name="judge", tripped=False, info=None, error=None))
    assert len(talk.sent("response.create", verdict)) == 1


def test_settings_that_a_client_changes_during_the_outage_are_confirmed_to_it() -> None:
    talk = Talk(face=Face.OPENAI).live()
    talk.loses_the_link()
    change = {"type": "realtime", "output_modalities": ["text"]}
    assert not talk.of(SendModel, talk.client("session.update", session=change))
    after = talk.reconnects()
    (update,) = talk.sent("session.update", after)
    assert update["session"]["output_modalities"] == ["text"]
    talk.model("session.updated", session=update["session"])
    assert talk.shown("session.updated", talk.last)[0]["session"]["output_modalities"] == ["text"]


def test_a_client_that_cancels_during_the_outage_gets_no_answer() -> None:
    talk = Talk(face=Face.OPENAI).live()
    talk.client("response.create")
    talk.begins()
    talk.loses_the_link()
    talk.client("response.cancel")
    (done,) = talk.shown("response.done")
    assert done["response"]["status"] == "cancelled"
    assert not talk.sent("response.create", talk.reconnects())


def test_a_socket_lost_while_it_is_configured_is_replaced_before_the_client_sees_anything() -> None:
    talk = Talk(face=Face.OPENAI)
    talk.model("session.created", session={"id": "sess_1"})
    talk.loses_the_link()
    assert not talk.of(ToClient)
    talk.reconnects()
    assert kinds(talk) == ["session.created"]
    assert state(talk) is State.LIVE


def test_what_was_said_to_a_socket_that_is_lost_while_it_is_configured_is_said_to_the_next() -> None:
    talk = Talk()
    talk.asks("Hello?")
    talk.loses_the_link()
    since = len(talk.all)
    talk.reconnects()
    after = talk.all[since:]
    (message,) = talk.sent("conversation.item.create", after)
    assert message["item"]["content"] == [{"type": "input_text", "text": "Hello?"}]
    assert talk.sent_types(after)[-2:] == ["conversation.item.create", "response.create"]
    assert len(talk.sent("response.create", after)) == 1


def test_an_answer_that_was_cut_is_asked_for_again_also_where_there_is_nothing_to_commit() -> None:
    talk = Talk(agent(vad=None)).asked()
    talk.says("Well")
    talk.put(CommitAudio())
    talk.loses_the_link()
    assert len(talk.sent("response.create", talk.reconnects())) == 1
    talk.fails("input_audio_buffer_commit_empty", event_id=talk.sent("input_audio_buffer.commit")[-1]["event_id"])
    talk.begins("resp_2")
    assert not talk.sent("response.cancel")


def test_an_output_that_is_told_to_the_next_socket_alone_does_not_exist_for_a_client() -> None:
    talk = Talk(agent(tools=[tool()]), face=Face.OPENAI).live()
    talk.user_item("item_u", [{"type": "input_text", "text": "How is the weather?"}])
    talk.client("response.create")
    talk.begins()
    talk.calls()
    talk.ends()
    talk.loses_the_link()
    talk.result("sunny")
    told = talk.dials()
    output = talk.sent("conversation.item.create", told)[-1]["item"]
    assert output["type"] == "function_call_output"
    talk.confirms(told)
    talk.begins("resp_2")
    talk.item_begins("item_a", "resp_2", previous=output["id"])
    assert [(event["item"]["id"], event["previous_item_id"]) for event in talk.shown("conversation.item.added")] == [
        ("item_u", None),
        ("item_a", "item_u"),
    ]


@pytest.mark.parametrize("known", [True, False])
def test_speech_whose_words_were_lost_with_the_socket_says_so_in_record_and_history(known: bool) -> None:
    talk = Talk().live()
    if known:
        talk.user_speaks("item_u")
    else:
        talk.model("input_audio_buffer.committed", item_id="item_u")
    talk.loses_the_link()
    talk.reconnects()
    if not known:  # as the next socket tells of the samples that it was given
        assert [item["item_id"] for item in talk.session.history] == ["item_u"]
    if key := next((key for key in talk.timers() if key.startswith("transcript:")), None):
        talk.timer(key)
    (line,) = talk.records(EventType.ITEM_RECORDED)
    assert (line.item_id, line.text) == ("item_u", "[audio not transcribed]")
    (part,) = talk.session.history[0]["content"]
    assert "[audio not transcribed]" in (part.get("transcript"), part.get("text"))
    talk.loses_the_link()
    (sent,) = [one for one in talk.of(SendModel, talk.dials()) if one.event["type"] == "conversation.item.create"]
    assert (sent.speech, sent.event["item"]["id"]) == ("item_u" if known else None, "item_u")


def test_words_that_the_next_socket_tells_after_all_are_recorded() -> None:
    talk = Talk().live()
    talk.user_speaks("item_u")
    talk.loses_the_link()
    talk.reconnects()
    talk.transcript("Hello?")
    (line,) = talk.records(EventType.ITEM_RECORDED)
    assert line.text == "Hello?"


def dialled(talk: Talk) -> list[int]:
    return [dial.address for dial in talk.of(Dial) if not dial.spare]


def test_a_fallback_that_refuses_does_not_end_a_session_whose_model_may_come_back() -> None:
    talk = Talk(models=("gpt-realtime", "other")).live()
    talk.loses_the_link()
    talk.timer(RECONNECT_TIMER)
    talk.loses_the_link()  # the first cannot be reached
    talk.timer(RECONNECT_TIMER)
    talk.loses_the_link(code="invalid_api_key", fatal=True)
    assert state(talk) is State.RECONNECTING
    talk.timer(RECONNECT_TIMER)
    talk.loses_the_link()
    talk.timer(RECONNECT_TIMER)
    assert dialled(talk) == [0, 1, 0, 0], "what has refused is not asked again"
    talk.put(LinkOpened())
    assert state(talk) is State.REPLAYING


def causes(talk: Talk) -> list[str]:
    assert [one.labels["cause"] for one in talk.observed("model_reconnect")] == [
        record.cause for record in talk.records(EventType.MODEL_RECONNECTING)
    ]
    return [one.labels["cause"] for one in talk.observed("model_reconnect")]


def test_a_fallback_is_counted_where_another_address_is_tried_alone() -> None:
    talk = Talk().live()
    talk.loses_the_link()
    for _ in range(3):
        talk.timer(RECONNECT_TIMER)
        talk.loses_the_link(code="circuit_open")
    assert causes(talk) == ["dropped", *["unreachable"] * 3]
    talk = Talk(models=("gpt-realtime", "other")).live()
    talk.loses_the_link()
    talk.timer(RECONNECT_TIMER)
    talk.loses_the_link(code="circuit_open")
    assert causes(talk) == ["dropped", "fallback"]


def test_commits_that_wait_for_a_socket_are_bounded() -> None:
    talk = Talk().live()
    talk.loses_the_link()
    for _ in range(300):
        talk.put(CommitAudio())
    assert len(talk.sent("input_audio_buffer.commit")) == 256
    assert len(talk.errors()) == 44


def test_a_session_ends_when_each_address_has_refused() -> None:
    talk = Talk(models=("gpt-realtime", "other")).live()
    talk.loses_the_link(code="invalid_api_key", fatal=True)
    talk.timer(RECONNECT_TIMER)
    assert dialled(talk) == [1]
    talk.loses_the_link(code="invalid_api_key", fatal=True)
    assert [close.reason for close in talk.of(Close)] == ["model_lost"]


def test_a_model_whose_sockets_come_to_nothing_one_after_the_other_is_left_for_the_next() -> None:
    talk = Talk(models=("gpt-realtime", "other")).live()
    talk.asks("Are you there?")
    for _ in range(3):
        talk.begins()
        talk.loses_the_link()
        talk.reconnects()
    assert dialled(talk) == [0, 0, 1]
    talk.begins()
    talk.ends()
    talk.loses_the_link()
    talk.timer(RECONNECT_TIMER)
    assert dialled(talk) == [0, 0, 1, 0], "which may serve again by now"


def test_a_model_alone_is_dialled_again_also_where_its_sockets_come_to_nothing() -> None:
    talk = Talk().live()
    for _ in range(4):
        talk.loses_the_link()
        talk.reconnects()
    assert dialled(talk) == [0, 0, 0, 0]


def test_what_has_refused_is_asked_again_once_a_socket_was_good() -> None:
    talk = Talk(models=("gpt-realtime", "other")).live()
    talk.loses_the_link(code="insufficient_quota", fatal=True)
    talk.reconnects()
    talk.now += 60
    talk.loses_the_link()
    talk.timer(RECONNECT_TIMER)
    assert dialled(talk) == [1, 0]


@pytest.mark.parametrize("lost", [False, True])
def test_what_was_said_and_no_socket_has_confirmed_is_recorded_when_the_session_ends(lost: bool) -> None:
    talk = Talk().live()
    talk.model("input_audio_buffer.committed", item_id="item_u")
    if lost:
        talk.loses_the_link()
    talk.asks("Are you there?")
    talk.put(End("ended"))
    assert talk.lines() == [
        ("user", "Are you there?", None, False),
        ("user", "[audio not transcribed]", None, False),
    ]


def test_what_a_server_has_confirmed_under_an_id_of_its_own_is_recorded_once() -> None:
    talk = Talk().live()
    talk.asks("Are you there?")
    talk.user_item("item_of_its_own", [{"type": "input_text", "text": "Are you there?"}])
    talk.put(End("ended"))
    assert [line[1] for line in talk.lines()] == ["Are you there?"]


@pytest.mark.parametrize("face", [Face.NATIVE, Face.OPENAI])
def test_what_comes_next_stands_behind_an_answer_that_was_cut_before_its_first_word(face: Face) -> None:
    talk = Talk(face=face).live()
    talk.user_speaks("item_u")
    talk.transcript("Hello?")
    talk.begins("resp_1", unasked=True)
    talk.item_begins("item_a", previous="item_u")
    talk.loses_the_link()
    told = talk.dials()
    assert talk.told_again(told) == [("user", "Hello?")]
    talk.confirms(told)
    talk.user_item("item_v", [{"type": "input_text", "text": "Are you there?"}], "item_u")
    assert [item["item_id"] for item in talk.session.history] == ["item_u", "item_a", "item_v"]
    if face is Face.OPENAI:
        assert talk.shown("conversation.item.added")[-1]["previous_item_id"] == "item_a"


def test_what_is_said_while_a_tool_runs_stands_behind_its_call_over_a_loss() -> None:
    talk = Talk(agent(tools=[tool()])).live()
    talk.user_speaks("item_u")
    talk.begins("resp_1", unasked=True)
    talk.calls()
    talk.ends()
    talk.loses_the_link()
    talk.reconnects()
    talk.user_item("item_v", [{"type": "input_text", "text": "Hurry."}], "item_u")
    assert [item["item_id"] for item in talk.session.history] == ["item_u", "item_call_1", "item_v"]


def test_images_are_told_again_and_parts_that_say_nothing_are_not() -> None:
    talk = Talk().live()
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}
    talk.user_item("item_i", [image, {"type": "input_text", "text": ""}])
    talk.user_item("item_e", [{"type": "input_text", "text": ""}])
    talk.loses_the_link()
    items = [event["item"] for event in talk.sent("conversation.item.create", talk.dials())]
    assert [item["content"] for item in items] == [[image]]
