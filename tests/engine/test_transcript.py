"""Which lines are recorded, when, and what of them was heard."""

import pytest

from support.talk import Talk, agent
from voicebus.contracts.journal import EventType
from voicebus.engine.inputs import End, Interrupt, LinkLost, Playback, Spoken
from voicebus.engine.transcript import heard_share


@pytest.mark.parametrize(
    ("text", "played", "received", "heard"),
    [
        ("One two three four", 1000, 2000, "One two"),
        ("One two three four", 0, 2000, ""),
        ("One two three four", 2000, 2000, "One two three four"),
        ("One two three four", 100, 2000, ""),
        ("One two three four", 340, 2000, "One"),
        ("Unbreakable", 1000, 2000, ""),
        ("a b", 1, 3, "a"),
        ("a b c", 4, 5, "a b"),
        ("", 5, 10, ""),
        ("One", 5, 0, ""),
    ],
)
def test_text_is_cut_at_a_word_by_the_share_that_was_played(
    text: str, played: float, received: float, heard: str
) -> None:
    assert heard_share(text, played, received) == heard


def test_a_text_turn_leaves_two_lines_in_order() -> None:
    talk = Talk().live()
    talk.asks("Hello")
    item = talk.sent("conversation.item.create")[0]["item"]
    talk.user_item(item["id"], item["content"])
    assert talk.lines() == [("user", "Hello", None, False)]
    talk.begins()
    talk.item_begins(previous=item["id"])
    talk.says("Hi there", spoken=False)
    talk.item_ends("Hi there", spoken=False)
    assert talk.lines()[1:] == [("assistant", "Hi there", None, False)]
    talk.ends()
    assert len(talk.lines()) == 2


def test_a_users_line_comes_before_its_answer_also_where_its_transcript_comes_after() -> None:
    talk = Talk().live()
    talk.user_speaks("item_u")
    talk.begins("resp_1", unasked=True)
    talk.item_begins(previous="item_u")
    talk.item_ends("Sunny.", spoken=False)
    talk.ends()
    assert talk.lines() == []
    talk.transcript("How is the weather?")
    assert talk.lines() == [("user", "How is the weather?", None, False), ("assistant", "Sunny.", None, False)]


def test_the_transcript_may_come_between_the_item_and_its_end() -> None:
    talk = Talk().live()
    wire = {"id": "item_u", "type": "message", "role": "user", "content": [{"type": "input_audio", "transcript": None}]}
    talk.model("conversation.item.added", item=wire, previous_item_id=None)
    talk.transcript("Hello")
    talk.model("conversation.item.done", item=wire, previous_item_id=None)
    assert talk.lines() == [("user", "Hello", None, False)]


def test_a_transcript_that_never_comes_is_waited_for_ten_seconds() -> None:
    talk = Talk().live()
    talk.user_speaks("item_u")
    assert talk.timers()["transcript:item_u"] == talk.now + 10.0
    talk.timer("transcript:item_u")
    assert talk.lines() == [("user", "", None, False)]
    talk.transcript("Too late")
    assert len(talk.lines()) == 1


def test_a_failed_transcription_leaves_an_empty_line_and_an_error() -> None:
    talk = Talk().live()
    talk.user_speaks("item_u")
    kind = "conversation.item.input_audio_transcription.failed"
    talk.model(kind, item_id="item_u", content_index=0, error={"message": "Noise."})
    assert talk.lines() == [("user", "", None, False)]
    assert talk.errors() == ["transcription_failed"]


def test_without_transcription_no_transcript_is_waited_for() -> None:
    talk = Talk(agent(transcription=False)).live()
    talk.user_speaks("item_u")
    assert talk.lines() == [("user", "", None, False)]


def test_a_transcript_of_an_unknown_item_is_a_line_of_its_own() -> None:
    talk = Talk().live()
    talk.transcript("Hello", "item_x")
    assert talk.lines() == [("user", "Hello", None, False)]
    talk.user_item("item_x", [{"type": "input_audio", "transcript": None}])
    assert len(talk.lines()) == 1


def test_a_users_line_spans_its_speech() -> None:
    talk = Talk().live()
    talk.now += 1.0
    talk.user_speaks("item_u", seconds=1.5)
    talk.transcript("Hello")
    (line,) = talk.records(EventType.ITEM_RECORDED)
    assert (line.started_ms, line.ended_ms) == (1000, 2500)


