"""What a client of the OpenAI face sees of the model's events: one response per chain, and nothing hidden."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from support.model_events import USAGE, Event, ModelScript, call, message
from voicebus.engine.client_view import OpenAIClientView
from voicebus.engine.config import AgentSpec, Face, HandoffSpec, SessionConfig, ToolSpec
from voicebus.engine.view import CancelResponse, ClientView, CreateResponse, Forward, Reply

WEATHER = ToolSpec("weather", "Tells the weather.", {"type": "object"}, "default", 1000)
TO_BILLING = HandoffSpec("transfer_to_billing", "Hands over.", {"type": "object"}, "billing")


def make_view() -> ClientView:
    agent = AgentSpec("helper", instructions="Keep the secret.", tools=(WEATHER,), handoffs=(TO_BILLING,))
    view: ClientView = OpenAIClientView(SessionConfig("s1", Face.OPENAI, agent, "gpt-realtime"))
    tools = [{"type": "function", "name": "open_map"}]
    view.client_event({"type": "session.update", "session": {"type": "realtime", "tools": tools}})
    return view


def feed(view: ClientView, events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [seen for event in events for seen in view.model_event(event)]


def types(events: Iterable[Mapping[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def error_of(view: ClientView, event: Event) -> dict[str, Any]:
    """The error that answers a client event, and nothing else does."""
    (reply,) = view.client_event(event)
    assert isinstance(reply, Reply), reply
    assert reply.event["type"] == "error"
    return dict(reply.event["error"])


def chain_at_rest(view: ClientView, model: ModelScript, **kwargs: Any) -> list[Mapping[str, Any]]:
    """A question, and a response that calls the server's tool; what the client saw of it."""
    seen = feed(
        view, [*model.user("item_q"), *model.response("resp_1", [call("item_c", "call_1", "weather")], **kwargs)]
    )
    view.follow_up_expected()
    view.hide_item("item_o")
    return seen + feed(view, model.output("item_o", "call_1"))


def test_a_response_without_server_calls_passes_as_it_is() -> None:
    view, model = make_view(), ModelScript()
    events = [*model.user("item_q"), *model.response("resp_1", [message("item_a")], metadata={"req": "1"})]
    seen = feed(view, events)
    assert seen == [{key: value for key, value in event.items() if key != "event_id"} for event in events]


def test_a_chain_is_one_response() -> None:
    view, model = make_view(), ModelScript()
    first = chain_at_rest(view, model, metadata={"req": "1", "voicebus": "r1"})
    assert types(first) == ["conversation.item.added", "conversation.item.done", "response.created"]
    second = feed(view, model.response("resp_2", [message("item_a")], metadata={"voicebus": "r2"}))
    assert "response.created" not in types(second)
    assert {event["response_id"] for event in second if "response_id" in event} == {"resp_1"}
    assert {event["output_index"] for event in second if "output_index" in event} == {0}
    assert first[-1]["response"]["metadata"] == {"req": "1"}
    done = second[-1]["response"]
    assert (done["id"], done["status"], done["metadata"]) == ("resp_1", "completed", {"req": "1"})
    assert [item["id"] for item in done["output"]] == ["item_a"]


def test_usage_is_summed_in_every_counter() -> None:
    view, model = make_view(), ModelScript()
    chain_at_rest(view, model)
    done = feed(view, model.response("resp_2", [message("item_a")]))[-1]["response"]
    assert done["usage"]["total_tokens"] == 2 * USAGE["total_tokens"]
    assert done["usage"]["input_token_details"]["cached_tokens_details"]["text_tokens"] == 8


def test_usage_that_only_one_response_reports_is_kept() -> None:
    view, model = make_view(), ModelScript()
    chain_at_rest(view, model, usage=None)
    assert feed(view, model.response("resp_2", [message("item_a")]))[-1]["response"]["usage"] == USAGE


def nested(depth: int) -> object:
    """As deep as a frame of the model may be."""
    return {"more": nested(depth - 1)} if depth else 1


