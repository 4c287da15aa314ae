"""Barge-in and the `interrupt` command: what is cancelled, truncated and dropped (parity 0.2, 122, 123, 2.24-2.27)."""

from support.talk import VAD, Talk, agent
from voicebus.engine.inputs import Interrupt, ListenerBack, ListenerLeft, Playback
from voicebus.engine.outputs import CutSound, Emit, ForwardAudio, HoldSound, Ignored


def speech(talk: Talk, *, after: float = 0.0) -> None:
    talk.model("input_audio_buffer.speech_started", item_id="item_u", audio_start_ms=0, after=after)


def test_audio_passes_with_its_address() -> None:
    talk = Talk().asked()
    talk.item_begins()
    assert talk.of(ForwardAudio, talk.sounds(20)) == [ForwardAudio("resp_1", "item_a", 0, 0)]
    assert talk.sounds(20) == [ForwardAudio("resp_1", "item_a", 0, 0)]


def test_speech_stops_what_is_being_said() -> None:
    talk = Talk().asked()
    talk.speaks("One two three four", 2000)
    speech(talk, after=0.5)
    part = {"item_id": "item_a", "content_index": 0}
    assert talk.of(Emit, talk.last) == [Emit("audio_interrupted", part), Emit("audio_stopped", part)]
    (truncate,) = talk.sent("conversation.item.truncate", talk.last)
    assert (truncate["item_id"], truncate["content_index"], truncate["audio_end_ms"]) == ("item_a", 0, 500)
    assert talk.sent("response.cancel") == [], "the model cancels by itself"
    assert len(talk.observed("barge_in")) == 1


def test_the_session_cancels_where_the_model_does_not() -> None:
    talk = Talk(agent(vad={**VAD, "interrupt_response": False})).asked()
    talk.speaks("One two three four", 2000)
    speech(talk, after=0.5)
    assert talk.sent("response.cancel", talk.last)[0]["response_id"] == "resp_1"


def test_a_confirmation_that_leaves_the_turn_detection_out_leaves_it_as_it_was_told() -> None:
    talk = Talk().live()
    talk.model("session.updated", session={"id": "sess_1", "tracing": "auto"})
    talk.asked()
    talk.speaks("One two three four", 2000)
    speech(talk, after=0.5)
    assert talk.sent("response.cancel") == [], "the model cancels by itself"


def test_late_audio_and_text_of_an_interrupted_response_are_dropped_until_it_is_done() -> None:
    talk = Talk().asked()
    talk.item_begins()
    talk.sounds(1000)
    speech(talk, after=0.1)
    assert talk.sounds(100) == []
    assert talk.emitted("transcript_delta", talk.says("more")) == []
    talk.ends(status="cancelled")
    talk.begins("resp_2", unasked=True)
    talk.item_begins("item_b", "resp_2")
    assert talk.of(ForwardAudio, talk.sounds(20, "item_b", "resp_2"))


def test_audio_of_an_ended_response_is_ignored() -> None:
    talk = Talk().asked()
    talk.speaks("Hello", 100)
    talk.ends()
    assert [type(output) for output in talk.sounds(20)] == [Ignored]


def test_a_recording_is_told_what_was_heard_and_nobody_else_is() -> None:
    recorded = Talk(records=True).asked()
    for talk in (recorded, Talk().asked()):
        talk.speaks("One two three four", 2000)
        talk.put(ListenerLeft(), after=0.3)
        talk.put(ListenerBack(), after=1.0)
        speech(talk, after=0.2)
        told = [output for output in talk.all if isinstance(output, CutSound | HoldSound)]
        held = [HoldSound(held=True), HoldSound(held=False)]  # which places what the caller says, too
        assert told == ([*held, CutSound("item_a", 0, 500)] if talk is recorded else held)


def test_a_recording_is_told_what_a_client_of_the_protocol_has_truncated() -> None:
    talk = Talk(records=True).asked()
    talk.speaks("One two three four", 2000)
    told = talk.model("conversation.item.truncated", item_id="item_a", content_index=0, audio_end_ms=700)
    assert talk.of(CutSound, told) == [CutSound("item_a", 0, 700)]


def test_speech_after_an_answer_was_heard_out_truncates_nothing() -> None:
    talk = Talk().asked()
    talk.speaks("Hello", 500)
    talk.ends()
    speech(talk, after=30.0)
    assert talk.emitted("audio_interrupted"), "any agent audio counts, also finished audio (parity 2.24)"
    assert talk.sent("conversation.item.truncate") == []
    assert talk.observed("barge_in") == []


def test_a_second_speech_start_is_silent_until_new_audio() -> None:
    talk = Talk().asked()
    talk.speaks("Hello", 500)
    talk.ends()
    speech(talk, after=0.1)
    speech(talk, after=0.1)
    assert len(talk.emitted("audio_interrupted")) == 1


def test_speech_before_any_audio_interrupts_nothing() -> None:
    talk = Talk().asked()
    speech(talk)
    assert talk.sent_types() == []
    assert talk.emitted("audio_interrupted") == []


def test_the_listeners_own_report_decides_where_to_cut() -> None:
    talk = Talk().asked()
    talk.speaks("One two three four", 2000)
    talk.put(Playback("item_a", 0, 320.4))
    speech(talk, after=1.5)
    assert talk.sent("conversation.item.truncate")[0]["audio_end_ms"] == 320


def test_a_report_on_what_is_not_played_is_ignored() -> None:
    assert [type(output) for output in Talk().live().put(Playback("nothing", 0, 1.0))] == [Ignored]


def test_interrupt_cancels_and_truncates_also_where_the_model_would_cancel_by_itself() -> None:
    talk = Talk().asked()
    talk.speaks("One two three four", 2000)
    talk.put(Interrupt(), after=0.4567)
    assert talk.sent_types() == ["conversation.item.truncate", "response.cancel"]
    assert talk.sent("conversation.item.truncate")[0]["audio_end_ms"] == 456


def test_interrupt_stops_a_text_answer() -> None:
    talk = Talk().asked()
    talk.item_begins()
    talk.says("Once upon a time", spoken=False)
    talk.put(Interrupt())
    assert talk.sent_types() == ["response.cancel"]
    assert talk.emitted("transcript_delta", talk.says(" there", spoken=False)) == []


def test_interrupt_after_the_answer_was_generated_stops_its_playback() -> None:
    talk = Talk().asked()
    talk.speaks("One two three four", 2000)
    talk.ends()
    talk.put(Interrupt(), after=1.0)
    assert talk.sent_types() == ["conversation.item.truncate"]


def test_interrupt_with_nothing_going_on_does_nothing() -> None:
    assert Talk().live().put(Interrupt()) == []
