"""A session with a client of the OpenAI face: chains, hidden traffic, settings and errors (contract section 4)."""

from collections.abc import Mapping, Sequence
from typing import Any

from support.talk import Talk, agent, handoff, tool
from voicebus.contracts.guardrails import GuardrailResult
from voicebus.contracts.journal import EventType
from voicebus.engine.config import AgentSpec, ClientRights, Face, GuardrailSpec
from voicebus.engine.inputs import AgentResolved, ClientEvent, ClientMalformed, CommitAudio, End, Interrupt
from voicebus.engine.outputs import DispatchCheck, DispatchTool, ForwardAudio, Output, SendModel, ToClient
from voicebus.engine.view import CancelResponse, CreateResponse, Intent

MINE = {"type": "function", "name": "mine", "parameters": {"type": "object"}}


def connected(*tools: Any, **more: Any) -> Talk:
    return Talk(agent(tools=tools or [tool()], **more), face=Face.OPENAI).live()


def asked(*tools: Any, **more: Any) -> Talk:
    """The client has asked for a response with parameters of its own, and it has begun."""
    talk = connected(*tools, **more)
    talk.client("response.create", event_id="c-1", response={"max_output_tokens": 50, "metadata": {"my": "tag"}})
    talk.begins()
    return talk


def resting(*tools: Any, **more: Any) -> Talk:
    """The response has ended with a server call that still runs."""
    talk = asked(*tools, **more)
    talk.calls()
    talk.ends(output=[call_item()])
    return talk


def call_item(name: str = "weather", call: str = "call_1") -> dict[str, Any]:
    return {
        "id": f"item_{call}",
        "type": "function_call",
        "name": name,
        "call_id": call,
        "arguments": "{}",
        "status": "completed",
    }


def shown(talk: Talk, outputs: Sequence[Output] | None = None) -> list[str]:
    return [output.event["type"] for output in talk.of(ToClient, talk.last if outputs is None else outputs)]


def done(talk: Talk) -> Mapping[str, Any]:
    (event,) = talk.shown("response.done", talk.last)
    response: Mapping[str, Any] = event["response"]
    return response


def declare(talk: Talk, *tools: Mapping[str, Any], event_id: str = "c-9") -> None:
    talk.client("session.update", event_id=event_id, session={"type": "realtime", "tools": list(tools)})
    talk.model("session.updated", session=talk.sent("session.update")[-1]["session"])


def test_the_client_meets_the_session_when_it_is_configured() -> None:
    talk = Talk(agent(tools=[tool()]), face=Face.OPENAI)
    talk.model("session.created", session={"id": "sess_1"})
    assert not talk.of(ToClient)
    talk.model("session.updated", session={"id": "sess_1", **talk.sent("session.update")[0]["session"]})
    (created,) = talk.shown("session.created")
    assert created["session"]["instructions"] == ""
    assert created["session"]["tools"] == []
    assert created["session"]["model"] == "helper"
    assert not talk.shown("session.updated")


def test_what_the_client_sends_at_once_follows_the_settings() -> None:
    talk = Talk(face=Face.OPENAI)
    talk.client("input_audio_buffer.commit", event_id="c-1")
    talk.client("response.create")
    assert talk.sent_types(talk.all) == ["session.update", "input_audio_buffer.commit", "response.create"]


def test_a_clients_event_goes_to_the_model_as_it_is() -> None:
    talk = connected()
    event = {"type": "conversation.item.delete", "item_id": "item_x", "event_id": "c-3"}
    talk.put(ClientEvent(event))
    assert talk.of(SendModel, talk.last) == [SendModel(event)]


def test_a_clients_response_carries_its_parameters_and_shows_its_own_metadata_only() -> None:
    talk = asked()
    (create,) = talk.sent("response.create")
    assert create["response"]["max_output_tokens"] == 50
    assert create["response"]["metadata"] == {"my": "tag", "voicebus": create["event_id"]}
    (created,) = talk.shown("response.created")
    assert created["response"]["metadata"] == {"my": "tag"}


def test_audio_goes_to_the_client_under_the_ids_of_its_chain() -> None:
    talk = resting()
    talk.result("sunny")
    talk.begins("resp_2")
    talk.item_begins("item_b", "resp_2")
    first = talk.of(ForwardAudio, talk.sounds(20, "item_b", "resp_2"))
    second = talk.of(ForwardAudio, talk.sounds(20, "item_b", "resp_2"))
    assert first == second
    assert (first[0].response_id, first[0].item_id) == ("resp_1", "item_b")


