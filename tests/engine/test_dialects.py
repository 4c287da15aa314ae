"""Servers that speak the protocol in other words (protocol 1.9)."""

from typing import Any

import pytest

from support.talk import Talk, agent, tool
from voicebus.contracts.journal import EventType
from voicebus.engine.config import Face
from voicebus.engine.dialects import translate
from voicebus.engine.state import State

WHERE: dict[str, Any] = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0, "content_index": 0}


def test_an_event_in_present_words_is_itself() -> None:
    for event in (
        {"type": "response.output_text.delta", "delta": "a"},
        {
            "type": "response.done",
            "response": {"output": [{"role": "assistant", "content": [{"type": "output_text"}]}]},
        },
        {"type": "conversation.item.added", "item": {"role": "user", "content": [{"type": "text"}]}},
        {"type": "session.updated", "session": {"audio": {}}},
        {"type": "error", "error": {}},
        {"type": "something.new"},
        {"type": 7},
        {},
    ):
        (same,) = translate(event)
        assert same is event


def test_beta_names_mean_what_the_present_ones_do() -> None:
    talk = Talk().asked()
    talk.model("response.audio_transcript.delta", delta="Hi ", **WHERE)
    talk.model("response.text.delta", delta="there", **WHERE)
    talk.model("response.audio_transcript.done", transcript="Hi there", **WHERE)
    talk.model("response.text.done", text="Hi there", **WHERE)
    talk.sounds(20)
    talk.model("response.audio.done", **WHERE)
    talk.ends()
    assert [event["text"] for event in talk.emitted("transcript_delta")] == ["Hi ", "Hi there"]
    assert talk.emitted("audio_end")
    assert talk.emitted("agent_end")[0]["output"] == "Hi there"


def test_a_created_item_is_added_and_done() -> None:
    talk = Talk(face=Face.OPENAI).live()
    item = {"id": "u", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}
    talk.model("conversation.item.created", item=item, previous_item_id=None)
    assert [event["type"] for event in (*talk.shown("conversation.item.added"), *talk.shown("conversation.item.done"))]
    assert talk.lines()[0][:2] == ("user", "Hello")


def test_an_item_that_is_being_generated_is_only_added() -> None:
    talk = Talk(face=Face.OPENAI).live()
    item = {"id": "a", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    talk.model("conversation.item.created", item=item)
    assert talk.shown("conversation.item.added", talk.last)
    assert not talk.shown("conversation.item.done", talk.last)


def test_beta_content_has_its_present_names() -> None:
    talk = Talk().asked()
    content = [{"type": "audio", "transcript": "Hi"}, {"type": "text", "text": "there"}]
    item = {"id": "item_a", "type": "message", "role": "assistant", "status": "completed", "content": content}
    (event,) = translate({"type": "response.output_item.done", "item": item})
    assert [part["type"] for part in event["item"]["content"]] == ["output_audio", "output_text"]
    talk.model("response.output_item.done", response_id="resp_1", item=item)
    (done,) = translate({"type": "response.done", "response": {"output": [item, "odd"], "status_details": None}})
    assert done["response"]["output"][0]["content"][0]["type"] == "output_audio"
    talk.ends(output=[item])
    assert talk.lines()[-1][1] == "Hi there"


def test_flat_settings_find_their_places() -> None:
    flat = {
        "input_audio_format": "pcm16",
        "output_audio_format": "g711_ulaw",
        "input_audio_transcription": {"model": "whisper"},
        "turn_detection": None,
        "voice": "eve",
        "modalities": ["text", "audio"],
        "max_response_output_tokens": 7,
        "id": "sess_1",
    }
    talk = Talk()
    talk.model("session.updated", session=flat)
    session = talk.session._p.settings.effective
    assert session["audio"]["input"] == {
        "format": {"type": "audio/pcm", "rate": 24000},
        "transcription": {"model": "whisper"},
        "turn_detection": None,
    }
    assert session["audio"]["output"] == {"format": {"type": "audio/pcmu"}, "voice": "eve"}
    assert (session["output_modalities"], session["max_output_tokens"]) == (["audio"], 7)
    assert talk.session._p.playback.bytes_per_ms == 8
    assert "voice" not in session


@pytest.mark.parametrize(
    ("given", "format_"), [("opus", {"type": "opus"}), ({"type": "audio/pcma"}, {"type": "audio/pcma"})]
)
def test_other_flat_formats_pass(given: Any, format_: Any) -> None:
    (event,) = translate({"type": "session.created", "session": {"input_audio_format": given, "modalities": ["text"]}})
    assert event["session"] == {"audio": {"input": {"format": format_}}, "output_modalities": ["text"]}


def test_a_server_may_begin_with_conversation_created() -> None:
    talk = Talk()
    talk.model("conversation.created", conversation={"id": "conv_1"})
    assert talk.session.state is State.LIVE
    talk.asks()
    assert talk.sent("response.create", talk.last)


def test_details_may_be_a_bare_sentence() -> None:
    talk = Talk().asked()
    talk.ends(status="failed", status_details="out of tokens")
    assert talk.errors() == ["response_failed"]
    (event,) = translate({"type": "response.done", "response": {"status": "cancelled", "status_details": "turn"}})
    assert event["response"]["status_details"] == {"type": "cancelled", "reason": "turn"}


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"error": "Boom."}, "Boom."),
        ({"message": "Boom.", "code": "bad"}, "Boom."),
        ({"error": None}, "The model reported an error."),
    ],
)
def test_an_error_may_be_a_bare_sentence(event: dict[str, Any], message: str) -> None:
    talk = Talk().live()
    talk.model("error", **event)
    assert [error.message for error in talk.records(EventType.ERROR)] == [message]