def hears(talk: Talk, spoken: Spoken, *, told_after: float, seconds: float) -> None:
    """A turn under VAD of which is known where it lies; the model tells of its beginning after so long (s)."""
    talk.model("input_audio_buffer.speech_started", item_id=spoken.item_id, after=told_after)
    talk.model("input_audio_buffer.speech_stopped", item_id=spoken.item_id, after=seconds)
    talk.put(spoken)
    talk.model("input_audio_buffer.committed", item_id=spoken.item_id)
    talk.user_item(spoken.item_id, [{"type": "input_audio"}])
    talk.transcript("Hello", spoken.item_id)


def test_a_users_line_lies_where_it_was_spoken_and_not_where_the_model_told_of_it() -> None:
    talk = Talk().live()
    began = talk.now
    hears(talk, Spoken("item_u", began + 1.5, began + 2.75), told_after=2.0, seconds=1.0)
    (line,) = talk.records(EventType.ITEM_RECORDED)
    assert (line.started_ms, line.ended_ms) == (1500, 2750)


@pytest.mark.parametrize(
    ("began", "ended"), [(9.0, 12.0), (2.5, 2.75)], ids=["ahead of the clock", "before what was typed"]
)
def test_a_line_of_speech_that_came_faster_than_it_is_spoken_lies_where_its_sound_does(
    began: float, ended: float
) -> None:
    talk = Talk().live()
    start = talk.now
    talk.now += 3.0
    talk.user_item("item_t", [{"type": "input_text", "text": "typed"}])
    hears(talk, Spoken("item_u", start + began, start + ended), told_after=0.5, seconds=0.25)
    typed, said = talk.records(EventType.ITEM_RECORDED)
    assert typed.started_ms == 3000
    assert (said.started_ms, said.ended_ms) == (began * 1000, ended * 1000)


def test_who_goes_on_speaking_as_the_answer_begins_is_not_moved_behind_its_beginning() -> None:
    talk = Talk().live()
    began = talk.now
    talk.now += 3.0
    talk.user_item("item_t", [{"type": "input_text", "text": "typed"}])
    hears(talk, Spoken("item_u", began + 2.8, began + 3.4), told_after=0.2, seconds=0.5)
    before, said = talk.records(EventType.ITEM_RECORDED)
    assert (before.started_ms, said.started_ms, said.ended_ms) == (3000, 2800, 3400)


def test_a_spoken_answer_is_recorded_when_it_was_heard_out() -> None:
    talk = Talk().asked()
    talk.speaks("One two three four", 2000)
    talk.ends()
    assert talk.lines() == []
    assert talk.timers()["heard"] == talk.now + 2.0
    talk.timer("heard")
    assert talk.lines() == [("assistant", "One two three four", None, False)]
    (line,) = talk.records(EventType.ITEM_RECORDED)
    assert line.ended_ms - line.started_ms == 2000


def test_an_interruption_after_the_response_was_done_still_counts() -> None:
    talk = Talk().asked()
    talk.speaks("One two three four", 2000)
    talk.ends()
    talk.model("input_audio_buffer.speech_started", item_id="item_u", after=1.0)
    assert talk.lines() == [("assistant", "One two three four", "One two", True)]
    assert "heard" not in talk.timers()
    (line,) = talk.records(EventType.ITEM_RECORDED)
    assert line.ended_ms - line.started_ms == 1000


def test_an_interrupted_answer_is_recorded_when_the_model_has_ended_it() -> None:
    talk = Talk().asked()
    talk.item_begins()
    talk.says("One two three four")
    talk.sounds(2000)
    talk.put(Interrupt(), after=1.0)
    assert talk.lines() == []
    talk.item_ends("One two three four five", status="incomplete")
    assert talk.lines() == [("assistant", "One two three four five", "One two", True)]


def test_reports_finish_a_line_early() -> None:
    talk = Talk().asked()
    talk.speaks("One two", 2000)
    talk.ends()
    talk.put(Playback("item_a", 0, 2000.0))
    assert talk.lines() == [("assistant", "One two", None, False)]


def test_a_text_answer_that_was_stopped_was_read_as_far_as_it_came() -> None:
    talk = Talk().asked()
    talk.item_begins()
    talk.says("Once upon", spoken=False)
    talk.put(Interrupt())
    talk.item_ends("Once upon a time", status="incomplete", spoken=False)
    assert talk.lines() == [("assistant", "Once upon a time", "Once upon", True)]


