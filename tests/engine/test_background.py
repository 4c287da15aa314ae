"""Tools that nobody waits for: told at once, their results later, whatever becomes of the conversation meanwhile."""

from typing import Any

import pytest

from support.talk import Talk, agent, handoff, tool
from voicebus.contracts.journal import EventType
from voicebus.contracts.tools import Outcome, ToolProgress
from voicebus.engine.background import BACKGROUND_TIMER
from voicebus.engine.config import Approval, Face
from voicebus.engine.inputs import AgentResolved, Approve, End, Interrupt, LinkOpened, ListenerBack, ToolProgressArrived
from voicebus.engine.keeping import WORK, Kept, read_items, read_work
from voicebus.engine.outputs import CancelTool, DispatchTool, Keep

LATER = tool("report", background=True, timeout_ms=600_000)


def running(*tools: Any, **config: Any) -> Talk:
    """The report runs in the background, and the model has said what it had to say to that."""
    talk = Talk(agent(tools=[LATER, *tools]), **config).asked()
    talk.calls("report")
    talk.ends()
    talk.begins("resp_2")
    talk.ends("resp_2")
    return talk


def results(talk: Talk) -> list[tuple[str, str]]:
    """Tools and outputs of the calls that the session has made for results."""
    items = [event["item"] for event in talk.sent("conversation.item.create")]
    names = {item["call_id"]: item["name"] for item in items if item["type"] == "function_call"}
    outputs = [item for item in items if item["type"] == "function_call_output"]
    return [(names[item["call_id"]], item["output"]) for item in outputs if item["call_id"] in names]


def confirm(talk: Talk) -> None:
    """The model tells of the items that it was given last."""
    for event in talk.sent("conversation.item.create")[-2:]:
        talk.model("conversation.item.added", item={**event["item"], "status": "completed"}, previous_item_id=None)


def test_a_background_call_is_answered_when_it_starts_and_the_turn_goes_on() -> None:
    talk = Talk(agent(tools=[LATER])).asked()
    (dispatch,) = talk.of(DispatchTool, talk.calls("report"))
    assert dispatch.background
    ((call, output),) = talk.told()
    assert call == "call_1"
    assert output.startswith("The tool report runs in the background.")
    talk.ends()
    assert talk.sent_types() == ["response.create"]
    assert talk.records(EventType.TOOL_END) == []


def test_its_result_comes_as_the_output_of_a_call_of_ours_and_is_told_at_once_in_silence() -> None:
    talk = running()
    talk.result("ready", after=60.0)
    assert talk.sent_types() == ["conversation.item.create", "conversation.item.create", "response.create"]
    assert results(talk) == [("report", "ready")]
    ids = [event["item"]["id"] for event in talk.sent("conversation.item.create")]
    assert all(len(item_id) <= 32 for item_id in ids)
    (end,) = talk.records(EventType.TOOL_END)
    assert (end.call_id, end.output, end.outcome) == ("call_1", "ready", Outcome.OK)
    (shown,) = [item for item in talk.session.history if item["type"] == "function_call"]
    assert (shown["call_id"], shown["output"], shown["status"]) == ("call_1", "ready", "completed")


def test_the_call_is_shown_as_in_progress_until_its_result_is_there() -> None:
    talk = running()
    (shown,) = [item for item in talk.session.history if item["type"] == "function_call"]
    assert (shown["output"], shown["status"]) == (None, "in_progress")


def test_a_result_waits_for_the_response_that_runs_the_user_and_what_is_played() -> None:
    talk = running()
    talk.asks()
    talk.begins("resp_3")
    talk.result("ready")
    talk.speaks("Good day.", 2000, "item_b", "resp_3")
    talk.ends("resp_3")
    assert len(results(talk)) == 1, "the model has it at once"
    assert talk.sent_types() == [], "and is not asked while it is heard"
    talk.model("input_audio_buffer.speech_started", item_id="item_u", audio_start_ms=0, after=1.0)
    assert BACKGROUND_TIMER not in talk.timers()
    talk.model("input_audio_buffer.speech_stopped", item_id="item_u", audio_end_ms=100, after=5.0)
    assert talk.sent_types() == ["response.create"]


def test_a_result_that_waits_for_what_is_played_is_told_when_that_is_over() -> None:
    talk = running()
    talk.asks()
    talk.begins("resp_3")
    talk.result("ready")
    talk.speaks("Good day.", 2000, "item_b", "resp_3")
    talk.ends("resp_3")
    assert talk.timer(BACKGROUND_TIMER)
    assert talk.now == pytest.approx(102.0)
    assert talk.sent_types() == ["response.create"]