def test_each_delta_of_text_is_shown_under_the_ids_of_its_chain_with_all_that_it_brings() -> None:
    talk = resting()
    talk.result("sunny")
    talk.begins("resp_2")
    talk.item_begins("item_b", "resp_2")
    at: dict[str, Any] = {"response_id": "resp_2", "item_id": "item_b", "output_index": 0, "content_index": 0}
    for number, word in enumerate(("It ", "is ", "sunny.")):
        talk.model("response.output_text.delta", event_id=f"event_{number}", **at, delta=word, obfuscation="x")
        (event,) = talk.shown("response.output_text.delta", talk.last)
        kind = "response.output_text.delta"
        assert event == {"type": kind, **at, "response_id": "resp_1", "delta": word, "obfuscation": "x"}
    aside: dict[str, Any] = {**at, "item_id": "item_c", "output_index": 1}
    talk.model("response.output_text.delta", **aside, delta="And ")
    talk.model("response.output_text.delta", **aside, delta="dry.")
    (event,) = talk.shown("response.output_text.delta", talk.last)
    assert (event["item_id"], event["output_index"]) == ("item_c", 1)


def test_no_delta_of_a_response_that_was_stopped_is_shown_however_many_were() -> None:
    talk = asked()
    talk.item_begins()
    assert shown(talk, talk.says("One ")) == ["response.output_audio_transcript.delta"]
    assert shown(talk, talk.says("two ")) == ["response.output_audio_transcript.delta"]
    talk.put(Interrupt())
    assert shown(talk, talk.says("three ")) == []
    assert shown(talk, talk.says("four")) == []


def test_a_response_that_ends_with_server_calls_is_withheld_and_goes_on_with_the_clients_parameters() -> None:
    talk = resting()
    assert talk.of(DispatchTool)
    assert "response.done" not in shown(talk)
    talk.result("sunny")
    create = talk.sent("response.create", talk.last)[0]
    assert create["response"]["max_output_tokens"] == 50
    assert create["response"]["metadata"]["my"] == "tag"
    talk.begins("resp_2")
    assert "response.created" not in shown(talk)
    talk.ends("resp_2", output=[])
    response = done(talk)
    assert (response["id"], response["status"], response["metadata"]) == ("resp_1", "completed", {"my": "tag"})
    assert not [event for event in talk.of(ToClient) if "call_1" in str(event)]


def test_rate_limits_of_a_response_that_is_withheld_are_withheld_too() -> None:
    talk = resting()
    talk.model("rate_limits.updated", rate_limits=[])
    assert talk.shown("rate_limits.updated") == []
    talk.result("sunny")
    talk.begins("resp_2")
    talk.ends("resp_2")
    talk.model("rate_limits.updated", rate_limits=[])
    assert len(talk.shown("rate_limits.updated")) == 1


def test_a_follow_up_has_no_input_and_no_forced_tool_that_would_call_for_ever() -> None:
    talk = connected()
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}
    talk.client("response.create", response={"input": [item], "tool_choice": "required"})
    assert talk.sent("response.create")[0]["response"]["input"]
    talk.begins()
    talk.calls()
    talk.ends(output=[call_item()])
    talk.result()
    follow_up = talk.sent("response.create", talk.last)[0]["response"]
    assert "input" not in follow_up
    assert follow_up["tool_choice"] == "auto"


def test_during_a_chain_the_client_cannot_create_another_response() -> None:
    talk = resting()
    talk.client("response.create", event_id="c-2")
    (error,) = talk.shown("error", talk.last)
    assert error["error"]["code"] == "conversation_already_has_active_response"
    assert talk.sent_types() == []


def test_cancelling_a_chain_that_rests_ends_it_and_no_follow_up_comes() -> None:
    talk = resting()
    talk.client("response.cancel")
    response = done(talk)
    assert (response["status"], response["status_details"]["reason"]) == ("cancelled", "client_cancelled")
    assert talk.sent("response.cancel") == []
    talk.result("sunny")
    assert talk.sent_types() == ["conversation.item.create"]


