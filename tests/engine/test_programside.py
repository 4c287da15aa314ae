"""What a program wants of a session beyond talking: raw messages, settings, a certain response stopped."""

from typing import Any

import pytest

from support.talk import Talk, agent, tool
from voicebus.contracts.journal import EventType
from voicebus.engine.inputs import (
    ChangeSettings,
    CommitAudio,
    Interrupt,
    ModelAudio,
    SendMessage,
    SendRaw,
    UpdateAgent,
)
from voicebus.engine.outputs import ForwardAudio, Ignored
from voicebus.engine.state import State

HELLO = [{"type": "input_text", "text": "Hello"}]


def raw(talk: Talk, kind: str, **fields: Any) -> None:
    talk.put(SendRaw({"type": kind, **fields}))


# --- messages -----------------------------------------------------------------------------------------


def test_a_message_may_ask_for_no_answer_and_carry_further_fields() -> None:
    talk = Talk().live()
    talk.put(SendMessage(HELLO, respond=False, extra={"previous_item_id": "root"}))
    (create,) = talk.sent("conversation.item.create", talk.last)
    assert (create["previous_item_id"], create["item"]["content"]) == ("root", HELLO)
    assert talk.sent_types() == ["conversation.item.create"]


def test_a_commit_without_a_response_asks_for_none() -> None:
    talk = Talk().live()
    talk.put(CommitAudio(respond=False))
    assert talk.sent_types() == ["input_audio_buffer.commit"]


# --- raw messages -------------------------------------------------------------------------------------


def test_a_raw_create_keeps_its_event_id_and_bears_our_mark() -> None:
    talk = Talk().live()
    raw(talk, "response.create", event_id="mine", response={"instructions": "Sing.", "metadata": {"a": "b"}})
    (create,) = talk.sent("response.create", talk.last)
    assert create["event_id"] == "mine"
    assert create["response"]["instructions"] == "Sing."
    assert set(create["response"]["metadata"]) == {"a", "voicebus"}
    talk.begins()
    assert talk.session.state is State.LIVE
    raw(talk, "response.create")
    assert not talk.sent("response.create", talk.last), "it waits for its turn"
    talk.ends()
    assert talk.sent("response.create", talk.last)


def test_a_raw_create_is_a_barrier_for_those_that_coalesce() -> None:
    talk = Talk().asked()
    talk.asks("one")
    talk.asks("two")
    raw(talk, "response.create", event_id="mine")
    talk.asks("three")
    order = []
    for number in range(1, 5):
        talk.ends(f"resp_{number}")
        creates = talk.sent("response.create", talk.last)
        if creates:
            order.append(creates[0]["event_id"] == "mine")
            talk.begins(f"resp_{number + 1}")
    assert order == [False, True, False]


def test_a_refused_raw_create_is_an_error_and_the_next_one_goes_out() -> None:
    talk = Talk().live()
    raw(talk, "response.create", event_id="mine")
    raw(talk, "response.create", event_id="next")
    talk.fails("invalid_value", "No such tool.", "mine")
    assert talk.errors() == ["invalid_value"]
    assert talk.sent("response.create", talk.last)[0]["event_id"] == "next"


def test_a_refused_raw_create_beside_the_conversation_is_an_error_too() -> None:
    talk = Talk().asked()
    raw(talk, "response.create", event_id="aside", response={"conversation": "none"})
    assert talk.sent("response.create", talk.last)
    talk.fails("invalid_value", "No.", "aside")
    assert talk.errors() == ["invalid_value"]


def test_too_many_raw_creates_are_an_error() -> None:
    talk = Talk().asked()
    for _ in range(33):
        raw(talk, "response.create")
    assert talk.errors() == ["too_many_pending_responses"]


def test_the_follow_up_of_a_raw_response_is_a_plain_one() -> None:
    talk = Talk(agent(tools=[tool()])).live()
    raw(talk, "response.create", response={"instructions": "Only once."})
    talk.begins()
    talk.calls()
    talk.ends()
    talk.result()
    (create,) = talk.sent("response.create", talk.last)
    assert set(create["response"]) == {"metadata"}


def test_raw_settings_last_until_the_next_agent() -> None:
    talk = Talk().live()
    raw(talk, "session.update", event_id="mine", session={"type": "realtime", "audio": {"input": {"format": "x"}}})
    (update,) = talk.sent("session.update", talk.last)
    assert update["event_id"] == "mine"
    talk.model("session.updated", session={})
    assert talk.session._p.settings.effective["audio"]["input"]["format"] == "x"
    talk.put(UpdateAgent(agent("other")))
    assert "format" not in talk.sent("session.update", talk.last)[0]["session"]["audio"]["input"]


def test_raw_settings_that_the_model_refuses_change_nothing() -> None:
    talk = Talk().live()
    raw(talk, "session.update", event_id="mine", session={"type": "realtime", "output_modalities": ["smell"]})
    talk.fails("invalid_value", "No.", "mine")
    assert talk.errors() == ["invalid_value"]
    talk.model("session.updated", session={})
    assert "output_modalities" not in talk.session._p.settings.effective


