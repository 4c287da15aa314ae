"""Tools that the model's own side runs: approvals, finished calls, lists of tools (parity 139, 140)."""

from collections.abc import Mapping
from typing import Any

import pytest

from support.talk import Talk, agent, tool
from voicebus.contracts.journal import EventType
from voicebus.engine.config import Face, HostedToolSpec
from voicebus.engine.inputs import Approve, CallVetted, End, Reject, ToolErrorWorded, UpdateAgent
from voicebus.engine.outputs import Emit, Ignored, Output, Record, ToClient, VetCall, WordToolError

DEFAULT = "Tool execution was not approved."


def docs(*, vetted: bool = False) -> HostedToolSpec:
    return HostedToolSpec("docs", {"type": "mcp", "server_label": "docs", "server_url": "https://docs.test"}, vetted)


def talking(*, vetted: bool = False, **config: Any) -> Talk:
    return Talk(agent(tools=[tool()], hosted_tools=(docs(vetted=vetted),), snapshot=4), **config).asked()


def request(item: str = "mcpr_1", label: str = "docs", name: str = "search") -> Mapping[str, Any]:
    return {
        "id": item,
        "type": "mcp_approval_request",
        "server_label": label,
        "name": name,
        "arguments": '{"q":"x"}',
    }


def output_done(talk: Talk, item: Mapping[str, Any], response: str = "resp_1") -> list[Output]:
    return talk.model("response.output_item.done", response_id=response, output_index=0, item=item)


def item_done(talk: Talk, item: Mapping[str, Any]) -> list[Output]:
    return talk.model("conversation.item.done", item=item, previous_item_id=None)


def asking(**fields: Any) -> Talk:
    talk = talking(**fields)
    output_done(talk, request())
    return talk


def decisions(talk: Talk) -> list[dict[str, Any]]:
    items = [event["item"] for event in talk.sent("conversation.item.create")]
    return [
        {key: item[key] for key in item if key not in ("id", "type")}
        for item in items
        if item["type"] == "mcp_approval_response"
    ]


# --- approvals ------------------------------------------------------------------------------------


def test_a_hosted_tools_request_waits_for_a_person() -> None:
    talk = asking()
    (required,) = talk.records(EventType.TOOL_APPROVAL_REQUIRED)
    assert (required.call_id, required.tool, required.arguments) == ("mcpr_1", "docs.search", '{"q":"x"}')
    assert not talk.of(VetCall)
    assert "call:mcpr_1" not in talk.timers()


def test_the_two_tellings_of_one_request_are_one() -> None:
    talk = talking()
    item_done(talk, request())
    output_done(talk, request())
    assert len(talk.records(EventType.TOOL_APPROVAL_REQUIRED)) == 1
    assert talk.errors() == []


def test_an_approval_goes_to_the_model_and_it_is_asked_to_go_on_when_nothing_runs() -> None:
    talk = asking()
    talk.put(Approve("mcpr_1"))
    assert decisions(talk) == [{"approval_request_id": "mcpr_1", "approve": True}]
    assert talk.records(EventType.TOOL_APPROVAL_DECIDED)[0].approved
    assert talk.sent_types() == ["conversation.item.create"]
    talk.ends()
    assert talk.sent_types() == ["response.create"]
    assert not talk.records(EventType.TOOL_START), "whoever runs it tells of it itself"
    assert not talk.records(EventType.TOOL_END)


def test_a_rejection_goes_to_the_model_with_its_reason() -> None:
    talk = asking()
    talk.ends()
    talk.put(Reject("mcpr_1", message="Too costly."))
    assert decisions(talk) == [{"approval_request_id": "mcpr_1", "approve": False, "reason": "Too costly."}]
    assert talk.sent_types() == ["conversation.item.create", "response.create"]
    assert not talk.records(EventType.TOOL_END)


def test_a_rejection_without_a_reason_is_worded_or_gets_the_usual_one() -> None:
    talk = asking()
    talk.put(Reject("mcpr_1"))
    assert decisions(talk) == [{"approval_request_id": "mcpr_1", "approve": False, "reason": DEFAULT}]
    talk = asking(words_errors=True)
    talk.put(Reject("mcpr_1"))
    assert talk.of(WordToolError) == [WordToolError("mcpr_1", "docs.search", "approval_rejected", DEFAULT)]
    talk.put(ToolErrorWorded("mcpr_1", "Not now."))
    assert decisions(talk) == [{"approval_request_id": "mcpr_1", "approve": False, "reason": "Not now."}]