def test_an_output_item_may_be_done_before_its_item_is() -> None:
    talk = Talk(agent(tools=[tool()])).asked()
    item = {
        "id": "item_c", "type": "function_call", "status": "completed",
        "call_id": "call_1", "name": "weather", "arguments": "{}",
    }  # fmt: skip
    talk.model("response.output_item.done", response_id="resp_1", item=item)
    talk.model("conversation.item.done", item=item)
    talk.ends()
    talk.result()
    assert len(talk.records(EventType.TOOL_START)) == len(talk.records(EventType.TOOL_END)) == 1


def test_transcripts_may_be_told_whole_each_time() -> None:
    talk = Talk().live()
    kind = "conversation.item.input_audio_transcription.updated"
    for text in ("What", "What is", "What is", "That is"):
        talk.model(kind, item_id="u", transcript=text)
    assert [(event["delta"], event["text"]) for event in talk.emitted("transcript_delta")] == [
        ("What", "What"),
        (" is", "What is"),
        ("That is", "That is"),
    ]


def test_a_ping_is_nothing_to_anybody() -> None:
    talk = Talk(face=Face.OPENAI).live()
    assert talk.model("ping", timestamp=1) == []


# --- ids that are missing -------------------------------------------------------------------------------


def test_a_response_without_an_id_is_the_one_that_runs() -> None:
    talk = Talk(agent(tools=[tool()])).live()
    talk.asks()
    talk.model("response.created", response={})
    talk.model("response.output_text.delta", item_id="item_a", delta="Hi")
    call = {"id": "c", "type": "function_call", "name": "weather", "call_id": "call_1", "arguments": "{}"}
    talk.model("response.output_item.done", item=call)
    talk.model("response.done", response={"status": "completed"})
    talk.result()
    assert talk.emitted("agent_end")[0]["output"] == "Hi"
    assert talk.sent("response.create", talk.last)
    assert len(talk.emitted("agent_start")) == 1


def test_responses_without_ids_are_one_after_the_other() -> None:
    talk = Talk().live()
    for _ in range(3):
        talk.model("response.created", response={})
        talk.model("response.done", response={})
    talk.model("response.done", response={})
    starts, ends = talk.emitted("agent_start"), talk.emitted("agent_end")
    assert len({start["response_id"] for start in starts}) == len(ends) == 3


def test_a_response_gets_its_id_from_what_comes_of_it() -> None:
    talk = Talk().live()
    talk.model("response.created", response={})
    talk.says("Hi", response="resp_1")
    talk.sounds(40)
    talk.sounds(40)
    talk.fails("server_error")
    talk.model("input_audio_buffer.speech_started", item_id="u")
    talk.model("response.done", response={"id": "resp_1"})
    assert len(talk.emitted("agent_start")) == len(talk.emitted("agent_end")) == 1


def test_a_cancel_names_no_response_that_has_no_name() -> None:
    from voicebus.engine.inputs import Interrupt

    talk = Talk().live()
    talk.model("response.created", response={})
    talk.put(Interrupt())
    (cancel,) = talk.sent("response.cancel")
    assert "response_id" not in cancel


def test_a_late_start_opens_no_second_response() -> None:
    talk = Talk().live()
    talk.says("Hi", response="resp_1")
    talk.model("response.created", response={})
    talk.model("response.created", response={"id": "resp_1"})
    assert len(talk.emitted("agent_start")) == 1
    assert talk.session._p.turns.responses.active is not None


def test_the_end_of_an_unknown_response_leaves_the_one_that_runs() -> None:
    talk = Talk().asked()
    talk.ends("resp_0")
    assert talk.session._p.turns.responses.active is not None
    assert talk.session._p.turns.responses.active.id == "resp_1"
    talk.asks()
    assert not talk.sent("response.create", talk.last)


def test_events_without_a_response_that_fit_none_are_ignored() -> None:
    talk = Talk().live()
    for kind in ("response.output_text.delta", "response.output_text.done", "response.output_item.added"):
        talk.model(kind, item_id="item_a", delta="Hi", item={"id": "item_a"})
    assert not talk.emitted("transcript_delta")


def test_an_id_that_is_too_long_names_nothing() -> None:
    talk = Talk().live()
    talk.user_item("u" * 300, [{"type": "input_text", "text": "Hello"}])
    talk.model("response.created", response={"id": "r" * 300})
    talk.sounds(20, "a" * 300)
    assert not talk.emitted("history_added")
    assert not talk.emitted("agent_start")
