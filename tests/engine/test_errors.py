"""What survives what: errors of the model, odd events, the end (parity 0.5, protocol 3.3 and 10.6)."""

from typing import Any

import pytest

from support.talk import Talk, agent
from voicebus.contracts.journal import EventType
from voicebus.engine.config import Face, Recovering
from voicebus.engine.inputs import (
    ClientMalformed,
    End,
    LinkLost,
    ModelEvent,
    ModelMalformed,
    SendRaw,
    TimerFired,
    Trouble,
)
from voicebus.engine.outputs import Close, Emit, Ignored, Record, SendModel
from voicebus.engine.state import State


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("response_cancel_not_active", "Cancellation failed: no active response found"),
        ("conversation_already_has_active_response", "Conversation already has an active response."),
        ("input_audio_buffer_commit_empty", "Error committing input audio buffer: buffer too small."),
        ("item_truncate_invalid_item_id", "Error truncating item."),
        ("invalid_value", "Audio content of 900ms is already shorter than 1000ms"),
        (None, "Only model output audio messages can be truncated"),
    ],
)
def test_errors_that_only_tell_of_a_race_are_ignored(code: str | None, message: str) -> None:
    talk = Talk().live()
    assert [type(output) for output in talk.fails(code, message)][-1] is Ignored
    assert talk.errors() == []


def test_an_empty_commit_is_an_error_where_turns_are_manual() -> None:
    talk = Talk(agent(vad=None)).live()
    talk.fails("input_audio_buffer_commit_empty", "Buffer too small.")
    assert talk.errors() == ["input_audio_buffer_commit_empty"]


def test_other_errors_are_recorded_and_the_session_goes_on() -> None:
    talk = Talk().live()
    talk.fails("rate_limit_exceeded", "Slow down.")
    (error,) = talk.records(EventType.ERROR)
    assert (error.code, error.message, error.source) == ("rate_limit_exceeded", "Slow down.", "model")
    assert talk.session.state is State.LIVE
    assert talk.observed("model_error")[0].labels == {"code": "rate_limit_exceeded"}


def test_a_long_error_text_is_cut() -> None:
    talk = Talk().live()
    talk.fails("server_error", "x" * 100_000)
    assert len(talk.records(EventType.ERROR)[0].message) == 2000


def test_an_expired_session_that_cannot_move_ends_with_its_reason() -> None:
    talk = Talk(recovering=Recovering.NEVER).live()
    talk.fails("session_expired", "Your session hit the maximum duration of 60 minutes.")
    assert talk.errors() == ["session_expired"]
    assert talk.records(EventType.SESSION_ENDED)[0].reason == "model_expired"
    assert talk.last[-1] == Close("model_expired", 1011)


def test_a_lost_link_that_is_not_replaced_is_an_error_and_the_end() -> None:
    talk = Talk(recovering=Recovering.NEVER).live()
    talk.put(LinkLost("the socket was reset"), after=3.0)
    assert [output.type for output in talk.of(Record, talk.last)] == [EventType.ERROR, EventType.SESSION_ENDED]
    ended = talk.records(EventType.SESSION_ENDED)[0]
    assert (ended.reason, ended.duration_ms) == ("model_lost", 3000)
    assert talk.last[-1] == Close("model_lost", 1011)


def test_the_end_is_the_last_record_and_close_the_last_output() -> None:
    talk = Talk().asked()
    talk.put(End("hangup"))
    assert talk.of(Record)[-1].type is EventType.SESSION_ENDED
    assert talk.last[-1] == Close("hangup", 1000)


def test_a_frame_of_the_model_that_cannot_be_read_is_an_error() -> None:
    talk = Talk().live()
    talk.put(ModelMalformed("Expecting value"))
    assert talk.errors() == ["model_malformed"]
    assert talk.session.state is State.LIVE