@pytest.mark.parametrize(("odd", "later"), [(10**400, 0.5), (nested(900), nested(900))], ids=["too large", "nested"])
def test_usage_that_cannot_be_summed_is_what_came_last(odd: object, later: object) -> None:
    view, model = make_view(), ModelScript()
    chain_at_rest(view, model, usage={"total_tokens": odd, "input_tokens": 3})
    usage = {"total_tokens": later, "input_tokens": 4}
    done = feed(view, model.response("resp_2", [message("item_a")], usage=usage))[-1]["response"]
    assert json.dumps(done["usage"]) == json.dumps({"total_tokens": later, "input_tokens": 7})


def test_nothing_of_a_server_call_or_a_handoff_shows() -> None:
    view, model = make_view(), ModelScript()
    items = [call("item_c", "call_1", "weather"), call("item_h", "call_2", "transfer_to_billing")]
    seen = feed(view, [*model.user("item_q"), *model.response("resp_1", items)])
    view.follow_up_expected()
    view.agent_changed(AgentSpec("billing"))
    for number in ("1", "2"):
        view.hide_item(f"item_o{number}")
        seen += feed(view, model.output(f"item_o{number}", f"call_{number}"))
    seen += feed(view, model.response("resp_2", [message("item_a")]))
    text = json.dumps(seen)
    for hidden in ("weather", "transfer_to_billing", "call_1", "item_c", "item_h", "item_o1", "item_o2", "resp_2"):
        assert f'"{hidden}"' not in text


def test_a_preamble_before_the_call_stays_and_indexes_stay_dense() -> None:
    view, model = make_view(), ModelScript()
    items = [message("item_p", "One moment."), call("item_c", "call_1", "weather"), message("item_p2", "Looking.")]
    seen = feed(view, model.response("resp_1", items))
    view.follow_up_expected()
    seen += feed(view, model.response("resp_2", [call("item_c2", "call_2", "weather"), message("item_a")]))
    view.follow_up_expected()
    seen += feed(view, model.response("resp_3", [message("item_b")]))
    assert [event["output_index"] for event in seen if event["type"] == "response.output_item.done"] == [0, 1, 2, 3]
    assert [item["id"] for item in seen[-1]["response"]["output"]] == ["item_p", "item_p2", "item_a", "item_b"]
    assert types(seen).count("response.created") == types(seen).count("response.done") == 1


def test_audio_is_addressed_as_the_client_knows_it() -> None:
    view, model = make_view(), ModelScript()
    feed(view, model.response("resp_1", [message("item_p"), call("item_c", "call_1", "weather")]))
    view.follow_up_expected()
    feed(view, model.response("resp_2", [message("item_a")])[:2])
    assert view.audio_address("resp_2", 0) == ("resp_1", 1)
    assert view.audio_address("resp_unknown", 3) == ("resp_unknown", 3)


def test_a_mixed_response_ends_visibly_with_the_clients_call_alone() -> None:
    view, model = make_view(), ModelScript()
    items = [call("item_c", "call_1", "weather"), call("item_x", "call_2", "open_map")]
    seen = feed(view, model.response("resp_1", items))
    assert seen[-1]["type"] == "response.done"
    assert [item["name"] for item in seen[-1]["response"]["output"]] == ["open_map"]
    assert [event["output_index"] for event in seen if "output_index" in event] == [0] * 4
    assert view.chain_ended(status="cancelled", reason="client_cancelled") == []


def test_a_tool_that_nobody_has_is_the_servers_to_answer() -> None:
    view, model = make_view(), ModelScript()
    seen = feed(view, model.response("resp_1", [call("item_c", "call_1", "invented")]))
    assert types(seen) == ["response.created"]


def test_calls_that_the_client_replays_as_history_are_its_own() -> None:
    view, model = make_view(), ModelScript()
    replayed = call("item_c", "call_9", "long_gone")
    create = {"type": "conversation.item.create", "item": replayed}
    assert view.client_event(create) == [Forward(create)]
    seen = feed(view, model.item(replayed))
    assert types(seen) == ["conversation.item.added", "conversation.item.done"]