def test_a_raw_cancel_is_not_followed_by_another_one() -> None:
    talk = Talk().asked()
    raw(talk, "response.cancel")
    assert talk.sent_types() == ["response.cancel"]
    talk.put(Interrupt())
    assert talk.sent_types() == []


def test_a_raw_cancel_without_a_response_is_just_forwarded() -> None:
    talk = Talk().live()
    raw(talk, "response.cancel", response_id="resp_9")
    assert talk.sent_types() == ["response.cancel"]


def test_a_raw_truncation_counts_as_a_cut() -> None:
    talk = Talk().asked()
    talk.speaks("one two three four", 1000)
    talk.ends()
    raw(talk, "conversation.item.truncate", item_id="item_a", content_index=0, audio_end_ms=500)
    assert talk.lines()[-1][2:] == ("one two", True)
    assert not talk.emitted("audio_interrupted")
    talk.model("input_audio_buffer.speech_started", item_id="u")
    assert not talk.sent("conversation.item.truncate", talk.last)


def test_a_raw_turn_of_the_user_is_what_latencies_count_from() -> None:
    talk = Talk().live()
    raw(talk, "input_audio_buffer.commit")
    talk.now += 1
    raw(talk, "conversation.item.create", item={"type": "message", "role": "user", "content": HELLO})
    raw(talk, "conversation.item.create", item={"type": "message", "role": "system", "content": HELLO})
    talk.model("response.created", response={"id": "resp_1"}, after=1.0)
    talk.sounds(20, after=1.0)
    talk.ends()
    assert talk.records(EventType.TURN_ENDED)[0].latencies["first_audio"] == 2000


def test_anything_else_raw_goes_as_it_is() -> None:
    talk = Talk().live()
    for event in ({"type": "new.thing", "x": [1]}, {"type": "session.update", "session": 7}, {"no": "type"}):
        talk.put(SendRaw(event))
        assert [output.event for output in talk.last] == [event]  # type: ignore[union-attr]


# --- settings -----------------------------------------------------------------------------------------


def test_a_changed_setting_goes_to_the_model_and_lasts_until_the_next_agent() -> None:
    talk = Talk(agent(instructions=None)).live()
    talk.put(ChangeSettings({"instructions": "Shout.", "tool_choice": "none"}))
    (update,) = talk.sent("session.update", talk.last)
    assert update["session"] == {"type": "realtime", "instructions": "Shout.", "tool_choice": "none"}
    talk.put(UpdateAgent(agent("other", instructions=None)))
    assert talk.sent("session.update", talk.last)[0]["session"]["instructions"] == ""


def test_a_changed_voice_is_the_old_one_once_audio_was_spoken() -> None:
    talk = Talk(agent(voice="ash")).asked()
    talk.put(ChangeSettings({"audio": {"output": {"voice": "coral"}}}))
    assert talk.sent("session.update", talk.last)[0]["session"]["audio"]["output"]["voice"] == "coral"
    talk.model("session.updated", session={})
    talk.sounds(20)
    talk.put(ChangeSettings({"audio": {"output": {"voice": "ash", "speed": 2}}}))
    assert talk.sent("session.update", talk.last)[0]["session"]["audio"]["output"] == {"voice": "coral", "speed": 2}


def test_what_was_told_counts_from_then_on_with_a_server_that_never_confirms() -> None:
    talk = Talk(agent(voice="ash"))
    talk.put(UpdateAgent(agent("other", voice="coral")))
    talk.asks()
    talk.begins()
    talk.sounds(20)
    talk.put(UpdateAgent(agent("third", voice="verse")))
    assert talk.sent("session.update", talk.last)[0]["session"]["audio"]["output"]["voice"] == "coral"


def test_updates_without_an_answer_are_remembered_up_to_a_limit() -> None:
    talk = Talk()
    for number in range(200):
        talk.put(ChangeSettings({"max_output_tokens": number}))
    assert len(talk.session._p.settings._unanswered) == 64


def test_a_codec_that_changes_counts_for_the_audio_that_follows() -> None:
    talk = Talk().live()
    talk.put(ChangeSettings({"audio": {"output": {"format": {"type": "audio/pcmu"}}}}))
    assert talk.session._p.playback.bytes_per_ms == 48
    talk.model("session.updated", session={})
    assert talk.session._p.playback.bytes_per_ms == 8


# --- interruptions ------------------------------------------------------------------------------------


def speaking() -> Talk:
    talk = Talk().asked()
    talk.item_begins()
    talk.says("one two three four")
    talk.sounds(1000)
    return talk


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    ("cancel", "truncate", "sent"),
    [
        (True, True, ["conversation.item.truncate", "response.cancel"]),
        (True, False, ["response.cancel"]),
        (False, True, ["conversation.item.truncate"]),
        (False, False, []),
    ],
)
def test_an_interruption_stops_what_it_names(named: bool, cancel: bool, truncate: bool, sent: list[str]) -> None:
    talk = speaking()
    talk.put(Interrupt("resp_1" if named else None, cancel=cancel, truncate=truncate), after=0.5)
    assert talk.sent_types() == sent
    assert bool(talk.emitted("audio_interrupted", talk.last)) is truncate
    if truncate:
        assert talk.put(ModelAudio("resp_1", "item_a", 0, 0, 480)) == [], "late audio is dropped"