def test_speech_while_a_tool_runs_ends_the_chain() -> None:
    talk = resting()
    talk.model("input_audio_buffer.speech_started", item_id="item_u", audio_start_ms=0)
    assert shown(talk) == ["input_audio_buffer.speech_started", "response.done"]
    assert done(talk)["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    talk.result("sunny")
    assert talk.sent_types() == ["conversation.item.create"]


def test_a_follow_up_that_is_with_the_model_when_its_chain_ends_is_cancelled_unseen() -> None:
    talk = resting()
    talk.result("sunny")
    talk.client("response.cancel")
    assert done(talk)["status"] == "cancelled"
    talk.begins("resp_2")
    assert shown(talk) == []
    assert talk.sent("response.cancel", talk.last)[0]["response_id"] == "resp_2"
    talk.item_begins("item_b", "resp_2")
    assert shown(talk) == []
    assert not talk.of(ForwardAudio, talk.sounds(20, "item_b", "resp_2"))
    talk.ends("resp_2", "cancelled")
    assert shown(talk) == []
    talk.client("response.create")
    assert talk.sent_types() == ["response.create"]


def test_a_response_that_begins_by_itself_ends_a_chain_that_rests() -> None:
    talk = resting()
    talk.begins("vad_1", unasked=True)
    assert shown(talk) == ["response.done", "response.created"]
    talk.result("sunny")
    assert talk.sent_types() == ["conversation.item.create"]


def test_a_tool_that_asks_for_no_response_ends_the_chain_at_once() -> None:
    talk = asked(tool("log", respond="never"))
    talk.calls("log")
    talk.ends(output=[call_item("log")])
    assert done(talk)["status"] == "completed"
    talk.result("ok")
    assert talk.sent_types() == ["conversation.item.create"]


def test_a_follow_up_that_the_model_refuses_ends_the_chain_as_failed() -> None:
    talk = resting()
    talk.result("sunny")
    talk.fails("invalid_value", "No such tool.", talk.sent("response.create", talk.last)[0]["event_id"])
    assert done(talk)["status"] == "failed"
    assert talk.errors() == ["invalid_value"]


def test_a_follow_up_that_is_never_answered_ends_the_chain_as_failed() -> None:
    talk = resting()
    talk.result("sunny")
    talk.timer("create")
    assert done(talk)["status"] == "failed"


def test_a_response_that_was_cancelled_after_a_call_has_no_follow_up() -> None:
    talk = asked()
    talk.calls()
    talk.client("response.cancel")
    assert talk.sent("response.cancel", talk.last)[0]["response_id"] == "resp_1"
    talk.ends(status="cancelled", output=[call_item()])
    assert done(talk)["status"] == "cancelled"
    talk.result("sunny")
    assert talk.sent_types() == ["conversation.item.create"]


def test_a_response_that_speech_cut_off_after_a_call_has_no_follow_up() -> None:
    talk = asked()
    talk.calls()
    talk.model("input_audio_buffer.speech_started", item_id="item_u", audio_start_ms=0)
    talk.ends(status="cancelled", status_details={"type": "cancelled", "reason": "turn_detected"}, output=[call_item()])
    assert done(talk)["status_details"]["reason"] == "turn_detected"
    talk.result("sunny")
    assert talk.sent_types() == ["conversation.item.create"]


def test_speech_while_the_follow_up_is_with_the_model_leaves_the_ending_to_the_model() -> None:
    talk = resting()
    talk.result("sunny")
    talk.model("input_audio_buffer.speech_started", item_id="item_u", audio_start_ms=0)
    assert shown(talk) == ["input_audio_buffer.speech_started"]
    talk.begins("resp_2")
    talk.ends("resp_2", "cancelled", status_details={"type": "cancelled", "reason": "turn_detected"}, output=[])
    response = done(talk)
    assert (response["id"], response["status"]) == ("resp_1", "cancelled")
    assert talk.sent("response.cancel") == []


def test_the_end_of_the_session_ends_a_chain_that_rests() -> None:
    talk = resting()
    talk.put(End("hangup"))
    assert done(talk)["status"] == "cancelled"


def test_a_call_of_a_clients_tool_is_left_to_the_client() -> None:
    talk = connected()
    declare(talk, MINE)
    talk.client("response.create")
    talk.begins()
    outputs = talk.calls("mine")
    assert not talk.of(DispatchTool, outputs)
    assert shown(talk) == ["response.output_item.done"]
    talk.ends(output=[call_item("mine")])
    assert done(talk)["status"] == "completed"
    assert talk.sent("conversation.item.create") == []
    assert talk.errors() == []


def test_a_mixed_response_ends_visibly_and_the_clients_next_create_waits_for_the_servers_outputs() -> None:
    talk = connected()
    declare(talk, MINE)
    talk.client("response.create")
    talk.begins()
    talk.calls("weather", "call_1")
    talk.calls("mine", "call_2")
    talk.ends(output=[call_item(), call_item("mine", "call_2")])
    assert [item["name"] for item in done(talk)["output"]] == ["mine"]
    talk.client("conversation.item.create", item={"type": "function_call_output", "call_id": "call_2", "output": "1"})
    talk.client("response.create")
    assert talk.sent_types() == []
    talk.result("sunny")
    assert talk.sent_types() == ["conversation.item.create", "response.create"]


def test_a_mixed_response_without_the_clients_create_is_not_followed() -> None:
    talk = connected()
    declare(talk, MINE)
    talk.client("response.create")
    talk.begins()
    talk.calls("weather", "call_1")
    talk.calls("mine", "call_2")
    talk.ends(output=[])
    talk.result("sunny")
    assert talk.sent_types() == ["conversation.item.create"]


def test_an_unknown_tool_is_answered_by_the_session_also_here() -> None:
    talk = asked()
    talk.calls("nonsense")
    assert talk.errors() == ["unknown_tool"]
    assert shown(talk) == []


def test_a_clients_settings_go_to_the_model_and_come_back_as_the_client_may_see_them() -> None:
    talk = connected()
    talk.client("session.update", event_id="c-1", session={"type": "realtime", "output_modalities": ["text"]})
    (update,) = talk.sent("session.update", talk.last)
    assert update["session"] == {"type": "realtime", "output_modalities": ["text"]}
    talk.model("session.updated", session={"output_modalities": ["text"], "instructions": "Be brief."})
    (updated,) = talk.shown("session.updated")
    assert updated["session"]["output_modalities"] == ["text"]
    assert updated["session"]["instructions"] == ""


def test_a_clients_tools_stand_before_the_servers_as_the_model_tells_of_a_bad_one_by_its_place() -> None:
    talk = connected()
    declare(talk, MINE)
    assert names(talk.sent("session.update")[-1]["session"]) == ["mine", "weather"]
    talk.client("response.create", response={"tools": [MINE]})
    assert names(talk.sent("response.create")[-1]["response"]) == ["mine", "weather"]


def test_tools_of_the_servers_that_a_client_names_stand_where_it_has_put_them() -> None:
    talk = connected(tool("old"), tool("new"), client=ClientRights(may_see=frozenset({"tools"})))
    other = {**MINE, "name": "other"}
    listed: list[Mapping[str, Any]] = [MINE, {"type": "function", "name": "new", "description": "Forged."}, other]
    declare(talk, *listed)
    session = talk.sent("session.update")[-1]["session"]
    assert names(session) == ["mine", "new", "other", "old"]
    assert session["tools"][1]["description"] == "Does new."
    talk.client("response.create", response={"tools": listed})
    assert names(talk.sent("response.create")[-1]["response"]) == ["mine", "new", "other", "old"]


def test_a_clients_settings_survive_a_handoff_and_the_handoffs_own_update_is_not_shown() -> None:
    talk = connected(handoffs=[handoff("billing")])
    talk.client("session.update", session={"type": "realtime", "output_modalities": ["text"], "tools": [MINE]})
    talk.model("session.updated", session=talk.sent("session.update")[-1]["session"])
    before = len(talk.shown("session.updated"))
    talk.client("response.create")
    talk.begins()
    talk.calls("transfer_to_billing")
    talk.put(AgentResolved("call_1", agent("billing", tools=[tool("invoice")])))
    session = talk.sent("session.update", talk.last)[0]["session"]
    assert session["output_modalities"] == ["text"]
    assert [entry["name"] for entry in session["tools"]] == ["mine", "invoice"]
    talk.model("session.updated", session=session)
    assert len(talk.shown("session.updated")) == before


def test_a_setting_that_the_model_refuses_is_the_clients_error_and_does_not_survive() -> None:
    talk = connected(handoffs=[handoff("billing")])
    talk.client("session.update", event_id="c-7", session={"type": "realtime", "max_output_tokens": 99999})
    talk.fails("invalid_value", "Too many.", talk.sent("session.update")[-1]["event_id"], param="session.x")
    (error,) = talk.shown("error")
    assert error["error"]["event_id"] == "c-7"
    assert talk.errors() == []
    talk.client("response.create")
    talk.begins()
    talk.calls("transfer_to_billing")
    talk.put(AgentResolved("call_1", agent("billing")))
    assert "max_output_tokens" not in talk.sent("session.update", talk.last)[0]["session"]


def test_updates_are_answered_in_the_order_in_which_they_were_sent() -> None:
    talk = connected(handoffs=[handoff("billing")])
    talk.client("response.create")
    talk.begins()
    talk.calls("transfer_to_billing")
    talk.put(AgentResolved("call_1", agent("billing")))
    talk.client("session.update", session={"type": "realtime", "output_modalities": ["text"]})
    talk.model("session.updated", session={})
    assert shown(talk) == [], "that one answers the handoff's"
    talk.model("session.updated", session={"output_modalities": ["text"]})
    assert shown(talk) == ["session.updated"]


def test_an_error_of_a_clients_event_is_shown_and_one_of_the_sessions_own_is_not() -> None:
    talk = connected()
    talk.client("conversation.item.delete", item_id="item_x", event_id="c-3")
    talk.fails("item_delete_invalid_item_id", "No such item.", "c-3")
    assert talk.shown("error")[0]["error"]["event_id"] == "c-3"
    assert talk.errors() == []
    talk.fails("server_error", "Oops.", "vb_01J0SESSION_1")
    assert len(talk.shown("error")) == 1


def test_a_clients_create_that_met_the_models_own_response_is_told_so() -> None:
    talk = connected()
    talk.client("response.create", event_id="c-1")
    talk.begins("vad_1", unasked=True)
    code = "conversation_already_has_active_response"
    talk.fails(code, event_id=talk.sent("response.create")[0]["event_id"])
    assert [error["error"]["event_id"] for error in talk.shown("error")] == ["c-1"]
    talk.ends("vad_1")
    assert talk.sent_types() == []


def test_a_bad_frame_is_answered_in_the_protocols_shape() -> None:
    talk = connected()
    talk.put(ClientMalformed("invalid_json", "Not JSON.", None, None))
    assert talk.shown("error") == [
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "code": "invalid_json",
                "message": "Not JSON.",
                "param": None,
                "event_id": None,
            },
        }
    ]
    assert talk.errors() == []