def test_a_bad_frame_of_a_native_client_is_answered_and_not_recorded() -> None:
    talk = Talk().live()
    outputs = talk.put(ClientMalformed("invalid_json", "That is no JSON.", None, "cmd-1"))
    assert outputs == [
        Emit("error", {"code": "invalid_json", "message": "That is no JSON.", "param": None, "id": "cmd-1"})
    ]


def test_trouble_outside_is_recorded() -> None:
    talk = Talk().live()
    talk.put(Trouble("bus_unreachable", "Redis is gone.", "bus"))
    talk.put(Trouble("odd", "Somebody else.", "moon"))
    assert [(error.code, error.source) for error in talk.records(EventType.ERROR)] == [
        ("bus_unreachable", "bus"),
        ("odd", "gateway"),
    ]


def test_a_timer_that_was_cancelled_is_ignored() -> None:
    talk = Talk().live()
    assert [type(output) for output in talk.put(TimerFired("setup"))] == [Ignored]
    assert [type(output) for output in talk.put(TimerFired("nonsense"))] == [Ignored]


ODD: list[Any] = [None, 7, "text", [], {}, [None], {"id": 7}, float("nan"), True, {"metadata": "x"}]
KINDS = [
    "response.created",
    "response.done",
    "response.output_item.added",
    "response.output_item.done",
    "response.output_text.delta",
    "response.output_audio_transcript.done",
    "response.output_audio.done",
    "conversation.item.added",
    "conversation.item.done",
    "conversation.item.deleted",
    "conversation.item.truncated",
    "conversation.item.input_audio_transcription.delta",
    "conversation.item.input_audio_transcription.completed",
    "conversation.item.input_audio_transcription.failed",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.timeout_triggered",
    "session.updated",
    "error",
    "something.new",
]


@pytest.mark.parametrize("kind", KINDS)
def test_odd_fields_of_an_event_never_end_a_call(kind: str) -> None:
    talk = Talk().asked()
    for odd in ODD:
        fields = ("response", "item", "item_id", "response_id", "content_index", "delta", "transcript", "error")
        talk.put(ModelEvent({"type": kind, **dict.fromkeys(fields, odd), "session": odd}))
    assert talk.session.state is State.LIVE


def test_an_event_without_a_type_is_nothing() -> None:
    assert Talk().live().put(ModelEvent({})) == []


def test_a_fatal_code_is_recorded_once_and_quotes_no_key() -> None:
    talk = Talk()
    talk.fails("invalid_api_key", "Incorrect API key provided: sk-secret.")
    talk.put(LinkLost("closed with 3000", close_code=3000))
    assert talk.errors() == ["invalid_api_key"]
    assert talk.records(EventType.SESSION_ENDED)[0].reason == "model_lost"
    assert "sk-secret" not in str(talk.all)


def test_a_used_up_quota_that_only_the_type_names_is_not_dialled_again() -> None:
    talk = Talk().live()
    talk.fails(None, "You exceeded your current quota.", type="insufficient_quota")
    talk.put(LinkLost("closed with 1000", close_code=1000))
    assert talk.errors() == ["insufficient_quota"]
    assert talk.records(EventType.SESSION_ENDED)[0].reason == "model_lost"
    assert not talk.records(EventType.MODEL_RECONNECTING)


@pytest.mark.parametrize("live", [True, False])
def test_a_fatal_error_is_counted_and_told_to_nobody_where_another_model_takes_over(live: bool) -> None:
    talk = Talk(models=("gpt-realtime", "other"))
    if live:
        talk.live()
    talk.fails("invalid_api_key", "Incorrect API key provided: sk-secret.")
    assert talk.errors() == []
    assert [error.labels["code"] for error in talk.observed("model_error")] == ["invalid_api_key"]
    assert [record.cause for record in talk.records(EventType.MODEL_RECONNECTING)] == ["fallback"]
    talk.dials()
    talk.fails("insufficient_quota", "You exceeded your current quota.")
    assert talk.errors() == ["insufficient_quota"], "nobody takes over any more"
    assert talk.records(EventType.SESSION_ENDED)[0].reason == "model_lost"