def test_a_response_that_is_not_known_cannot_be_interrupted() -> None:
    talk = speaking()
    talk.put(Interrupt("resp_9"))
    assert talk.sent_types() == []


def test_a_response_that_has_ended_is_only_no_longer_played() -> None:
    talk = speaking()
    talk.ends()
    talk.asks()
    talk.begins("resp_2")
    talk.put(Interrupt("resp_1"), after=0.5)
    assert talk.sent_types() == ["conversation.item.truncate"]
    talk.sounds(100, "item_b", "resp_2")
    assert talk.of(ForwardAudio, talk.last)


def test_only_playback_is_stopped_of_an_answer_that_has_not_begun() -> None:
    talk = Talk().live()
    talk.asks()
    talk.put(Interrupt(cancel=False))
    talk.begins()
    assert talk.sent_types() == []


def test_audio_that_starts_and_stops_is_told_once_each() -> None:
    talk = speaking()
    talk.sounds(20)
    talk.model("response.output_audio.done", response_id="resp_1", item_id="item_a", content_index=0)
    talk.put(Interrupt())
    where = {"item_id": "item_a", "content_index": 0}
    assert talk.emitted("audio_start") == [where]
    assert talk.emitted("audio_stopped") == [where]
    assert talk.emitted("audio_interrupted") == [where]


def test_an_interruption_stops_audio_that_has_not_ended() -> None:
    talk = speaking()
    talk.put(Interrupt())
    assert [output.type for output in talk.last if hasattr(output, "type")][:2] == [
        "audio_interrupted",
        "audio_stopped",
    ]


def test_the_end_of_audio_that_nobody_got_stops_nothing() -> None:
    talk = Talk().asked()
    talk.model("response.output_audio.done", response_id="resp_1", item_id="item_x", content_index=0)
    assert not talk.emitted("audio_stopped")


def test_a_truncation_before_anything_was_heard_is_sent() -> None:
    talk = speaking()
    talk.put(Interrupt())
    assert talk.sent("conversation.item.truncate")[0]["audio_end_ms"] == 0


def test_playback_of_something_unknown_is_ignored() -> None:
    from voicebus.engine.inputs import Playback

    talk = Talk().live()
    assert [type(output) for output in talk.put(Playback("item_x", 0, 5.0))] == [Ignored]


# --- ends ---------------------------------------------------------------------------------------------


def test_the_end_of_a_turn_names_who_spoke_and_what_was_said_after_its_usage() -> None:
    talk = Talk(agent("first")).asked()
    talk.says("Hello ", spoken=False)
    talk.says("there.", spoken=False)
    talk.put(UpdateAgent(agent("second")))
    talk.ends(usage={"total_tokens": 3})
    ended = [output for output in talk.last if getattr(output, "type", "") in (EventType.TURN_ENDED, "agent_end")]
    assert [output.type for output in ended] == [EventType.TURN_ENDED, "agent_end"]  # type: ignore[union-attr]
    assert talk.emitted("agent_end") == [{"agent": "first", "response_id": "resp_1", "output": "Hello there."}]
    assert talk.records(EventType.TURN_ENDED)[0].usage == {"total_tokens": 3}


def test_what_only_the_final_response_says_is_its_output_too() -> None:
    talk = Talk().asked()
    said = {"type": "message", "content": [{"type": "output_audio", "transcript": "One."}, {"type": "output_text"}]}
    talk.ends(output=[said, {"type": "function_call", "content": [{"text": "no"}]}])
    assert talk.emitted("agent_end")[0]["output"] == "One."


def test_the_idle_time_out_tells_its_times() -> None:
    talk = Talk().live()
    talk.model("input_audio_buffer.timeout_triggered", item_id="u", audio_start_ms=10, audio_end_ms=6010)
    assert talk.emitted("input_audio_timeout_triggered") == [
        {"item_id": "u", "audio_start_ms": 10, "audio_end_ms": 6010}
    ]


@pytest.mark.parametrize("event_id", ["", "mine_1"])
@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("conversation.item.delete", "item_delete_invalid_item_id", "There is no such item."),
        ("conversation.item.retrieve", "item_retrieve_invalid_item_id", "There is no such item."),
        ("conversation.item.truncate", "", "Audio content is already shorter than 500ms"),
    ],
)
def test_what_the_program_asked_for_in_vain_it_is_told_and_what_the_session_did_is_not(
    kind: str, code: str, message: str, event_id: str
) -> None:
    talk = Talk().live()
    error = {"type": "invalid_request_error", "code": code or None, "message": message, "event_id": event_id or None}
    talk.model("error", error=error)
    assert not talk.errors(), "a race of the session's own"
    raw(talk, kind, item_id="gone")
    talk.model("error", error=error)
    assert talk.errors() == [code or "invalid_request_error"]
    talk.model("error", error={**error, "event_id": talk.sent("session.update")[0]["event_id"]})
    assert len(talk.errors()) == 1