def test_a_hidden_item_whose_events_never_came_is_no_previous_item() -> None:
    view, model = make_view(), ModelScript()
    feed(view, model.user("item_q"))
    view.hide_item("item_unseen")
    model.item({"id": "item_unseen", "type": "message"})
    assert [event["previous_item_id"] for event in feed(view, model.user("item_2"))] == ["item_q"] * 2


@pytest.mark.parametrize("status", ["cancelled", "failed", "incomplete"])
def test_a_response_that_did_not_complete_ends_the_chain_at_once(status: str) -> None:
    view, model = make_view(), ModelScript()
    seen = feed(view, model.response("resp_1", [call("item_c", "call_1", "weather")], status=status, reason="because"))
    assert types(seen) == ["response.created", "response.done"]
    assert seen[-1]["response"]["status"] == status
    assert seen[-1]["response"]["output"] == []


def test_a_follow_up_that_fails_ends_the_chain_under_the_first_id() -> None:
    view, model = make_view(), ModelScript()
    chain_at_rest(view, model)
    seen = feed(view, model.response("resp_2", [], status="failed"))
    assert [(event["type"], event["response"]["id"]) for event in seen] == [("response.done", "resp_1")]


@pytest.mark.parametrize(
    ("status", "reason", "details"),
    [
        ("completed", "", None),
        ("cancelled", "turn_detected", {"type": "cancelled", "reason": "turn_detected"}),
        (
            "failed",
            "tools_unavailable",
            {
                "type": "failed",
                "error": {
                    "type": "server_error",
                    "code": "tools_unavailable",
                    "message": "The server could not finish this response.",
                },
            },
        ),
    ],
)
def test_a_resting_chain_can_be_ended(status: str, reason: str, details: object) -> None:
    view, model = make_view(), ModelScript()
    chain_at_rest(view, model, metadata={"req": "1"})
    (done,) = view.chain_ended(status=status, reason=reason)
    response = done["response"]
    assert (done["type"], response["id"], response["status"]) == ("response.done", "resp_1", status)
    assert (response["status_details"], response["metadata"]) == (details, {"req": "1"})
    assert view.chain_ended(status=status, reason=reason) == []
    assert feed(view, model.response("resp_2", [message("item_a")]))[0]["response"]["id"] == "resp_2"


def test_a_running_chain_is_not_ended_from_outside() -> None:
    view, model = make_view(), ModelScript()
    feed(view, model.response("resp_1", [message("item_a")])[:-1])
    assert view.chain_ended(status="cancelled", reason="turn_detected") == []


def test_a_turn_that_the_model_began_by_itself_ends_a_resting_chain_first() -> None:
    view, model = make_view(), ModelScript()
    feed(view, model.response("resp_1", [call("item_c", "call_1", "weather")]))
    seen = feed(view, model.response("resp_2", [message("item_a")]))
    assert [(event["type"], event["response"]["id"]) for event in (seen[0], seen[1], seen[-1])] == [
        ("response.done", "resp_1"),
        ("response.created", "resp_2"),
        ("response.done", "resp_2"),
    ]


def test_an_out_of_band_response_is_apart_from_a_resting_chain() -> None:
    view, model = make_view(), ModelScript()
    chain_at_rest(view, model)
    (intent,) = view.client_event({"type": "response.create", "response": {"conversation": "none"}})
    assert isinstance(intent, CreateResponse)
    aside = feed(view, model.response("resp_x", [message("item_x")], out_of_band=True))
    assert {event["response_id"] for event in aside if "response_id" in event} == {"resp_x"}
    assert (types(aside)[0], types(aside)[-1]) == ("response.created", "response.done")
    assert feed(view, model.response("resp_2", [message("item_a")]))[-1]["response"]["id"] == "resp_1"