def test_a_decision_counts_once() -> None:
    talk = asking()
    talk.put(Approve("mcpr_1"))
    assert [type(output) for output in talk.put(Approve("mcpr_1"))] == [Ignored]
    assert [type(output) for output in talk.put(Reject("mcpr_1"))] == [Ignored]
    assert len(decisions(talk)) == 1


@pytest.mark.parametrize("approve", [True, False])
def test_a_word_for_all_further_calls_is_about_one_tool_of_one_server(approve: bool) -> None:
    talk = asking()
    talk.put(Approve("mcpr_1", always=True) if approve else Reject("mcpr_1", always=True))
    output_done(talk, request("mcpr_2"))
    assert [decision["approve"] for decision in decisions(talk)] == [approve, approve]
    output_done(talk, request("mcpr_3", name="delete"))
    assert len(decisions(talk)) == 2
    assert [required.call_id for required in talk.records(EventType.TOOL_APPROVAL_REQUIRED)] == ["mcpr_1", "mcpr_3"]


@pytest.mark.parametrize("url", ["https://docs.test", "https://other.test"])
def test_what_a_person_allowed_is_asked_again_for_an_agent_whose_server_is_another_one_of_that_name(url: str) -> None:
    talk = asking()
    talk.put(Approve("mcpr_1", always=True))
    talk.ends()
    server = HostedToolSpec("docs", {"type": "mcp", "server_label": "docs", "server_url": url})
    talk.put(UpdateAgent(agent("second", hosted_tools=(server,))))
    talk.begins("resp_2")
    output_done(talk, request("mcpr_2"), "resp_2")
    assert (len(decisions(talk)) == 2) is (server == docs())
    assert len(talk.records(EventType.TOOL_APPROVAL_REQUIRED)) == 1 + (server != docs())


def test_what_a_person_allowed_of_a_server_that_no_agent_names_is_asked_again_for_another_agent() -> None:
    talk = talking()
    output_done(talk, request(label="mail"))
    talk.put(Approve("mcpr_1", always=True))
    talk.ends()
    talk.put(UpdateAgent(agent("second")))
    talk.begins("resp_2")
    output_done(talk, request("mcpr_2", label="mail"), "resp_2")
    assert [required.call_id for required in talk.records(EventType.TOOL_APPROVAL_REQUIRED)] == ["mcpr_1", "mcpr_2"]


def test_the_owner_may_decide_instead_of_a_person() -> None:
    talk = asking(vetted=True)
    assert talk.of(VetCall) == [VetCall("mcpr_1", "docs.search", '{"q":"x"}', "helper", 4, approved=False, hosted=True)]
    talk.put(CallVetted("mcpr_1", "run"))
    assert decisions(talk) == [{"approval_request_id": "mcpr_1", "approve": True}]
    output_done(talk, request("mcpr_2"))
    talk.put(CallVetted("mcpr_2", "reject", "Not that."))
    assert decisions(talk)[1] == {"approval_request_id": "mcpr_2", "approve": False, "reason": "Not that."}
    assert not talk.records(EventType.TOOL_APPROVAL_REQUIRED)


def test_the_owner_may_leave_it_to_a_person() -> None:
    talk = asking(vetted=True)
    talk.put(CallVetted("mcpr_1", "ask"))
    assert talk.records(EventType.TOOL_APPROVAL_REQUIRED)
    outputs = talk.put(Approve("mcpr_1"))
    assert not talk.of(VetCall, outputs), "there is nothing left to ask"
    assert decisions(talk) == [{"approval_request_id": "mcpr_1", "approve": True}]


def test_an_owner_who_does_not_decide_in_time_has_refused() -> None:
    talk = asking(vetted=True)
    talk.timer("call:mcpr_1")
    assert decisions(talk) == [{"approval_request_id": "mcpr_1", "approve": False, "reason": DEFAULT}]
    assert talk.errors() == ["call_unchecked"]


def test_a_server_that_no_agent_named_is_for_a_person_to_decide() -> None:
    talk = talking()
    output_done(talk, request(label="foreign"))
    assert [required.tool for required in talk.records(EventType.TOOL_APPROVAL_REQUIRED)] == ["foreign.search"]


