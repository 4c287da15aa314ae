"""Sequencing of `response.create` (parity 0.3, 2.4-2.8) and what a response's beginning and end amount to."""

import pytest

from support.talk import Talk, agent, tool
from voicebus.contracts.journal import EventType
from voicebus.engine.config import Face
from voicebus.engine.inputs import CommitAudio, Interrupt
from voicebus.engine.outputs import Emit, ForwardAudio, Ignored

ALREADY_ACTIVE = "conversation_already_has_active_response"


def test_a_message_goes_out_at_once_and_asks_for_a_response() -> None:
    talk = Talk().live()
    talk.asks("Hello")
    assert talk.sent_types() == ["conversation.item.create", "response.create"]
    item = talk.sent("conversation.item.create")[0]["item"]
    assert item["content"] == [{"type": "input_text", "text": "Hello"}]
    assert 0 < len(item["id"]) <= 32


def test_manual_audio_is_committed_and_answered() -> None:
    talk = Talk(agent(vad=None)).live()
    talk.put(CommitAudio())
    assert talk.sent_types() == ["input_audio_buffer.commit", "response.create"]


def test_the_create_waits_for_the_end_of_the_running_response_but_the_item_does_not() -> None:
    talk = Talk().asked()
    talk.asks("And this?")
    assert talk.sent_types() == ["conversation.item.create"]
    talk.ends()
    assert talk.sent_types() == ["response.create"]


def test_several_inputs_during_one_response_are_answered_by_one() -> None:
    talk = Talk().asked()
    for text in ("a", "b", "c"):
        talk.asks(text)
    talk.ends()
    assert talk.sent_types() == ["response.create"]
    talk.begins("resp_2")
    talk.ends("resp_2")
    assert talk.sent_types() == []


def test_an_input_after_a_sent_create_is_a_turn_of_its_own() -> None:
    talk = Talk().live()
    talk.asks("a")
    talk.asks("b")
    assert len(talk.sent("response.create")) == 1
    talk.begins("resp_1")
    talk.ends("resp_1")
    assert len(talk.sent("response.create")) == 2


def test_no_second_create_is_sent_before_the_first_is_answered() -> None:
    talk = Talk().live()
    talk.asks("a")
    talk.begins("vad_1", unasked=True)
    talk.asks("b")
    assert len(talk.sent("response.create")) == 1


def test_creates_carry_our_mark_and_nothing_else() -> None:
    talk = Talk().live()
    talk.asks()
    (create,) = talk.sent("response.create")
    assert create["response"] == {"metadata": {"voicebus": create["event_id"]}}


def test_a_create_that_met_the_servers_own_response_is_sent_again() -> None:
    talk = Talk().live()
    talk.asks()
    create = talk.sent("response.create")[0]
    talk.begins("vad_1", unasked=True)
    outputs = talk.fails(ALREADY_ACTIVE, event_id=create["event_id"])
    assert talk.of(Ignored, outputs)
    assert talk.errors() == []
    talk.ends("vad_1")
    again = talk.sent("response.create", talk.last)
    assert [event["event_id"] for event in again] == [create["event_id"]]


def test_a_retry_coalesces_with_what_waits() -> None:
    talk = Talk().live()
    talk.asks()
    talk.begins("vad_1", unasked=True)
    talk.asks("more")
    talk.fails(ALREADY_ACTIVE, event_id=talk.sent("response.create")[0]["event_id"])
    talk.ends("vad_1")
    assert len(talk.sent("response.create")) == 2
    talk.begins("resp_2")
    talk.ends("resp_2")
    assert len(talk.sent("response.create")) == 2


def test_a_create_refused_for_a_response_that_we_do_not_see_is_tried_again_a_little_later() -> None:
    talk = Talk().live()
    talk.asks()
    for attempt in range(1, 6):
        talk.fails(ALREADY_ACTIVE, event_id=talk.sent("response.create")[-1]["event_id"])
        assert talk.timers()["retry"] - talk.now == 0.25 * 2 ** (attempt - 1)
        assert len(talk.sent("response.create")) == attempt
        talk.timer("retry")
    talk.fails(ALREADY_ACTIVE, event_id=talk.sent("response.create")[-1]["event_id"])
    assert talk.errors() == [ALREADY_ACTIVE]
    talk.asks("next")
    assert len(talk.sent("response.create")) == 7