def test_a_server_call_invented_out_of_band_is_hidden_and_ends_visibly() -> None:
    view, model = make_view(), ModelScript()
    view.client_event({"type": "response.create", "response": {"conversation": "none"}})
    seen = feed(view, model.response("resp_x", [call("item_x", "call_1", "weather")], out_of_band=True))
    assert types(seen) == ["response.created", "response.done"]
    assert seen[-1]["response"]["output"] == []


def test_servers_that_leave_the_conversation_id_out_still_have_chains() -> None:
    view, model = make_view(), ModelScript()
    seen = feed(view, model.response("resp_1", [call("item_c", "call_1", "weather")], out_of_band=True))
    assert types(seen) == ["response.created"]


def test_a_final_response_without_output_gets_the_items_that_were_seen() -> None:
    view, model = make_view(), ModelScript()
    events = model.response("resp_1", [message("item_a"), call("item_c", "call_1", "weather")])
    del events[-1]["response"]["output"]
    assert types(feed(view, events)).count("response.done") == 0
    view.follow_up_expected()
    done = feed(view, model.response("resp_2", [message("item_b")]))[-1]
    assert [item["id"] for item in done["response"]["output"]] == ["item_a", "item_b"]


def test_what_some_servers_echo_of_instructions_and_tools_is_taken_out() -> None:
    view, model = make_view(), ModelScript()
    events = model.response("resp_1", [message("item_a")])
    for event in (events[0], events[-1]):
        event["response"] |= {"instructions": "Keep the secret.", "tools": [{"name": "weather"}]}
    assert "secret" not in json.dumps(seen := feed(view, events))
    assert "weather" not in json.dumps(seen)


def test_previous_items_are_visible_ones() -> None:
    view, model = make_view(), ModelScript()
    chain_at_rest(view, model)
    feed(view, model.response("resp_2", [message("item_a")]))
    feed(view, model.response("resp_3", [call("item_c3", "call_3", "weather")]))
    committed = {"type": "input_audio_buffer.committed", "item_id": "item_u", "previous_item_id": "item_c3"}
    seen = feed(view, [committed, *model.user("item_u")])
    assert [event["previous_item_id"] for event in seen] == ["item_a"] * 3


def test_a_hidden_item_at_the_front_leaves_no_previous_item() -> None:
    view, model = make_view(), ModelScript()
    view.hide_item("item_f")
    feed(view, model.user("item_f"))
    assert [event["previous_item_id"] for event in feed(view, model.user("item_q"))] == [None, None]


def test_a_deleted_item_is_no_previous_item_any_more() -> None:
    view, model = make_view(), ModelScript()
    view.hide_item("item_h")
    feed(view, [*model.user("item_1"), *model.user("item_2"), *model.user("item_h")])
    model.order.remove("item_2")
    assert types(feed(view, [{"type": "conversation.item.deleted", "item_id": "item_2"}])) != []
    assert feed(view, model.user("item_3"))[0]["previous_item_id"] == "item_1"


@pytest.mark.parametrize("kind", ["deleted", "truncated", "retrieved"])
def test_what_happens_to_a_hidden_item_does_not_show(kind: str) -> None:
    view = make_view()
    view.hide_item("item_h")
    event = {"type": f"conversation.item.{kind}", "item_id": "item_h", "item": {"id": "item_h", "type": "message"}}
    assert view.model_event(event) == []


@pytest.mark.parametrize("action", ["delete", "retrieve", "truncate"])
def test_naming_a_hidden_item_is_naming_none(action: str) -> None:
    view, model = make_view(), ModelScript()
    chain_at_rest(view, model)
    event = {"type": f"conversation.item.{action}", "event_id": "e1", "content_index": 0, "audio_end_ms": 10}
    for hidden in ("item_c", "item_o"):
        error = error_of(view, {**event, "item_id": hidden})
        assert (error["code"], error["event_id"]) == (f"item_{action}_invalid_item_id", "e1")
    passing = {**event, "item_id": "item_q"}
    assert view.client_event(passing) == [Forward(passing)]