def test_a_response_that_began_with_the_result_before_it_needs_no_other() -> None:
    talk = running()
    talk.model("input_audio_buffer.speech_started", item_id="item_u", audio_start_ms=0)
    talk.result("ready")
    confirm(talk)
    talk.model("input_audio_buffer.speech_stopped", item_id="item_u", audio_end_ms=100)
    talk.model("input_audio_buffer.committed", item_id="item_u", previous_item_id=None)
    created = len(talk.sent("response.create"))
    talk.begins("resp_3", unasked=True)
    talk.ends("resp_3")
    assert len(talk.sent("response.create")) == created


def test_a_response_that_may_have_begun_before_the_model_had_the_result_is_followed_by_one_that_tells_it() -> None:
    talk = running()
    talk.model("input_audio_buffer.speech_started", item_id="item_u", audio_start_ms=0)
    talk.result("ready")
    talk.model("input_audio_buffer.committed", item_id="item_u", previous_item_id=None)
    talk.begins("resp_3", unasked=True)
    confirm(talk)
    talk.ends("resp_3")
    assert talk.sent_types() == ["response.create"]


def test_several_results_are_told_together() -> None:
    talk = running(tool("other", background=True))
    talk.asks()
    talk.begins("resp_3")
    talk.calls("other", "call_2", response="resp_3")
    talk.result("one")
    talk.result("two", "call_2")
    talk.ends("resp_3")
    assert talk.sent_types() == ["response.create"]
    assert sorted(results(talk)) == [("other", "two"), ("report", "one")]


@pytest.mark.parametrize(
    ("spec", "fields"),
    [(tool("report", background=True, respond="never"), {}), (LATER, {"background": True})],
)
def test_a_result_that_needs_no_answer_gets_none(spec: Any, fields: dict[str, Any]) -> None:
    talk = Talk(agent(tools=[spec])).asked()
    talk.calls("report")
    talk.ends()
    talk.result("ready", **fields)
    assert results(talk) == [("report", "ready")]
    created = talk.sent("response.create")
    assert len(created) == (1 if spec.respond == "never" else 2), "the first is for the user's message"


def test_a_failure_is_told_as_the_result() -> None:
    talk = running()
    talk.timer("call:call_1")
    assert results(talk) == [("report", "Tool 'report' timed out after 600 seconds.")]
    assert talk.of(CancelTool)[0].reason == "timeout"
    assert talk.sent_types()[-1] == "response.create"


def test_interruptions_and_handoffs_do_not_touch_it() -> None:
    talk = Talk(agent(tools=[LATER], handoffs=[handoff("billing")])).asked()
    talk.calls("report")
    talk.put(Interrupt())
    talk.ends(status="cancelled")
    talk.asks()
    talk.begins("resp_2")
    talk.calls("transfer_to_billing", "call_2", response="resp_2")
    talk.put(AgentResolved("call_2", agent("billing")))
    talk.ends("resp_2")
    talk.begins("resp_3")
    talk.ends("resp_3")
    talk.result("ready")
    assert results(talk) == [("report", "ready")]
    assert talk.sent_types()[-1] == "response.create"


def test_another_socket_is_told_that_it_runs_and_then_its_result() -> None:
    talk = running()
    (event,) = talk.sent("conversation.item.create")[-1:]
    talk.model("conversation.item.added", item={**event["item"], "status": "completed"}, previous_item_id="item_call_1")
    talk.loses_the_link()
    told = talk.dials()
    lines = talk.told_again(told)
    assert ("function_call", "call_1") in lines
    assert ("function_call_output", "call_1") in lines
    talk.model("session.created", session={"id": "sess_2"})
    talk.confirms(told)
    talk.result("ready")
    assert results(talk)[-1] == ("report", "ready")
    assert talk.sent_types()[-1] == "response.create"


def test_a_result_that_comes_between_two_sockets_is_told_on_the_next() -> None:
    talk = running()
    talk.loses_the_link()
    talk.result("ready")
    assert talk.sent_types() == []
    talk.reconnects()
    told = [event["item"] for event in talk.sent("conversation.item.create")]
    assert any(item["type"] == "function_call_output" and item["output"] == "ready" for item in told)
    assert talk.sent("response.create")[-1] is talk.sent("response.create", talk.all)[-1]
    assert talk.sent_types()[-1] == "response.create"