def test_an_unrelated_error_does_not_release_the_create() -> None:
    talk = Talk().live()
    talk.asks("a")
    talk.fails("server_error", "Something else.", "some-other-event")
    talk.fails("server_error", "Something else.")
    talk.asks("b")
    assert len(talk.sent("response.create")) == 1


def test_an_error_without_event_id_releases_it_only_if_it_is_about_response_create() -> None:
    talk = Talk().live()
    talk.asks("a")
    talk.fails("bad_response_create")
    assert talk.errors() == ["bad_response_create"]
    talk.asks("b")
    assert len(talk.sent("response.create")) == 2
    talk.fails(None, "Invalid 'response.create'.")
    talk.asks("c")
    assert len(talk.sent("response.create")) == 3


def test_a_refused_create_is_an_error_and_does_not_block_the_next() -> None:
    talk = Talk().live()
    talk.asks("a")
    talk.fails("invalid_value", "No.", talk.sent("response.create")[0]["event_id"])
    assert talk.errors() == ["invalid_value"]
    talk.asks("b")
    assert len(talk.sent("response.create")) == 2


def test_a_create_that_is_never_answered_is_given_up_and_others_go_on() -> None:
    talk = Talk(create_timeout_ms=4000).live()
    talk.asks("a")
    talk.asks("b")
    assert talk.timers()["create"] == talk.now + 4.0
    talk.timer("create")
    assert talk.errors() == ["response_create_timeout"]
    assert talk.sent_types() == ["response.create"]


def test_a_response_whose_create_was_given_up_is_cancelled_by_id() -> None:
    talk = Talk().live()
    talk.asks("a")
    mark = talk.sent("response.create")[0]["event_id"]
    talk.timer("create")
    talk.begins("late_1", metadata={"voicebus": mark})
    assert talk.sent("response.cancel", talk.last)[0]["response_id"] == "late_1"
    talk.item_begins("item_l", "late_1")
    assert talk.sounds(100, "item_l", "late_1") == []


def test_a_response_may_begin_unasked() -> None:
    talk = Talk().live()
    talk.begins("vad_1", unasked=True, metadata=None)
    assert talk.emitted("agent_start") == [{"agent": "helper", "response_id": "vad_1"}]
    talk.asks()
    assert talk.sent_types() == ["conversation.item.create"]
    talk.ends("vad_1")
    assert talk.sent_types() == ["response.create"]


def test_a_create_that_an_error_of_nobodys_seemed_to_refuse_is_not_sent_again_once_its_response_is_there() -> None:
    talk = Talk().live()
    talk.asks()
    talk.fails(ALREADY_ACTIVE)
    talk.begins("resp_1")
    talk.timer("retry")
    talk.ends("resp_1")
    assert len(talk.sent("response.create")) == 1


def test_nor_is_it_answered_twice_where_it_was_sent_again_before_its_response_came() -> None:
    talk = Talk().live()
    talk.asks()
    talk.fails(ALREADY_ACTIVE)
    talk.timer("retry")
    assert len(talk.sent("response.create")) == 2
    talk.begins("resp_1")
    talk.item_begins("item_a", "resp_1")
    assert talk.sounds(100, "item_a", "resp_1") != []
    talk.ends("resp_1")
    talk.begins("resp_2")
    assert [event["response_id"] for event in talk.sent("response.cancel")] == ["resp_2"]
    talk.item_begins("item_b", "resp_2")
    assert talk.sounds(100, "item_b", "resp_2") == []
    talk.ends("resp_2", "cancelled")
    talk.asks("next")
    talk.begins("resp_3")
    talk.item_begins("item_c", "resp_3")
    assert talk.sounds(100, "item_c", "resp_3") != []


def test_a_server_that_does_not_echo_metadata_is_understood() -> None:
    talk = Talk().live()
    for number in (1, 2):
        talk.asks()
        assert len(talk.sent("response.create")) == number
        talk.begins(f"resp_{number}", metadata=None)
        talk.ends(f"resp_{number}")
    assert talk.errors() == []


def test_where_metadata_is_echoed_an_unasked_response_does_not_release_our_create() -> None:
    talk = Talk().asked()
    talk.ends()
    talk.asks()
    talk.begins("vad_1", unasked=True)
    talk.ends("vad_1")
    talk.asks("more")
    assert len(talk.sent("response.create")) == 2, "the second create is still with the model"
    talk.begins("resp_2")
    talk.ends("resp_2")
    assert len(talk.sent("response.create")) == 3