def test_the_client_truncates_by_itself_and_the_record_follows_it() -> None:
    talk = asked()
    talk.speaks("One two three four", 2000)
    talk.ends(output=[])
    talk.model("input_audio_buffer.speech_started", item_id="item_u", after=1.2)
    assert talk.sent_types() == []
    assert len(talk.observed("barge_in")) == 1
    talk.client("conversation.item.truncate", item_id="item_a", content_index=0, audio_end_ms=1000)
    talk.model("conversation.item.truncated", item_id="item_a", content_index=0, audio_end_ms=1000)
    assert talk.lines() == [("assistant", "One two three four", "One two", True)]


def test_an_out_of_band_response_runs_beside_the_conversation_and_leaves_no_line() -> None:
    talk = asked()
    talk.client("response.create", response={"conversation": "none", "output_modalities": ["text"]})
    (create,) = talk.sent("response.create", talk.last)
    mark = create["response"]["metadata"]
    talk.model("response.created", response={"id": "oob_1", "conversation_id": None, "metadata": mark})
    item: dict[str, Any] = {
        "id": "item_o",
        "type": "message",
        "role": "assistant",
        "status": "in_progress",
        "content": [],
    }
    talk.model("response.output_item.added", response_id="oob_1", output_index=0, item=item)
    talk.says("Aside.", "item_o", "oob_1", spoken=False)
    item = {**item, "status": "completed", "content": [{"type": "output_text", "text": "Aside."}]}
    talk.model("response.output_item.done", response_id="oob_1", output_index=0, item=item)
    talk.ends("oob_1", conversation_id=None)
    talk.ends("resp_1")
    assert talk.lines() == []
    assert [record.response_id for record in talk.records(EventType.TURN_ENDED)] == ["oob_1", "resp_1"]