def test_a_model_that_refuses_to_serve_in_answer_to_the_first_settings_is_followed_by_the_next() -> None:
    talk = Talk(models=("gpt-realtime", "other", "third"))
    talk.fails("invalid_api_key", "Incorrect API key provided: sk-secret.", talk.sent("session.update")[0]["event_id"])
    told = talk.of(SendModel, talk.dials())[0].event
    assert (told["session"]["model"], told["session"]["instructions"]) == ("other", "Be brief.")
    talk.fails("insufficient_quota", "You exceeded your current quota.", told["event_id"])
    talk.reconnects()
    assert talk.session.state is State.LIVE
    assert talk.errors() == []
    assert [record.cause for record in talk.records(EventType.MODEL_RECONNECTING)] == ["fallback", "fallback"]
    assert [error.labels["code"] for error in talk.observed("model_error")] == ["invalid_api_key", "insufficient_quota"]


@pytest.mark.parametrize("face", [Face.OPENAI, Face.NATIVE])
def test_a_model_that_refuses_to_serve_in_answer_to_a_clients_settings_leaves_them_to_the_next(face: Face) -> None:
    talk = Talk(models=("gpt-realtime", "other"), face=face).live()
    wanted = {"output_modalities": ["text"]}
    if face is Face.OPENAI:
        talk.client("session.update", event_id="mine", session={"type": "realtime", **wanted})
    else:
        talk.put(SendRaw({"type": "session.update", "event_id": "mine", "session": {"type": "realtime", **wanted}}))
    update = talk.sent("session.update")[-1]
    talk.fails("insufficient_quota", "You exceeded your current quota.", update["event_id"])
    talk.reconnects()
    assert talk.errors() == []
    assert talk.shown("error") == []
    assert talk.sent("session.update")[-1] == update
    assert [record.cause for record in talk.records(EventType.MODEL_RECONNECTING)] == ["fallback"]


@pytest.mark.parametrize("begins", [True, False])
def test_an_answer_apart_that_fails_fatally_is_an_error_as_the_next_model_is_not_asked_for_it(begins: bool) -> None:
    talk = Talk(models=("gpt-realtime", "other")).live()
    talk.put(SendRaw({"type": "response.create", "response": {"conversation": "none"}}))
    (create,) = talk.sent("response.create")
    error = {"code": "insufficient_quota", "message": "You exceeded your current quota."}
    if begins:
        talk.begins("resp_1", conversation_id=None)
        talk.ends("resp_1", status="failed", status_details={"type": "failed", "error": error})
    else:
        talk.fails(error["code"], error["message"], create["event_id"])
    assert talk.errors() == ["insufficient_quota"]
    assert [record.cause for record in talk.records(EventType.MODEL_RECONNECTING)] == ["fallback"]


@pytest.mark.parametrize("live", [True, False])
def test_a_client_of_the_openai_face_is_not_told_what_is_between_us_and_the_models_provider(live: bool) -> None:
    talk = Talk(face=Face.OPENAI)
    if live:
        talk.live()
    talk.fails("insufficient_quota", "You exceeded your current quota.")
    assert talk.errors() == ["insufficient_quota"]
    assert not talk.shown("error")


def test_an_error_of_nobodys_event_is_recorded_and_shown_to_a_client_of_the_openai_face() -> None:
    talk = Talk(face=Face.OPENAI).live()
    talk.fails("server_error", "Oops.")
    assert talk.errors() == ["server_error"]
    assert len(talk.shown("error")) == 1


def test_a_clients_own_mistakes_do_not_count_as_the_models_errors() -> None:
    talk = Talk(face=Face.OPENAI).live()
    talk.fails("item_retrieve_invalid_item_id", "Error retrieving item.", "client_1")
    assert len(talk.shown("error")) == 1
    assert talk.observed("model_error") == []
    talk.fails("server_error", "Oops.")
    assert [seen.labels for seen in talk.observed("model_error")] == [{"code": "server_error"}]