def test_the_late_end_of_an_older_response_does_not_end_the_newer_one() -> None:
    talk = Talk().asked("a", "resp_1")
    talk.begins("resp_2", unasked=True)
    talk.asks("b")
    talk.ends("resp_1")
    assert talk.sent_types() == []
    talk.ends("resp_2")
    assert talk.sent_types() == ["response.create"]


def test_a_response_done_without_id_ends_the_running_one() -> None:
    talk = Talk().asked()
    talk.model("response.done", response={"status": "completed"})
    assert talk.emitted("agent_end") == [{"agent": "helper", "response_id": "resp_1", "output": ""}]


def test_a_response_ends_once() -> None:
    talk = Talk().asked()
    talk.ends()
    assert [type(output) for output in talk.ends()] == [Ignored]
    assert len(talk.records(EventType.TURN_ENDED)) == 1


def test_deltas_before_response_created_open_the_response_and_its_late_start_opens_no_other() -> None:
    talk = Talk().live()
    talk.asks()
    talk.says("Hel", spoken=False)
    talk.begins()
    assert talk.emitted("agent_start") == [{"agent": "helper", "response_id": "resp_1"}]
    talk.says("lo", spoken=False)
    assert talk.emitted("transcript_delta")[-1]["text"] == "Hello"
    talk.asks("b")
    assert talk.sent_types() == ["conversation.item.create"]


def test_every_status_ends_a_response() -> None:
    for status in ("completed", "cancelled", "incomplete", "failed"):
        talk = Talk().asked()
        talk.asks("next")
        talk.ends(status=status)
        assert talk.sent_types() == ["response.create"]
        assert [record.status for record in talk.records(EventType.TURN_ENDED)] == [status]


def test_a_failed_response_is_an_error() -> None:
    talk = Talk().asked()
    failure = {"type": "failed", "error": {"type": "tokens", "code": "overloaded", "message": "Slow down."}}
    talk.ends(status="failed", status_details=failure)
    (error,) = talk.records(EventType.ERROR)
    assert (error.code, error.message, error.source) == ("overloaded", "Slow down.", "model")


def test_status_details_may_be_a_bare_string() -> None:
    talk = Talk().asked()
    talk.ends(status="failed", status_details="oops")
    assert talk.errors() == ["response_failed"]


def test_the_end_of_a_turn_names_the_agent_that_spoke_after_the_record_of_its_usage() -> None:
    talk = Talk().asked()
    usage = {
        "total_tokens": 14,
        "input_token_details": {"text_tokens": 10, "cached_tokens_details": {"text_tokens": 4}},
        "output_token_details": {"audio_tokens": 4},
    }
    outputs = talk.ends(usage=usage)
    (turn,) = talk.records(EventType.TURN_ENDED, outputs)
    assert turn.usage == usage
    assert talk.of(Emit, outputs)[-1] == Emit("agent_end", {"agent": "helper", "response_id": "resp_1", "output": ""})
    tokens = {tuple(observed.labels.values()): observed.value for observed in talk.observed("tokens")}
    assert tokens == {("input", "text", "true"): 4, ("input", "text", "false"): 6, ("output", "audio", "false"): 4}


def test_latencies_count_from_the_end_of_the_users_turn() -> None:
    talk = Talk().live()
    talk.user_speaks(seconds=2.0)
    talk.now += 0.25
    talk.begins("vad_1", unasked=True)
    talk.item_begins(response="vad_1")
    talk.now += 0.25
    talk.says("Hello", response="vad_1")
    talk.sounds(100, response="vad_1", after=0.5)
    talk.ends("vad_1")
    (turn,) = talk.records(EventType.TURN_ENDED)
    assert turn.latencies == {"total": 1000.0, "first_audio": 1000.0, "first_text": 500.0}
    assert [observed.value for observed in talk.observed("response_latency")] == [1.0]


def test_the_first_answer_counts_once_from_the_sessions_begin_in_text_or_sound() -> None:
    talk = Talk()
    began = talk.now
    talk.live()
    moments = []
    for number in (1, 2):
        talk.now += 2.0
        moments.append(talk.now - began)
        talk.asks(f"question {number}")
        talk.begins(f"resp_{number}")
        talk.item_begins(f"item_{number}", response=f"resp_{number}")
        talk.says("Hello", response=f"resp_{number}")
        talk.ends(f"resp_{number}")
    assert [observed.value for observed in talk.observed("first_answer")] == [pytest.approx(moments[0], abs=0.001)]