def create(item: Event | None = None, **fields: Any) -> Event:
    user = {"type": "message", "role": "user", "content": []}
    return {"type": "conversation.item.create", "item": user | (item or {}), **fields}


def test_a_client_cannot_create_around_what_is_hidden() -> None:
    view, model = make_view(), ModelScript()
    chain_at_rest(view, model)
    assert error_of(view, create({"id": "item_c"}))["code"] == "item_create_duplicate_item_id"
    assert error_of(view, create(previous_item_id="item_o"))["code"] == "item_create_invalid_previous_item_id"
    output = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
    assert error_of(view, create(output))["code"] == "invalid_tool_call_id"
    assert error_of(view, create({"type": "function_call", "name": "weather"}))["param"] == "item.name"
    assert error_of(view, create({"id": "vb_1"}))["param"] == "item.id"


def test_an_insert_goes_behind_the_hidden_followers() -> None:
    view, model = make_view(), ModelScript()
    chain_at_rest(view, model)
    feed(view, model.response("resp_2", [message("item_a")]))
    (intent,) = view.client_event(create({"id": "mine"}, previous_item_id="item_q", event_id="e1"))
    assert intent == Forward(create({"id": "mine"}, previous_item_id="item_o", event_id="e1"))


@pytest.mark.parametrize("fields", [{}, {"previous_item_id": "root"}, {"previous_item_id": "item_unknown"}])
def test_other_places_of_an_insert_pass_unchanged(fields: Event) -> None:
    view, model = make_view(), ModelScript()
    chain_at_rest(view, model)
    event = create({"id": "mine"}, **fields)
    assert view.client_event(event) == [Forward(event)]


@pytest.mark.parametrize("resting", [True, False])
def test_a_chain_is_one_active_response(resting: bool) -> None:
    view, model = make_view(), ModelScript()
    chain_at_rest(view, model)
    if not resting:
        feed(view, model.response("resp_2", [message("item_a")])[:3])
    error = error_of(view, {"type": "response.create", "event_id": "e1"})
    assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", "e1")
    assert "resp_1" in error["message"]
    for response_id in ({}, {"response_id": "resp_1"}, {"response_id": None}):
        expected = CancelResponse(None if resting else "resp_2", "e2")
        assert view.client_event({"type": "response.cancel", "event_id": "e2", **response_id}) == [expected]
    for foreign in ("resp_2", "resp_9"):
        error = error_of(view, {"type": "response.cancel", "response_id": foreign})
        assert error["code"] == "response_cancel_not_active"


def test_there_is_nothing_to_cancel_after_the_end() -> None:
    view, model = make_view(), ModelScript()
    feed(view, model.response("resp_1", [message("item_a")]))
    for fields in ({}, {"response_id": "resp_1"}):
        assert error_of(view, {"type": "response.cancel", **fields})["code"] == "response_cancel_not_active"
    assert view.client_event({"type": "response.create"}) == [CreateResponse({}, None)]


def test_an_out_of_band_response_is_cancelled_by_its_id() -> None:
    view, model = make_view(), ModelScript()
    view.client_event({"type": "response.create", "response": {"conversation": "none"}})
    events = model.response("resp_x", [message("item_x")], out_of_band=True)
    feed(view, events[:-1])
    cancel = {"type": "response.cancel", "response_id": "resp_x"}
    assert view.client_event(cancel) == [CancelResponse("resp_x", None)]
    assert error_of(view, {"type": "response.cancel"})["code"] == "response_cancel_not_active"
    feed(view, events[-1:])
    assert error_of(view, cancel)["code"] == "response_cancel_not_active"


def test_errors_of_the_sessions_own_events_stay_with_it() -> None:
    view, model = make_view(), ModelScript()
    chain_at_rest(view, model)

    def error(message: str, event_id: str | None) -> Event:
        return {"type": "error", "error": {"type": "invalid_request_error", "message": message, "event_id": event_id}}

    assert view.model_event(error("No.", "vb_7")) == []
    assert view.model_event(error("Error adding item: an item with id 'item_o' already exists.", None)) == []
    assert view.model_event(error("No.", "e1")) == [error("No.", "e1")]
    assert view.model_event(error("No.", None)) == [error("No.", None)]