def test_requests_and_functions_of_one_response_are_answered_together() -> None:
    talk = asking()
    talk.calls()
    talk.ends()
    talk.put(Approve("mcpr_1"))
    assert talk.sent_types() == ["conversation.item.create"]
    talk.result("sunny")
    assert talk.sent_types() == ["conversation.item.create", "response.create"]


def test_a_model_that_goes_on_by_itself_is_not_asked_again() -> None:
    talk = asking()
    talk.ends()
    talk.put(Approve("mcpr_1"))
    (create,) = talk.sent("response.create", talk.last)
    talk.begins("resp_2", unasked=True)
    talk.fails("conversation_already_has_active_response", event_id=create["event_id"])
    talk.ends("resp_2")
    assert not talk.sent("response.create", talk.last)
    assert talk.errors() == []
    talk.asks("Go on.")
    assert talk.sent("response.create", talk.last)


def test_a_wish_to_go_on_that_serves_others_too_is_kept() -> None:
    talk = asking()
    talk.put(Approve("mcpr_1"))
    talk.asks("And this?")
    talk.ends()
    (create,) = talk.sent("response.create", talk.last)
    talk.begins("resp_2", unasked=True)
    talk.fails("conversation_already_has_active_response", event_id=create["event_id"])
    talk.ends("resp_2")
    assert talk.sent_types() == ["response.create"]


def test_a_request_that_waits_at_the_end_is_left_alone() -> None:
    talk = asking()
    talk.put(End("hangup"))
    assert decisions(talk) == []
    assert not talk.records(EventType.TOOL_END)


def test_a_request_without_an_id_is_an_error() -> None:
    talk = talking()
    output_done(talk, request(""))
    assert talk.errors() == ["invalid_call_id"]


def test_more_requests_than_can_wait_are_refused() -> None:
    talk = talking()
    for number in range(257):
        output_done(talk, request(f"mcpr_{number}"))
    assert talk.errors() == ["too_many_calls"]
    (decision,) = decisions(talk)
    assert (decision["approval_request_id"], decision["approve"]) == ("mcpr_256", False)


@pytest.mark.parametrize("config", [{"calls_elsewhere": True}, {"face": Face.OPENAI}])
def test_what_is_anothers_to_answer_is_left_to_it(config: dict[str, Any]) -> None:
    talk = Talk(agent(), **config).live()
    talk.model("response.created", response={"id": "resp_1"})
    output_done(talk, request())
    assert not talk.records(EventType.TOOL_APPROVAL_REQUIRED)


def test_a_request_that_no_response_made_waits_for_nothing() -> None:
    talk = talking()
    talk.ends()
    item_done(talk, request())
    assert not talk.records(EventType.TOOL_APPROVAL_REQUIRED)


# --- what hosted servers did ----------------------------------------------------------------------


def mcp_call(item: str = "mcp_1", **fields: Any) -> Mapping[str, Any]:
    return {"id": item, "type": "mcp_call", "server_label": "docs", "name": "search", "output": "found", **fields}


def test_a_finished_call_of_a_hosted_tool_is_one_event() -> None:
    talk = talking()
    item_done(talk, mcp_call())
    assert talk.emitted("mcp_tool_call_completed") == [{"item": mcp_call()}]
    output_done(talk, mcp_call())
    output_done(talk, mcp_call("mcp_2", error={"type": "http_error"}))
    output_done(talk, mcp_call("mcp_3", status="incomplete"))
    assert [event["item"]["id"] for event in talk.emitted("mcp_tool_call_completed")] == ["mcp_1", "mcp_2"]


def mcp_list(label: str, *names: str) -> Mapping[str, Any]:
    return {
        "id": f"list_{label}",
        "type": "mcp_list_tools",
        "server_label": label,
        "tools": [{"name": name} for name in names],
    }


def labelled(talk: Talk) -> list[list[tuple[str, str]]]:
    events = talk.emitted("mcp_tools_changed")
    return [[(entry["server_label"], entry["name"]) for entry in event["tools"]] for event in events]


def test_the_tools_of_all_hosted_servers_are_told_when_they_change() -> None:
    talk = Talk(agent(hosted_tools=(docs(), HostedToolSpec("shop", {})))).live()
    item_done(talk, mcp_list("docs", "search", "fetch"))
    item_done(talk, mcp_list("shop", "buy"))
    output_item = [("docs", "search"), ("docs", "fetch")]
    assert labelled(talk) == [output_item, [*output_item, ("shop", "buy")]]
    item_done(talk, mcp_list("shop", "buy"))
    assert len(labelled(talk)) == 2, "nothing has changed"
    item_done(talk, mcp_list("docs", "search"))
    assert labelled(talk)[-1] == [("docs", "search"), ("shop", "buy")]