def test_interrupting_before_the_response_began_cancels_it_when_it_begins() -> None:
    talk = Talk().live()
    talk.asks()
    talk.put(Interrupt())
    assert talk.sent_types() == []
    talk.begins()
    assert talk.sent("response.cancel", talk.last)[0]["response_id"] == "resp_1"


def test_a_response_is_cancelled_at_most_once() -> None:
    talk = Talk().asked()
    talk.put(Interrupt())
    talk.put(Interrupt())
    assert len(talk.sent("response.cancel")) == 1
    talk.ends(status="cancelled")
    talk.put(Interrupt())
    assert len(talk.sent("response.cancel")) == 1


def test_a_commit_of_nothing_is_not_answered() -> None:
    talk = Talk(agent(vad=None)).live()
    talk.put(CommitAudio())
    commit = talk.sent("input_audio_buffer.commit")[0]["event_id"]
    talk.fails("input_audio_buffer_commit_empty", event_id=commit)
    talk.begins()
    assert talk.sent("response.cancel", talk.last)[0]["response_id"] == "resp_1"


def test_a_commit_under_vad_that_came_too_late_makes_no_second_answer() -> None:
    talk = Talk().live()
    talk.begins("vad_1", unasked=True)
    talk.put(CommitAudio())
    talk.fails("input_audio_buffer_commit_empty", event_id=talk.sent("input_audio_buffer.commit")[0]["event_id"])
    talk.ends("vad_1")
    assert talk.sent_types() == []


def test_a_commit_of_nothing_does_not_take_back_the_answer_to_a_message() -> None:
    talk = Talk().asked()
    talk.put(CommitAudio())
    talk.asks("And this?")
    talk.fails("input_audio_buffer_commit_empty", event_id=talk.sent("input_audio_buffer.commit")[0]["event_id"])
    talk.ends()
    assert talk.sent_types() == ["response.create"]


def test_a_long_answer_of_a_server_that_does_not_echo_metadata_is_not_taken_for_silence() -> None:
    talk = Talk().live()
    talk.asks()
    talk.begins(metadata=None)
    assert "create" not in talk.timers()
    talk.ends()
    talk.asks()
    assert "create" in talk.timers()


def test_a_create_is_watched_again_when_it_turns_out_that_marks_come_back() -> None:
    talk = Talk(face=Face.OPENAI).live()
    talk.asks()
    talk.begins("vad_1", unasked=True)
    assert "create" not in talk.timers(), "it may be the answer"
    talk.client("response.create", response={"conversation": "none"})
    talk.begins("apart_1", conversation_id=None)
    talk.ends("apart_1")
    talk.ends("vad_1")
    talk.timer("create")
    assert talk.errors() == ["response_create_timeout"]
    talk.asks("Are you still there?")
    assert talk.sent_types()[-1] == "response.create"


def test_a_repeated_start_does_not_stop_the_watch_over_a_create() -> None:
    talk = Talk().live()
    talk.begins("vad_1", unasked=True)
    talk.ends("vad_1")
    talk.asks()
    talk.begins("vad_1", unasked=True)
    assert "create" in talk.timers()


def test_an_answer_that_comes_after_an_unasked_response_is_still_known_as_ours() -> None:
    talk = Talk().live()
    talk.asks()
    talk.put(Interrupt())
    talk.begins("vad_1", unasked=True)
    talk.ends("vad_1")
    talk.begins("resp_1")
    assert talk.sent("response.cancel", talk.last)[0]["response_id"] == "resp_1", "it was interrupted before it began"


def test_a_response_whose_start_was_never_seen_is_ended_all_the_same() -> None:
    talk = Talk().live()
    talk.asks()
    talk.ends("resp_1", metadata=talk.sent("response.create")[0]["response"]["metadata"])
    assert [record.response_id for record in talk.records(EventType.TURN_ENDED)] == ["resp_1"]
    talk.asks()
    assert talk.sent_types() == ["conversation.item.create", "response.create"]


def test_responses_are_forgotten_long_after_their_end() -> None:
    talk = Talk().live()
    for number in range(200):
        talk.begins(f"vad_{number}", unasked=True)
        talk.ends(f"vad_{number}")
    assert len(talk.records(EventType.TURN_ENDED)) == 200
    assert [type(output) for output in talk.ends("vad_199")] == [Ignored]