def test_an_error_of_the_model_names_the_response_that_the_client_knows() -> None:
    view, model = make_view(), ModelScript()
    chain_at_rest(view, model)
    feed(view, model.response("resp_2", [message("item_a")])[:3])
    event = {"type": "error", "error": {"message": "Active response in progress: resp_2.", "event_id": "e1"}}
    assert view.model_event(event)[0]["error"]["message"] == "Active response in progress: resp_1."


def test_unknown_events_and_fields_pass_unchanged() -> None:
    view = make_view()
    event = {"type": "rate_limits.updated", "rate_limits": [], "obfuscation": "xyz"}
    assert view.model_event({**event, "event_id": "event_1"}) == [event]
    assert view.model_event({"type": "ping", "anything": [1, {"two": None}]}) == [
        {"type": "ping", "anything": [1, {"two": None}]}
    ]


def test_events_after_the_end_still_name_the_response_that_the_client_knows() -> None:
    view, model = make_view(), ModelScript()
    chain_at_rest(view, model)
    feed(view, model.response("resp_2", [message("item_a")]))
    stopped = {"type": "output_audio_buffer.stopped", "response_id": "resp_2"}
    assert view.model_event(stopped) == [{**stopped, "response_id": "resp_1"}]


def test_a_models_own_mcp_calls_keep_dense_indexes() -> None:
    view, model = make_view(), ModelScript()
    feed(view, model.response("resp_1", [call("item_c", "call_1", "weather")]))
    view.follow_up_expected()
    feed(view, model.response("resp_2", [call("item_c2", "call_2", "weather")])[:-1])
    mcp = {"id": "item_m", "type": "mcp_call", "name": "search", "arguments": "{}"}
    added = {"type": "response.output_item.added", "response_id": "resp_2", "output_index": 1, "item": mcp}
    running = {"type": "response.mcp_call.in_progress", "item_id": "item_m", "output_index": 1}
    assert [event["output_index"] for event in feed(view, [added, running])] == [0, 0]


def test_what_names_no_item_is_passed_on_and_changes_nothing() -> None:
    view = make_view()
    for event in ({"type": "conversation.item.deleted"}, {"type": "conversation.item.deleted", "item_id": 5}):
        assert feed(view, [event]) == [event]


def test_arguments_of_a_server_call_are_hidden_also_where_they_name_the_call_alone() -> None:
    view, model = make_view(), ModelScript()
    feed(view, model.response("resp_1", [call("item_c", "c1", "weather")]))
    assert feed(view, [{"type": "response.function_call_arguments.done", "call_id": "c1", "arguments": "{}"}]) == []


def test_a_response_that_is_over_does_not_go_on() -> None:
    view, model = make_view(), ModelScript()
    feed(view, model.response("resp_1", [message("item_a")]))
    view.continues("resp_1")
    assert view.chain_ended(status="failed", reason="x") == []


def test_an_item_without_an_id_is_shown_and_is_in_no_sum_of_its_response() -> None:
    view, model = make_view(), ModelScript()
    begun, *_, ended = model.response("resp_1", [message("item_a")])
    nameless = {
        "type": "response.output_item.added",
        "response_id": "resp_1",
        "output_index": 0,
        "item": {"type": "message"},
    }
    seen = feed(view, [begun, nameless, ended])
    assert nameless in seen


def test_a_transcription_that_is_turned_off_is_hidden_also_of_a_session_without_input() -> None:
    view = make_view()
    event = {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"transcription": None}}}}
    view.client_event(event)
    session = {"type": "realtime", "audio": {"output": {"voice": "ash"}}}
    (seen,) = feed(view, [{"type": "session.created", "session": session}])
    assert seen["session"]["audio"] == session["audio"]
