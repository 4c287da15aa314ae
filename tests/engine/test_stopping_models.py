"""Models of transport EVENTS stop by themselves: they are told to, and say what they stopped (parity J, L)."""

from typing import Any

from support.talk import Talk, agent
from voicebus.contracts.guardrails import GuardrailResult
from voicebus.engine.config import GuardrailSpec, Transport
from voicebus.engine.inputs import AudioInterrupted, Interrupt
from voicebus.engine.outputs import DispatchCheck, ForwardAudio, StopModel

NO = GuardrailResult(name="rude", tripped=True)


def talking(**fields: Any) -> Talk:
    talk = Talk(agent(guardrails=[GuardrailSpec("rude", debounce=5, **fields)]), transport=Transport.EVENTS)
    talk.model("response.created", response={"id": "resp_1"})
    talk.item_begins()
    return talk


def check(talk: Talk) -> str:
    return talk.of(DispatchCheck)[-1].check_id


def test_a_trip_while_it_speaks_cancels_and_cuts_and_feedback_goes_with_its_create() -> None:
    talk = talking(policy_hint="Be kind.")
    talk.says("Damn you")
    talk.sounds(500)
    talk.verdict(check(talk), NO)
    assert talk.of(StopModel, talk.last) == [StopModel("resp_1", cancel=True, truncate=True)]
    assert talk.sent_types() == ["conversation.item.create", "response.create"]
    (item,) = talk.sent("conversation.item.create")
    assert item["item"]["content"][0]["text"] == "guardrail triggered: rude. Policy: Be kind."
    assert talk.of(ForwardAudio, talk.sounds(100)) == []


def test_a_trip_in_a_text_answer_only_cancels() -> None:
    talk = talking()
    talk.says("Damn you", spoken=False)
    talk.verdict(check(talk), NO)
    assert talk.of(StopModel) == [StopModel("resp_1", cancel=True, truncate=False)]


def test_a_trip_after_the_end_cuts_playback_alone_and_tells_the_model() -> None:
    talk = talking()
    talk.speaks("Damn you", 2000)
    talk.ends()
    talk.verdict(check(talk), NO)
    assert talk.of(StopModel) == [StopModel("resp_1", cancel=False, truncate=True)]
    assert "response.create" in talk.sent_types()


def test_a_trip_after_a_text_answer_has_ended_stops_nothing() -> None:
    talk = talking()
    talk.says("Damn you", spoken=False)
    talk.ends()
    talk.verdict(check(talk), NO)
    assert talk.of(StopModel) == []
    assert "response.create" in talk.sent_types()


def test_a_trip_after_a_newer_response_began_cuts_playback_alone_and_says_nothing() -> None:
    talk = talking()
    talk.speaks("Damn you", 2000)
    talk.ends()
    talk.model("response.created", response={"id": "resp_2"})
    talk.verdict(check(talk), NO)
    assert talk.of(StopModel) == [StopModel("resp_1", cancel=False, truncate=True)]
    assert talk.sent_types() == []


def test_what_the_model_stopped_is_not_played_on_and_counts_as_heard_so_far() -> None:
    talk = talking()
    talk.speaks("One two three four", 2000)
    talk.now += 0.5
    talk.put(AudioInterrupted("item_a", 0))
    assert talk.emitted("audio_interrupted") == [{"item_id": "item_a", "content_index": 0}]
    assert talk.emitted("audio_stopped") == [{"item_id": "item_a", "content_index": 0}]
    assert talk.lines() == [("assistant", "One two three four", "One", True)]
    assert talk.sent("conversation.item.truncate") == []


def test_what_the_model_stops_after_it_was_heard_stays_heard() -> None:
    talk = talking()
    talk.speaks("One two", 100)
    talk.ends()
    talk.now += 1
    talk.put(AudioInterrupted("item_a", 0))
    assert talk.lines() == [("assistant", "One two", None, False)]


def test_the_user_s_speech_is_the_model_s_own_affair_and_an_interruption_is_passed_on() -> None:
    talk = talking()
    talk.speaks("One two", 2000)
    talk.model("input_audio_buffer.speech_started", item_id="item_u")
    assert talk.of(StopModel) == []
    assert talk.emitted("audio_interrupted") == []
    talk.put(Interrupt("resp_1", cancel=False))
    assert talk.of(StopModel) == [StopModel("resp_1", cancel=False, truncate=True)]
