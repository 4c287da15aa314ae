"""An answer that does not begin is counted, asked for, and then asked of another socket, once."""

from support.talk import Talk, agent
from voicebus.contracts.journal import EventType
from voicebus.engine.config import GuardrailMode, GuardrailSpec
from voicebus.engine.deadair import DEAD_AIR_TIMER
from voicebus.engine.inputs import CommitAudio
from voicebus.engine.outputs import Dial
from voicebus.engine.state import RECONNECT_TIMER, State


def seconds(talk: Talk) -> float:
    return sum(observed.value for observed in talk.observed("dead_air"))


def speaks_again(talk: Talk, *, after: float) -> None:
    talk.model("input_audio_buffer.speech_started", item_id="item_v", audio_start_ms=2000, after=after)


def test_the_model_is_asked_that_should_have_answered_by_itself_and_then_its_socket_is_replaced() -> None:
    talk = Talk().live()
    talk.user_speaks("item_u")
    talk.transcript("Hello?")
    assert talk.timers()[DEAD_AIR_TIMER] == talk.now + 3
    assert len(talk.sent("response.create", talk.timer(DEAD_AIR_TIMER))) == 1
    talk.timer(DEAD_AIR_TIMER)
    assert talk.session.state is State.RECONNECTING
    assert talk.records(EventType.MODEL_RECONNECTING)[0].cause == "dead_air"
    assert seconds(talk) == 6
    assert len(talk.sent("response.create", talk.reconnects())) == 1
    talk.begins()
    assert DEAD_AIR_TIMER not in talk.timers()
    talk.ends()
    assert not talk.errors()


def test_a_socket_is_replaced_once_for_an_answer_that_never_comes() -> None:
    talk = Talk().live()
    talk.asks()
    talk.timer(DEAD_AIR_TIMER)
    talk.timer(DEAD_AIR_TIMER)
    talk.reconnects()
    for _ in range(2):
        talk.timer(DEAD_AIR_TIMER)
    assert len(talk.records(EventType.MODEL_RECONNECTING)) == 1
    talk.timer("create")
    assert talk.errors() == ["response_create_timeout"]


def test_an_answer_that_a_model_does_not_begin_is_asked_of_the_next_model() -> None:
    talk = Talk(models=("gpt-realtime", "other")).live()
    talk.asks()
    talk.timer(DEAD_AIR_TIMER)
    talk.timer(DEAD_AIR_TIMER)
    assert [dial.address for dial in talk.of(Dial, talk.timer(RECONNECT_TIMER))] == [1]


def test_an_answer_that_a_model_says_it_has_and_does_not_begin_is_asked_on_another_socket() -> None:
    talk = Talk().live()
    talk.user_speaks("item_u")
    talk.transcript("Hello?")
    (create,) = talk.sent("response.create", talk.timer(DEAD_AIR_TIMER))
    talk.fails("conversation_already_has_active_response", "Wait.", create["event_id"])
    talk.timer(DEAD_AIR_TIMER)
    assert talk.session.state is State.RECONNECTING
    assert len(talk.sent("response.create", talk.reconnects())) == 1
    talk.begins()
    talk.ends()
    assert not talk.errors()


def test_an_answer_is_not_asked_for_in_the_middle_of_what_the_caller_says() -> None:
    talk = Talk().live()
    talk.user_speaks("item_u")
    speaks_again(talk, after=1.0)
    talk.model("input_audio_buffer.speech_stopped", item_id="item_v", audio_end_ms=9000, after=7.0)
    assert not talk.sent("response.create")
    assert seconds(talk) == 0
    assert talk.timers()[DEAD_AIR_TIMER] == talk.now + 3
    assert len(talk.sent("response.create", talk.timer(DEAD_AIR_TIMER))) == 1