def test_tools_of_servers_that_the_agent_does_not_have_are_forgotten() -> None:
    talk = talking()
    item_done(talk, mcp_list("docs", "search"))
    talk.put(UpdateAgent(agent("other", hosted_tools=(HostedToolSpec("shop", {}),))))
    item_done(talk, mcp_list("shop", "buy"))
    assert labelled(talk)[-1] == [("shop", "buy")]
    for number in range(50):
        item_done(talk, mcp_list(f"foreign_{number}", "x"))
    assert labelled(talk)[-1] == [("shop", "buy"), ("foreign_49", "x")]


@pytest.mark.parametrize("odd", [None, 5, "x", [], {}, {"type": 7}, {"type": "mcp_call"}, {"type": "mcp_list_tools"}])
def test_odd_items_end_nothing(odd: Any) -> None:
    talk = talking()
    output_done(talk, odd)
    item_done(talk, odd)
    output_done(talk, {**odd, "tools": 5, "id": 7, "server_label": {}} if isinstance(odd, dict) else odd)
    talk.ends()
    assert not [output for output in talk.of(Record) if output.type is EventType.ERROR]
    assert talk.of(Emit)


# --- what a client of the OpenAI face sees of them ------------------------------------------------


def behind_a_client() -> Talk:
    secret = {"type": "mcp", "server_label": "docs", "server_url": "https://docs.test", "authorization": "secret"}
    talk = Talk(agent(hosted_tools=(HostedToolSpec("docs", secret),)), face=Face.OPENAI).live()
    talk.client("response.create")
    talk.begins()
    return talk


def test_a_client_is_shown_none_of_the_servers_hosted_tools_and_keeps_its_own() -> None:
    talk = behind_a_client()
    own = {"type": "mcp", "server_label": "mine", "server_url": "https://mine.test"}
    talk.client("session.update", session={"type": "realtime", "tools": [own]})
    (update,) = talk.sent("session.update", talk.last)
    assert [entry["server_label"] for entry in update["session"]["tools"]] == ["mine", "docs"]
    talk.model("session.updated", session=update["session"])
    (updated,) = talk.shown("session.updated", talk.last)
    assert updated["session"]["tools"] == [own]
    assert "secret" not in str([event for kind in ("session.created", "session.updated") for event in talk.shown(kind)])


@pytest.mark.parametrize(
    ("tools", "choice"),
    [
        ([{"type": "mcp", "server_label": "docs", "server_url": "https://mine.test"}], "auto"),
        ([], {"type": "mcp", "server_label": "docs"}),
    ],
)
def test_a_client_can_neither_replace_nor_choose_the_servers_hosted_tools(tools: Any, choice: Any) -> None:
    talk = behind_a_client()
    talk.client("session.update", session={"type": "realtime", "tools": tools, "tool_choice": choice})
    assert talk.shown("error", talk.last)
    assert not talk.sent("session.update", talk.last)


def test_a_client_sees_one_response_around_an_approval_that_it_hears_nothing_of() -> None:
    talk = behind_a_client()
    item_done(talk, mcp_list("docs", "search"))
    item_done(talk, request())
    output_done(talk, request())
    talk.ends(output=[request()])
    assert not talk.shown("response.done"), "the chain rests on the decision"
    talk.put(Approve("mcpr_1"))
    talk.begins("resp_2")
    output_done(talk, mcp_call(), "resp_2")
    talk.item_begins("item_b", "resp_2")
    talk.item_ends("Found it.", "item_b", "resp_2", spoken=False)
    talk.ends("resp_2")
    (done,) = talk.shown("response.done")
    assert done["response"]["id"] == "resp_1"
    assert [item["id"] for item in done["response"]["output"]] == ["item_b"]
    assert "mcp" not in str(talk.of(ToClient))


def test_a_client_answers_for_its_own_hosted_tools() -> None:
    talk = behind_a_client()
    output_done(talk, request(label="mine"))
    (shown,) = talk.shown("response.output_item.done")
    assert shown["item"]["type"] == "mcp_approval_request"
    assert not talk.records(EventType.TOOL_APPROVAL_REQUIRED)