def test_after_its_result_another_socket_is_told_it_once_as_the_calls_output() -> None:
    talk = running()
    talk.result("ready")
    confirm(talk)
    talk.begins("resp_3")
    talk.ends("resp_3")
    talk.loses_the_link()
    outputs = [
        event["item"]
        for event in talk.sent("conversation.item.create", talk.dials())
        if event["item"]["type"] == "function_call_output"
    ]
    assert {item["call_id"]: item["output"] for item in outputs}["call_1"] == "ready"


def test_a_result_waits_for_calls_that_are_waited_for() -> None:
    talk = running(tool("weather"))
    talk.asks()
    talk.begins("resp_3")
    talk.calls("weather", "call_2", response="resp_3")
    talk.ends("resp_3")
    talk.result("ready")
    assert "response.create" not in talk.sent_types()
    confirm(talk)
    talk.result("sunny", "call_2")
    assert talk.sent_types() == ["conversation.item.create", "response.create"]
    talk.begins("resp_4")
    talk.ends("resp_4")
    assert talk.sent_types() == [], "the answer has told both"


def test_a_call_that_a_person_thinks_about_holds_no_result_up() -> None:
    talk = running(tool("refund", approval=Approval.ALWAYS))
    talk.asks()
    talk.begins("resp_3")
    talk.calls("refund", "call_2", response="resp_3")
    talk.ends("resp_3")
    talk.result("ready")
    assert talk.sent_types()[-1] == "response.create"
    talk.put(Approve("call_2"))


def test_background_and_other_calls_of_one_response_are_answered_together_when_the_others_are() -> None:
    talk = Talk(agent(tools=[LATER, tool("weather", speak_progress=True), tool("pay", approval=Approval.ALWAYS)]))
    talk.asked()
    talk.calls("report", "call_1")
    talk.calls("weather", "call_2")
    talk.calls("pay", "call_3")
    talk.ends()
    talk.put(ToolProgressArrived(ToolProgress(call_id="call_2", text="half")))
    talk.begins("resp_2")
    talk.ends("resp_2")
    talk.result("sunny", "call_2")
    assert talk.sent_types() == ["conversation.item.create"]
    talk.put(Approve("call_3"))
    talk.result("paid", "call_3")
    assert talk.sent_types() == ["conversation.item.create", "response.create"]
    assert [call for call, _ in talk.told()] == ["call_1", "call_2", "call_3"]


def test_one_that_runs_when_the_session_ends_is_cancelled_and_recorded() -> None:
    talk = running()
    talk.put(End("hangup"))
    assert [cancel.call_id for cancel in talk.of(CancelTool, talk.last)] == ["call_1"]
    assert [end.outcome for end in talk.records(EventType.TOOL_END)] == [Outcome.CANCELLED]


def test_a_client_of_the_protocol_sees_its_response_end_and_the_result_in_one_of_its_own() -> None:
    talk = Talk(agent(tools=[LATER]), face=Face.OPENAI).live()
    talk.client("response.create")
    talk.begins("resp_1")
    talk.calls("report")
    talk.ends()
    talk.begins("resp_2")
    talk.speaks("I have begun.", 100, "item_b", "resp_2")
    talk.ends("resp_2")
    assert [event["response"]["id"] for event in talk.shown("response.done")] == ["resp_1"]
    talk.result("ready", after=10.0)
    confirm(talk)
    talk.begins("resp_3")
    talk.speaks("It is ready.", 100, "item_c", "resp_3")
    talk.ends("resp_3")
    assert [event["response"]["id"] for event in talk.shown("response.done")] == ["resp_1", "resp_3"]
    assert "report" not in str(talk.shown("conversation.item.added"))


def test_another_owner_has_it_run_on_and_tells_its_result() -> None:
    talk = running(keeps=True)
    fields: dict[str, str] = {}
    for keep in talk.of(Keep):
        fields.update(keep.fields)
    (start,) = talk.records(EventType.TOOL_START)
    event = {"type": EventType.TOOL_START, **start.model_dump(mode="json")}
    kept = Kept(9, 2, 5.0, read_items(fields), read_work(fields[WORK]), {}, [event])
    heir = Talk(agent(tools=[LATER]), kept=kept)
    (dispatch,) = heir.of(DispatchTool, heir.last)
    assert (dispatch.call_id, dispatch.background) == ("call_1", True)
    told = heir.put(LinkOpened())
    heir.model("session.created", session={"id": "sess_2"})
    heir.confirms(told)
    assert [(call, text[:26]) for call, text in heir.told()] == [("call_1", "The tool report runs in th")]
    heir.result("ready")
    assert results(heir)[-1] == ("report", "ready")
    assert heir.sent("response.create") == [], "its client has yet to come"
    heir.put(ListenerBack())
    assert heir.sent_types() == ["response.create"]