def test_an_out_of_band_response_is_known_also_where_metadata_is_not_echoed() -> None:
    talk = connected()
    talk.client("response.create", response={"conversation": "none"})
    talk.model("response.created", response={"id": "oob_1", "conversation_id": None})
    talk.client("response.create")
    assert talk.sent_types() == ["response.create"], "the conversation itself is idle"


def stopped(*, ended: bool = False) -> Talk:
    """A guardrail stops what is said; `ended`: only after the client has seen its end."""
    talk = asked(guardrails=[GuardrailSpec("rude")])
    talk.item_begins()
    talk.says("What a damned thing")
    talk.sounds(2000)
    talk.said("What a damned thing")
    check = talk.of(DispatchCheck)[-1].check_id
    if ended:
        talk.ends(output=[message_item()])
    talk.verdict(check, GuardrailResult(name="rude", tripped=True))
    return talk


def message_item(item: str = "item_a", status: str = "completed") -> dict[str, Any]:
    return {"id": item, "type": "message", "role": "assistant", "status": status, "content": []}


BY_CLIENT: dict[str, Any] = {"type": "cancelled", "reason": "client_cancelled"}
CANCELLED: dict[str, Any] = {"status": "cancelled", "status_details": BY_CLIENT}


def test_what_a_guardrail_stops_and_what_is_said_for_it_are_one_response_to_the_client() -> None:
    talk = stopped()
    feedback = talk.sent("conversation.item.create", talk.last)[0]["item"]
    assert talk.sent_types() == ["response.cancel", "conversation.item.truncate", "conversation.item.create"]
    assert not talk.of(ForwardAudio, talk.sounds(100))
    assert shown(talk, talk.says("more")) == []
    talk.model("conversation.item.added", item=feedback, previous_item_id="item_a")
    assert shown(talk) == []
    talk.ends(**CANCELLED, output=[message_item(status="incomplete")], usage={"output_tokens": 5})
    assert shown(talk) == []
    (create,) = talk.sent("response.create", talk.last)
    assert create["response"]["max_output_tokens"] == 50, "as the client had asked"
    talk.client("response.create", event_id="c-2")
    assert talk.shown("error", talk.last)[0]["error"]["code"] == "conversation_already_has_active_response"
    assert shown(talk, talk.begins("resp_2")) == []
    talk.item_begins("item_b", "resp_2")
    added = talk.shown("response.output_item.added")[-1]
    assert (added["response_id"], added["output_index"]) == ("resp_1", 1)
    talk.ends("resp_2", output=[message_item("item_b")], usage={"output_tokens": 7})
    response = done(talk)
    assert (response["id"], response["status"], response["metadata"]) == ("resp_1", "completed", {"my": "tag"})
    assert [item["id"] for item in response["output"]] == ["item_a", "item_b"]
    assert response["usage"] == {"output_tokens": 12}