def test_a_socket_is_not_replaced_in_the_middle_of_what_the_caller_says_but_after_it() -> None:
    talk = Talk().live()
    talk.user_speaks("item_u")
    talk.timer(DEAD_AIR_TIMER)
    speaks_again(talk, after=1.0)
    assert talk.timers()[DEAD_AIR_TIMER] == talk.now + 30
    assert seconds(talk) == 4
    talk.model("input_audio_buffer.speech_stopped", item_id="item_v", audio_end_ms=9000, after=7.0)
    talk.timer(DEAD_AIR_TIMER)
    assert talk.session.state is State.RECONNECTING
    assert seconds(talk) == 7


def test_speech_whose_end_is_not_heard_of_does_not_keep_an_answer_from_being_asked_for() -> None:
    talk = Talk().live()
    talk.user_speaks("item_u")
    speaks_again(talk, after=1.0)
    began = talk.now
    assert len(talk.sent("response.create", talk.timer(DEAD_AIR_TIMER))) == 1
    assert talk.now == began + 30
    assert seconds(talk) == 0, "they may have spoken until now"
    talk.timer(DEAD_AIR_TIMER)
    assert talk.now == began + 33
    assert seconds(talk) == 3
    assert talk.session.state is State.RECONNECTING


def test_noise_that_is_taken_for_speech_again_and_again_does_not_either() -> None:
    talk = Talk().live()
    talk.user_speaks("item_u")
    began = talk.now + 1.0
    while not talk.sent("response.create"):
        speaks_again(talk, after=1.0)
        if talk.timers()[DEAD_AIR_TIMER] <= talk.now + 1.0:
            talk.timer(DEAD_AIR_TIMER)
        talk.model("input_audio_buffer.speech_stopped", item_id="item_v", audio_end_ms=2500, after=1.0)
    assert talk.now <= began + 35


def test_an_answer_that_begins_in_time_is_not_counted() -> None:
    talk = Talk().live()
    talk.user_speaks("item_u")
    talk.begins("resp_1", unasked=True)
    talk.ends("resp_1")
    assert DEAD_AIR_TIMER not in talk.timers()
    assert seconds(talk) == 0


def test_where_nobody_asked_there_is_no_dead_air() -> None:
    talk = Talk(agent(vad=None)).live()
    talk.put(CommitAudio(respond=False))
    talk.model("input_audio_buffer.committed", item_id="item_u")
    assert DEAD_AIR_TIMER not in talk.timers()


def test_a_client_that_answers_turns_by_itself_is_left_alone() -> None:
    talk = Talk(agent(vad={"type": "server_vad", "create_response": False})).live()
    talk.user_speaks("item_u")
    assert DEAD_AIR_TIMER not in talk.timers()


def test_a_turn_that_a_guardrail_holds_back_is_not_overdue() -> None:
    judge = GuardrailSpec("judge", mode=GuardrailMode.HOLD)
    talk = Talk(agent(input_guardrails=(judge,))).live()
    talk.user_speaks("item_u")
    assert DEAD_AIR_TIMER not in talk.timers()


def test_a_model_that_begins_by_itself_after_all_answers_once() -> None:
    talk = Talk().live()
    talk.asks()
    talk.begins("resp_0")
    talk.ends("resp_0")
    talk.user_speaks("item_u")
    talk.timer(DEAD_AIR_TIMER)
    create = talk.sent("response.create")[-1]
    talk.begins("resp_1", unasked=True)
    talk.ends("resp_1")
    assert len(talk.sent("response.create")) == 2
    talk.begins("resp_2")
    assert [event["response_id"] for event in talk.sent("response.cancel")] == ["resp_2"], create


def test_a_model_that_refuses_the_second_create_is_not_asked_again() -> None:
    talk = Talk().live()
    talk.user_speaks("item_u")
    talk.timer(DEAD_AIR_TIMER)
    create = talk.sent("response.create")[-1]
    talk.begins("resp_1", unasked=True)
    talk.fails("conversation_already_has_active_response", "Wait.", create["event_id"])
    talk.ends("resp_1")
    assert len(talk.sent("response.create")) == 1