def test_speech_that_was_stopped_before_its_audio_was_not_heard() -> None:
    talk = Talk().asked()
    talk.item_begins()
    talk.says("Once upon")
    talk.put(Interrupt())
    talk.item_ends("Once upon", status="incomplete")
    assert talk.lines() == [("assistant", "Once upon", "", True)]


def test_an_item_without_an_end_is_recorded_with_its_response() -> None:
    talk = Talk().asked()
    talk.item_begins()
    talk.says("Hello", spoken=False)
    talk.ends(status="incomplete")
    assert talk.lines() == [("assistant", "Hello", None, True)]


@pytest.mark.parametrize("end", [End("hangup"), LinkLost("refused", close_code=4000)])
def test_the_end_records_everything_that_is_outstanding(end: End | LinkLost) -> None:
    talk = Talk().live()
    talk.user_speaks("item_u")
    talk.begins("resp_1", unasked=True)
    talk.item_begins(previous="item_u")
    talk.says("One two three four")
    talk.sounds(2000)
    talk.put(end, after=1.0)
    assert talk.lines() == [("user", "", None, False), ("assistant", "One two three four", "One two", True)]
    assert [record.status for record in talk.records(EventType.TURN_ENDED)] == ["cancelled"]
    assert len(talk.records(EventType.SESSION_ENDED, talk.last)) == 1


def test_the_end_believes_the_listener_about_what_was_heard() -> None:
    talk = Talk().asked()
    talk.speaks("One two three four", 2000)
    talk.ends()
    talk.put(Playback("item_a", 0, 400.0))
    talk.put(End("hangup"), after=1.9)
    assert talk.lines()[0] == ("assistant", "One two three four", "One", True)


def test_items_put_between_others_are_recorded_in_the_conversations_order() -> None:
    talk = Talk().live()
    talk.user_speaks("item_u")
    talk.user_item("item_v", [{"type": "input_text", "text": "later"}], previous="item_u")
    talk.user_item("item_between", [{"type": "input_text", "text": "between"}], previous="item_u")
    talk.transcript("first")
    assert [text for _, text, _, _ in talk.lines()] == ["first", "between", "later"]


def test_a_system_message_is_a_line() -> None:
    talk = Talk().live()
    wire = {"id": "i", "type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be kind."}]}
    talk.model("conversation.item.added", item=wire, previous_item_id=None)
    assert talk.lines() == [("system", "Be kind.", None, False)]


def test_an_assistants_item_of_nobodys_response_is_a_line_when_it_is_done() -> None:
    talk = Talk().live()
    wire = {"id": "i", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Before."}]}
    talk.model("conversation.item.added", item=wire, previous_item_id=None)
    talk.model("conversation.item.done", item=wire, previous_item_id=None)
    assert talk.lines() == [("assistant", "Before.", None, False)]


def test_the_beta_name_of_a_new_item_is_understood() -> None:
    talk = Talk().live()
    wire = {"id": "i", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}
    talk.model("conversation.item.created", item=wire, previous_item_id=None)
    assert talk.lines() == [("user", "Hello", None, False)]


def test_an_answer_that_the_model_stopped_before_its_first_audio_was_not_heard() -> None:
    talk = Talk().asked()
    talk.item_begins()
    talk.says("Once upon")
    talk.item_ends("Once upon", status="incomplete")
    talk.ends(status="cancelled")
    assert talk.lines() == [("assistant", "Once upon", "", True)]


def test_a_deleted_item_does_not_hold_the_record_up() -> None:
    talk = Talk().asked()
    talk.item_begins()
    talk.says("Hello", spoken=False)
    talk.model("conversation.item.deleted", item_id="item_a")
    assert talk.lines() == [("assistant", "Hello", None, False)]


def test_an_answer_that_waited_behind_another_one_until_the_call_ended_lies_within_the_call() -> None:
    talk = Talk().live().asked()
    talk.speaks("One two three.", 8000)
    talk.ends()
    talk.asked("And?", "resp_2")
    talk.speaks("Four five six.", 5000, "item_b", "resp_2")
    talk.put(End("hangup"), after=2.0)
    first, second = (line for line in talk.records(EventType.ITEM_RECORDED) if line.role == "assistant")
    assert (first.heard_text, second.heard_text) == ("One", "")
    (ended,) = talk.records(EventType.SESSION_ENDED)
    assert second.started_ms == second.ended_ms == first.ended_ms <= ended.duration_ms