def test_what_a_guardrail_finds_after_the_end_is_answered_by_a_response_of_its_own() -> None:
    talk = stopped(ended=True)
    assert talk.sent_types() == ["conversation.item.truncate", "conversation.item.create", "response.create"]
    talk.begins("resp_2")
    assert talk.shown("response.created", talk.last)[0]["response"]["id"] == "resp_2"
    talk.ends("resp_2", output=[message_item("item_b")])
    assert done(talk)["id"] == "resp_2"


def test_a_client_that_cancels_what_a_guardrail_has_stopped_gets_no_other_answer() -> None:
    talk = stopped()
    talk.client("response.cancel")
    assert talk.sent_types() == [], "it is being cancelled already"
    talk.ends(**CANCELLED, output=[message_item(status="incomplete")])
    assert (done(talk)["status"], talk.sent_types()) == ("cancelled", [])


def test_a_client_may_cancel_the_answer_that_is_to_stand_for_what_was_stopped() -> None:
    talk = stopped()
    talk.ends(**CANCELLED, output=[message_item(status="incomplete")])
    talk.client("response.cancel")
    assert (done(talk)["id"], done(talk)["status"]) == ("resp_1", "cancelled")
    assert shown(talk, talk.begins("resp_2")) == []
    assert talk.sent_types() == ["response.cancel"]


def test_an_answer_that_the_model_refuses_after_a_guardrail_fails_the_response() -> None:
    talk = stopped()
    talk.ends(**CANCELLED, output=[message_item(status="incomplete")])
    (create,) = talk.sent("response.create", talk.last)
    talk.fails("bad_response_create", event_id=create["event_id"])
    assert done(talk)["status"] == "failed"


def test_after_the_last_of_several_answers_that_were_stopped_the_client_sees_the_end() -> None:
    talk = stopped()
    talk.ends(**CANCELLED, output=[message_item(status="incomplete")])
    for number in (2, 3, 4):
        talk.begins(f"resp_{number}")
        talk.item_begins(f"item_{number}", f"resp_{number}")
        talk.said("damned again", f"item_{number}", f"resp_{number}")
        talk.verdict(talk.of(DispatchCheck)[-1].check_id, GuardrailResult(name="rude", tripped=True))
        talk.ends(f"resp_{number}", **CANCELLED, output=[message_item(f"item_{number}", "incomplete")])
        assert (shown(talk) == []) is (number < 4)
    response = done(talk)
    assert (response["id"], response["status"]) == ("resp_1", "cancelled")
    assert [item["id"] for item in response["output"]] == ["item_a", "item_2", "item_3", "item_4"]