# --- responses that never end ----------------------------------------------------------------------------


def test_a_response_of_which_nothing_comes_is_given_up_and_the_next_create_goes_out() -> None:
    talk = Talk().asked()
    talk.asks("Are you there?")
    assert len(talk.sent("response.create")) == 1
    outputs = talk.timer("stall")
    assert talk.now == pytest.approx(130)
    assert talk.sent_types(outputs) == ["response.cancel", "response.create"]
    assert talk.sent("response.cancel")[0]["response_id"] == "resp_1"
    assert talk.errors() == ["response_stalled"]
    (turn,) = talk.records(EventType.TURN_ENDED)
    assert (turn.response_id, turn.status) == ("resp_1", "failed")
    assert [seen.labels for seen in talk.observed("model_error")] == [{"code": "response_stalled"}]


def test_each_event_of_a_response_puts_its_giving_up_off() -> None:
    talk = Talk().asked()
    talk.item_begins()
    talk.says("Hello", "item_a")
    talk.sounds(20, after=10)
    talk.sounds(20, after=10)  # the short path
    talk.model("response.function_call_arguments.delta", response_id="resp_1", item_id="i", delta="{", after=5)
    talk.timer("stall")
    assert talk.errors() == []
    assert talk.timers()["stall"] == pytest.approx(125 + 30)
    talk.timer("stall")
    assert talk.errors() == ["response_stalled"]


def test_a_response_that_ended_is_not_watched() -> None:
    talk = Talk().asked()
    assert "stall" in talk.timers()
    talk.ends()
    assert "stall" not in talk.timers()


def test_a_response_whose_tools_run_is_not_given_up() -> None:
    talk = Talk(agent(tools=[tool(timeout_ms=300_000)])).asked()
    talk.calls()
    talk.timer("stall")
    assert talk.errors() == []
    talk.result()
    talk.timer("stall")
    assert talk.errors() == ["response_stalled"]


def test_what_comes_late_of_a_response_that_was_given_up_is_not_heard_and_ends_nothing() -> None:
    talk = Talk().asked()
    talk.item_begins()
    talk.sounds(20)
    talk.timer("stall")
    talk.asks()
    talk.begins("resp_2")
    assert talk.of(ForwardAudio, talk.sounds(20)) == []
    talk.ends("resp_1", "cancelled")
    assert len(talk.records(EventType.TURN_ENDED)) == 1
    talk.asks("More.")
    assert len(talk.sent("response.create")) == 2, "the second response still runs"


def test_a_response_that_does_not_end_after_its_cancel_is_cancelled_no_second_time() -> None:
    talk = Talk().asked()
    talk.put(Interrupt())
    talk.timer("stall")
    assert len(talk.sent("response.cancel")) == 1
    assert talk.errors() == ["response_stalled"]


def test_a_client_of_the_protocol_sees_a_response_that_was_given_up_fail() -> None:
    talk = Talk(face=Face.OPENAI).live()
    talk.client("response.create", response={"metadata": {"mine": "1"}})
    talk.begins(object="realtime.response", output_modalities=["audio"])
    talk.timer("stall")
    (done,) = talk.shown("response.done")
    response = done["response"]
    assert (response["id"], response["status"], response["object"]) == ("resp_1", "failed", "realtime.response")
    assert response["status_details"]["error"]["code"] == "response_stalled"
    assert response["metadata"] == {"mine": "1"}
    talk.ends("resp_1", "cancelled")
    assert len(talk.shown("response.done")) == 1
    talk.client("response.create")
    assert talk.shown("error") == []
    assert len(talk.sent("response.create")) == 2


def test_a_create_that_uses_all_metadata_is_known_by_them() -> None:
    talk = Talk(face=Face.OPENAI).live()
    full = {f"key{number}": str(number) for number in range(16)}
    for number, metadata in enumerate(({"mine": "1"}, full, {"mine": "3"}), start=1):
        talk.client("response.create", response={"metadata": metadata})
        assert len(talk.sent("response.create")) == number
        talk.begins(f"resp_{number}")
        talk.ends(f"resp_{number}", metadata=metadata)
        assert [response["response"]["metadata"] for response in talk.shown("response.done")][-1] == metadata
    assert "create" not in talk.timers()
    assert talk.errors() == []