def test_a_response_that_also_calls_a_tool_of_the_clients_ends_when_a_guardrail_stops_it() -> None:
    talk = connected(guardrails=[GuardrailSpec("rude")])
    declare(talk, MINE)
    talk.client("response.create")
    talk.begins()
    talk.calls("mine")
    talk.item_begins()
    talk.said("What a damned thing")
    talk.verdict(talk.of(DispatchCheck)[-1].check_id, GuardrailResult(name="rude", tripped=True))
    talk.ends(**CANCELLED, output=[call_item("mine"), message_item(status="incomplete")])
    assert done(talk)["status"] == "cancelled"


def test_interrupt_by_an_operator_stops_an_answer_here_too() -> None:
    talk = asked()
    talk.item_begins()
    talk.sounds(2000)
    talk.put(Interrupt(), after=0.5)
    assert talk.sent_types() == ["conversation.item.truncate", "response.cancel"]


def test_audio_of_an_out_of_band_response_passes_and_is_never_truncated() -> None:
    talk = connected()
    talk.client("response.create", response={"conversation": "none"})
    talk.begins("oob_1", conversation_id=None)
    assert talk.of(ForwardAudio, talk.sounds(500, "item_o", "oob_1"))
    assert talk.of(ForwardAudio, talk.sounds(500, "item_o", "oob_1"))
    talk.put(Interrupt(), after=0.1)
    assert talk.sent_types() == []


def test_a_call_of_an_out_of_band_response_is_never_the_servers() -> None:
    talk = connected()
    talk.client("response.create", response={"conversation": "none"})
    talk.begins("oob_1", conversation_id=None)
    assert not talk.of(DispatchTool, talk.calls("weather", response="oob_1"))
    talk.ends("oob_1", conversation_id=None)
    assert talk.errors() == []
    assert talk.sent("conversation.item.create") == []


def test_an_out_of_band_create_that_is_refused_is_the_clients_error() -> None:
    talk = connected()
    talk.client("response.create", event_id="c-4", response={"conversation": "none"})
    talk.fails("invalid_value", "No.", talk.sent("response.create")[0]["event_id"])
    assert [error["error"]["event_id"] for error in talk.shown("error")] == ["c-4"]


def test_a_client_may_cancel_before_its_response_began() -> None:
    talk = connected()
    talk.put(CommitAudio())
    talk.put(ClientEvent({"type": "response.cancel"}))
    assert talk.shown("error", talk.last), "the client has no response that it could cancel"
    view = StubbornView()
    view.intents = [CancelResponse(None, None)]
    talk = Talk(face=Face.OPENAI, view=view).live()
    talk.asks()
    talk.client("response.cancel")
    talk.begins()
    assert talk.sent("response.cancel", talk.last)[0]["response_id"] == "resp_1"


def test_a_handoff_takes_over_what_a_client_has_asked_for_a_moment_before() -> None:
    talk = connected(handoffs=[handoff("billing")])
    talk.client("response.create")
    talk.begins()
    talk.calls("transfer_to_billing")
    talk.client("session.update", session={"type": "realtime", "output_modalities": ["text"], "tools": [MINE]})
    talk.put(AgentResolved("call_1", agent("billing")))
    session = talk.sent("session.update", talk.last)[0]["session"]
    assert session["output_modalities"] == ["text"]
    assert [entry["name"] for entry in session["tools"]] == ["mine"]


class StubbornView:
    """A view that lets every create through, also those that the real one refuses; or asks for what it is told to."""

    intents: Sequence[Intent] = ()

    def model_event(self, event: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        return [event]

    def audio_address(self, response_id: str, output_index: int) -> tuple[str, int]:
        return response_id, output_index

    def client_event(self, event: Mapping[str, Any]) -> Sequence[Intent]:
        return self.intents or [CreateResponse(event.get("response", {}), event.get("event_id"))]

    def agent_changed(self, agent: AgentSpec) -> None: ...

    def settings_changed(self, session: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        return []

    def hide_item(self, item_id: str) -> None: ...

    def follow_up_expected(self) -> None: ...

    def continues(self, response_id: str) -> None: ...

    def chain_ended(self, *, status: str, reason: str) -> Sequence[Mapping[str, Any]]:
        return []


def test_manual_creates_are_turns_of_their_own_and_a_barrier_to_automatic_ones() -> None:
    talk = Talk(face=Face.OPENAI, view=StubbornView()).live()
    talk.client("response.create", response={"instructions": "first"})
    talk.begins("resp_1")
    talk.asks("a message from an operator")
    talk.asks("and another one")
    talk.client("response.create", response={"instructions": "second"})
    talk.client("response.create", response={"instructions": "third"})
    talk.asks("one more")
    for number in range(1, 6):
        talk.ends(f"resp_{number}")
        if number < 5:
            talk.begins(f"resp_{number + 1}")
    wanted = [create["response"].get("instructions") for create in talk.sent("response.create")]
    assert wanted == ["first", None, "second", "third", None]


def test_creates_that_wait_are_bounded() -> None:
    talk = Talk(face=Face.OPENAI, view=StubbornView()).live()
    for _ in range(34):
        talk.client("response.create", event_id="c-1")
    assert talk.shown("error")[0]["error"]["code"] == "too_many_pending_responses"


# --- the client's tools beside those of several agents ------------------------------------------------------


def names(event: Mapping[str, Any]) -> list[str]:
    return [entry["name"] for entry in event["tools"]]


def test_the_follow_up_of_a_handoff_offers_the_new_agents_tools_and_the_clients_own() -> None:
    talk = connected(tool("old"), handoffs=[handoff("billing")])
    talk.client("response.create", response={"tools": [MINE], "max_output_tokens": 9})
    assert names(talk.sent("response.create")[-1]["response"]) == ["mine", "old", "transfer_to_billing"]
    talk.begins()
    talk.calls("transfer_to_billing")
    talk.ends(output=[call_item("transfer_to_billing")])
    outputs = talk.put(AgentResolved("call_1", agent("billing", tools=[tool("invoice")], handoffs=[handoff("helper")])))
    (create,) = talk.sent("response.create", outputs)
    assert names(create["response"]) == ["mine", "invoice", "transfer_to_helper"]
    assert create["response"]["max_output_tokens"] == 9
    talk.begins("resp_2")
    talk.calls("transfer_to_helper", "call_2", response="resp_2")
    talk.ends("resp_2", output=[call_item("transfer_to_helper", "call_2")])
    outputs = talk.put(AgentResolved("call_2", agent(tools=[tool("old")])))
    (create,) = talk.sent("response.create", outputs)
    assert names(create["response"]) == ["mine", "old"]


def test_a_create_that_waited_for_a_handoff_offers_the_new_agents_tools() -> None:
    talk = connected(tool("old"), handoffs=[handoff("billing")])
    declare(talk, MINE)
    talk.client("response.create")
    talk.begins()
    talk.calls("transfer_to_billing")
    talk.calls("mine", "call_2")
    talk.ends(output=[call_item("transfer_to_billing"), call_item("mine", "call_2")])
    talk.client("response.create", response={"tools": [MINE]})
    assert talk.sent("response.create", talk.last) == [], "held until the server's outputs are in"
    outputs = talk.put(AgentResolved("call_1", agent("billing", tools=[tool("invoice")])))
    (create,) = talk.sent("response.create", outputs)
    assert names(create["response"]) == ["mine", "invoice"]


def test_an_out_of_band_response_keeps_the_clients_tools_alone() -> None:
    talk = connected(tool("old"))
    talk.client("response.create", response={"conversation": "none", "tools": [MINE]})
    assert names(talk.sent("response.create")[-1]["response"]) == ["mine"]


def test_of_two_tools_of_one_name_after_a_handoff_the_servers_is_the_one() -> None:
    talk = connected(tool("old"), handoffs=[handoff("billing")])
    declare(talk, MINE, {**MINE, "name": "other"})
    talk.client("response.create", response={"tools": [MINE]})
    talk.begins()
    talk.calls("transfer_to_billing")
    talk.ends(output=[call_item("transfer_to_billing")])
    billing = agent("billing", tools=[tool("mine")], handoffs=[handoff("helper")])
    outputs = talk.put(AgentResolved("call_1", billing))
    session = talk.sent("session.update", outputs)[-1]["session"]
    assert names(session) == ["mine", "other", "transfer_to_helper"]
    assert session["tools"][0]["description"] == "Does mine."
    create = talk.sent("response.create", outputs)[-1]["response"]
    assert names(create) == ["mine", "transfer_to_helper"]
    talk.begins("resp_2")
    talk.calls("mine", "call_2", response="resp_2")
    assert [call.tool for call in talk.of(DispatchTool)] == ["mine"], "the server's runs"
    talk.calls("transfer_to_helper", "call_3", response="resp_2")
    outputs = talk.put(AgentResolved("call_3", agent()))
    session = talk.sent("session.update", outputs)[-1]["session"]
    assert names(session) == ["mine", "other"], "the client's is offered again where the agent has none"
