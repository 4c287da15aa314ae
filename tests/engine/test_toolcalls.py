"""Function calls: start, answer, going on (parity H, 0.4, 0.12, 2.2, 2.3, 2.9-2.14)."""

from typing import Any

import pytest

from support.talk import Talk, agent, handoff, tool
from voicebus.contracts.journal import EventType
from voicebus.contracts.tools import IN_PROCESS, Outcome, ToolFailure, ToolProgress, ToolStarted
from voicebus.engine.config import Face, Transport
from voicebus.engine.inputs import (
    AgentResolved,
    End,
    ModelEvent,
    SendToolOutput,
    ToolErrorWorded,
    ToolProgressArrived,
    ToolStartedArrived,
    UpdateAgent,
)
from voicebus.engine.outputs import (
    CancelTool,
    DispatchTool,
    Emit,
    Ignored,
    MergeContext,
    Observe,
    Record,
    SendModel,
    WordToolError,
)


def working(*tools: Any) -> Talk:
    return Talk(agent(tools=tools or [tool()])).asked()


def test_a_finished_call_starts_its_tool_while_the_response_still_runs() -> None:
    talk = working()
    outputs = talk.calls(arguments='{"city":"Paris"}')
    assert talk.of(DispatchTool, outputs) == [
        DispatchTool("call_1", "weather", '{"city":"Paris"}', "helper", "default", 30_000, idempotent=False)
    ]
    (start,) = talk.records(EventType.TOOL_START, outputs)
    assert (start.call_id, start.item_id, start.tool, start.agent) == ("call_1", "item_call_1", "weather", "helper")
    assert talk.timers()["call:call_1"] == talk.now + 32.0


def test_an_incomplete_call_is_not_run() -> None:
    talk = working()
    assert not talk.of(DispatchTool, talk.calls(status="incomplete"))


def test_a_result_is_given_at_once_recorded_and_asked_about_when_the_response_is_done() -> None:
    talk = working()
    talk.calls()
    kinds = [type(output) for output in talk.result("sunny") if not isinstance(output, Observe)]
    assert kinds[1:] == [SendModel, Emit, Record], "tool_end comes after the output was handed over"
    assert talk.told() == [("call_1", "sunny")]
    (end,) = talk.records(EventType.TOOL_END)
    assert (end.output, end.outcome, end.worker) == ("sunny", Outcome.OK, "worker-1")
    assert talk.observed("tool_outcome")[0].labels == {"tool": "weather", "outcome": "ok"}
    assert talk.sent_types() == ["conversation.item.create"]
    talk.ends()
    assert talk.sent_types() == ["response.create"]


def test_the_tools_of_one_response_are_answered_together() -> None:
    talk = working(tool("fast"), tool("slow"))
    talk.calls("fast", "call_1")
    talk.calls("slow", "call_2")
    talk.ends()
    talk.result("1", "call_1")
    assert talk.sent_types() == ["conversation.item.create"]
    talk.result("2", "call_2", after=2.0)
    assert talk.sent_types() == ["conversation.item.create", "response.create"]


def test_a_fast_tool_waits_for_calls_that_its_response_still_makes() -> None:
    talk = working(tool("fast"), tool("slow"))
    talk.calls("fast", "call_1")
    talk.result("1", "call_1")
    talk.calls("slow", "call_2")
    talk.ends()
    assert talk.sent_types() == []
    talk.result("2", "call_2")
    assert talk.sent_types() == ["conversation.item.create", "response.create"]


def test_a_tool_that_never_asks_for_a_response_gets_none() -> None:
    talk = working(tool("log", respond="never"))
    talk.calls("log")
    talk.ends()
    talk.result("ok")
    assert talk.sent_types() == ["conversation.item.create"]


def test_a_tool_that_never_asks_does_not_hold_the_others_up() -> None:
    talk = working(tool("log", respond="never"), tool("weather"))
    talk.calls("log", "call_1")
    talk.calls("weather", "call_2")
    talk.ends()
    talk.result("sunny", "call_2")
    assert talk.sent_types() == ["conversation.item.create", "response.create"]
    talk.begins("resp_2")
    talk.ends("resp_2")
    talk.result("ok", "call_1")
    assert talk.sent_types() == ["conversation.item.create"]


def test_a_tool_that_always_asks_does_not_wait_for_the_others() -> None:
    talk = working(tool("now", respond="always"), tool("slow"))
    talk.calls("now", "call_1")
    talk.calls("slow", "call_2")
    talk.ends()
    talk.result("1", "call_1")
    assert talk.sent_types() == ["conversation.item.create", "response.create"]
    talk.begins("resp_2")
    talk.ends("resp_2")
    talk.result("2", "call_2")
    assert talk.sent_types() == ["conversation.item.create", "response.create"]


def test_an_unknown_tool_is_answered_and_the_model_goes_on() -> None:
    talk = working()
    talk.calls("nonsense")
    assert talk.told() == [("call_1", "Tool nonsense not found")]
    assert talk.errors() == ["unknown_tool"]
    assert not talk.records(EventType.TOOL_END)
    talk.ends()
    assert talk.sent_types() == ["response.create"]


def test_a_tool_that_the_owner_runs_itself_has_its_worker_from_the_start() -> None:
    talk = working(tool(local=True))
    talk.calls()
    talk.ends()
    outputs = talk.put(End("hangup"))
    assert talk.of(CancelTool, outputs) == [CancelTool("call_1", "default", IN_PROCESS, "session_ended")]
    (end,) = talk.records(EventType.TOOL_END)
    assert (end.outcome, end.worker) == (Outcome.CANCELLED, IN_PROCESS)


def test_a_silent_worker_is_answered_for_two_seconds_after_the_deadline() -> None:
    talk = working(tool(timeout_ms=1500))
    talk.calls()
    talk.ends()
    talk.put(ToolStartedArrived(ToolStarted(call_id="call_1", worker="worker-9")))
    outputs = talk.timer("call:call_1")
    assert talk.now == 103.5
    assert talk.of(CancelTool, outputs) == [CancelTool("call_1", "default", "worker-9", "timeout")]
    assert talk.told() == [("call_1", "Tool 'weather' timed out after 1.5 seconds.")]
    (end,) = talk.records(EventType.TOOL_END)
    assert (end.outcome, end.worker) == (Outcome.TIMEOUT, "worker-9")
    assert talk.sent_types() == ["conversation.item.create", "response.create"]
    assert [type(output) for output in talk.result("sunny")] == [Ignored]


def test_a_late_result_is_dropped() -> None:
    talk = working()
    talk.calls()
    talk.result("sunny")
    assert [type(output) for output in talk.result("rainy")] == [Ignored]
    assert talk.told() == [("call_1", "sunny")]


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_is_told_to_the_model_and_recorded(outcome: Outcome) -> None:
    talk = working()
    talk.calls()
    talk.result("what happened", outcome=outcome)
    assert talk.told() == [("call_1", "what happened")]
    assert talk.records(EventType.TOOL_END)[0].outcome is outcome


def test_the_same_call_again_is_ignored_also_when_it_is_spelled_otherwise() -> None:
    talk = working()
    talk.calls(arguments='{"a": 1, "b": 2}')
    outputs = talk.calls(arguments='{"b":2,"a":1}')
    assert not talk.of(DispatchTool, outputs)
    assert talk.errors() == []
    talk.result()
    talk.ends()
    talk.begins("resp_2")
    assert not talk.of(DispatchTool, talk.calls(arguments='{"a": 1, "b": 2}', response="resp_2"))


@pytest.mark.parametrize(
    ("name", "arguments"), [("news", "{}"), ("weather", '{"city":"Rome"}'), ("weather", "not json")]
)
def test_a_call_id_used_for_another_call_is_an_error(name: str, arguments: str) -> None:
    talk = working(tool("weather"), tool("news"))
    talk.calls("weather")
    outputs = talk.calls(name, arguments=arguments)
    assert not talk.of(DispatchTool, outputs)
    assert talk.errors() == ["duplicate_call_id"]


def test_a_call_without_an_id_is_an_error() -> None:
    talk = working()
    talk.calls(call="")
    assert talk.errors() == ["invalid_call_id"]


def test_a_call_goes_to_the_tool_of_the_agent_that_its_response_began_with() -> None:
    talk = working()
    talk.put(UpdateAgent(agent("other", tools=[])))
    assert [dispatch.agent for dispatch in talk.of(DispatchTool, talk.calls())] == ["helper"]


def test_progress_is_an_event_and_late_news_are_ignored() -> None:
    talk = working()
    talk.calls()
    talk.put(ToolProgressArrived(ToolProgress(call_id="call_1", text="half way")))
    assert talk.emitted("tool_progress") == [
        {"call_id": "call_1", "tool": "weather", "agent": "helper", "text": "half way"}
    ]
    talk.result()
    late = talk.put(ToolProgressArrived(ToolProgress(call_id="call_1", text="more")))
    late += talk.put(ToolStartedArrived(ToolStarted(call_id="call_1", worker="w")))
    assert [type(output) for output in late] == [Ignored, Ignored]


def test_calls_that_run_when_the_session_ends_are_cancelled_and_recorded() -> None:
    talk = working(tool("a"), tool("b"))
    talk.calls("a", "call_1")
    talk.calls("b", "call_2")
    talk.result("done", "call_1")
    talk.put(End("hangup"))
    assert talk.of(CancelTool, talk.last) == [CancelTool("call_2", "default", None, "session_ended")]
    ends = {end.call_id: end.outcome for end in talk.records(EventType.TOOL_END)}
    assert ends == {"call_1": Outcome.OK, "call_2": Outcome.CANCELLED}


def test_a_call_that_comes_after_the_end_of_its_response_is_answered_all_the_same() -> None:
    talk = working()
    talk.ends()
    talk.calls()
    talk.result()
    assert talk.sent_types() == ["conversation.item.create", "response.create"]


def test_outputs_are_items_of_ours_and_no_part_of_history_or_record() -> None:
    talk = working()
    talk.calls()
    talk.result("sunny")
    wire = talk.sent("conversation.item.create")[-1]["item"]
    talk.model("conversation.item.added", item={**wire, "status": "completed"}, previous_item_id="item_call_1")
    assert talk.last == []


def test_a_dispatch_says_which_tool_is_meant_and_where_it_runs() -> None:
    told = agent(tools=[tool(local=True), tool("far", vetted=False)], snapshot=7)
    talk = Talk(told).asked()
    talk.put(UpdateAgent(agent("other", snapshot=8)))
    (near,) = talk.of(DispatchTool, talk.calls(call="call_1"))
    (far,) = talk.of(DispatchTool, talk.calls("far", "call_2"))
    assert (near.local, near.vetted, near.snapshot) == (True, False, 7)
    assert (far.local, far.vetted, far.snapshot) == (False, False, 7)


# --- ids ------------------------------------------------------------------------------------------


def test_a_handoff_and_a_function_of_one_name_are_not_the_same_call() -> None:
    talk = Talk(agent(tools=[tool("transfer_to_billing")])).asked()
    talk.calls("transfer_to_billing")
    talk.result()
    talk.put(UpdateAgent(agent("other", handoffs=[handoff("billing")])))
    talk.ends()
    talk.begins("resp_2")
    talk.calls("transfer_to_billing", response="resp_2")
    assert talk.errors() == ["duplicate_call_id"]


def test_more_calls_than_can_wait_are_refused_one_by_one() -> None:
    talk = working(tool("slow"))
    for number in range(256):
        talk.calls("slow", f"call_{number}")
    assert talk.errors() == []
    outputs = talk.calls("slow", "too_many")
    assert not talk.of(DispatchTool, outputs)
    assert talk.errors() == ["too_many_calls"]
    assert [call for call, _ in talk.told()] == ["too_many"]
    talk.result("ok", "call_0")
    assert talk.of(DispatchTool, talk.calls("slow", "again"))


def test_responses_that_never_end_do_not_add_up() -> None:
    talk = working()
    for number in range(70):
        response = f"resp_x{number}"
        talk.model("response.created", response={"id": response, "metadata": None})
        talk.calls("nonsense", f"call_{number}", response=response)
    assert len(talk.told()) == 70
    assert len(talk.session._p.calls.batches._batches) <= 65


# --- answers in the background --------------------------------------------------------------------


def test_a_result_in_the_background_is_given_and_not_asked_about() -> None:
    talk = working()
    talk.calls()
    talk.ends()
    talk.result("noted", background=True)
    assert talk.told() == [("call_1", "noted")]
    assert talk.sent_types() == ["conversation.item.create"]
    talk.asks("And now?")
    assert "response.create" in talk.sent_types()


def test_a_result_in_the_background_lets_the_others_be_asked_about() -> None:
    talk = working(tool("slow"), tool("fast"))
    talk.calls("slow", "call_1")
    talk.calls("fast", "call_2")
    talk.ends()
    talk.result("here", "call_2")
    assert "response.create" not in talk.sent_types()
    talk.result("later", "call_1", background=True)
    assert talk.sent_types() == ["conversation.item.create", "response.create"]


def test_a_client_sees_the_end_of_a_chain_whose_last_result_came_in_the_background() -> None:
    talk = Talk(agent(tools=[tool()]), face=Face.OPENAI).live()
    talk.client("response.create")
    talk.begins()
    talk.calls()
    talk.ends(output=[{"id": "item_call_1", "type": "function_call", "name": "weather", "call_id": "call_1"}])
    assert not talk.shown("response.done"), "the chain rests on the tool"
    talk.result("noted", background=True)
    (done,) = talk.shown("response.done", talk.last)
    assert done["response"]["status"] == "completed"
    assert not talk.sent("response.create", talk.last)


# --- how the model is told of errors --------------------------------------------------------------


def worded(**fields: Any) -> Talk:
    return Talk(agent(tools=[tool(**fields)], handoffs=[handoff("billing")]), words_errors=True).asked()


def test_an_error_is_told_once_it_was_worded() -> None:
    talk = worded()
    talk.calls()
    talk.ends()
    outputs = talk.result("Boom.", outcome=Outcome.ERROR)
    assert talk.of(WordToolError, outputs) == [WordToolError("call_1", "weather", "tool_exception", "Boom.")]
    assert talk.told() == []
    assert not talk.records(EventType.TOOL_END)
    outputs = talk.put(ToolErrorWorded("call_1", "The weather is unknown today."))
    assert talk.told() == [("call_1", "The weather is unknown today.")]
    (end,) = talk.records(EventType.TOOL_END)
    assert (end.output, end.outcome) == ("The weather is unknown today.", Outcome.ERROR)
    assert talk.sent_types() == ["conversation.item.create", "response.create"]
    assert "call:call_1" not in talk.timers()


def test_a_result_that_is_fine_needs_no_wording() -> None:
    talk = worded()
    talk.calls()
    talk.result("sunny")
    assert talk.told() == [("call_1", "sunny")]


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.OK])
def test_every_failure_is_worded(outcome: Outcome) -> None:
    talk = worded()
    talk.calls()
    assert talk.of(WordToolError, talk.result("Oh.", outcome=outcome))


def test_a_tool_that_no_worker_has_and_one_that_the_agent_lacks_are_worded_as_not_found() -> None:
    talk = worded()
    talk.calls()
    failure = ToolFailure(kind="unknown_tool", message="No worker has it.")
    (asked,) = talk.of(WordToolError, talk.result("No worker.", outcome=Outcome.ERROR, error=failure))
    assert (asked.kind, asked.message) == ("tool_not_found", "No worker.")
    (asked,) = talk.of(WordToolError, talk.calls("nonsense", "call_2"))
    assert (asked.kind, asked.message) == ("tool_not_found", "Tool nonsense not found")
    talk.put(ToolErrorWorded("call_2", "There is no such thing."))
    assert talk.told() == [("call_2", "There is no such thing.")]


def test_a_tool_out_of_time_is_worded_and_its_late_result_dropped() -> None:
    talk = worded(timeout_ms=1500)
    talk.calls()
    outputs = talk.timer("call:call_1")
    assert talk.of(CancelTool, outputs)
    assert talk.of(WordToolError, outputs)[0].message == "Tool 'weather' timed out after 1.5 seconds."
    assert [type(output) for output in talk.result("sunny")] == [Ignored]
    talk.put(ToolErrorWorded("call_1", "Too slow."))
    assert talk.told() == [("call_1", "Too slow.")]
    assert talk.records(EventType.TOOL_END)[0].outcome is Outcome.TIMEOUT


def test_a_wording_that_does_not_come_is_done_without() -> None:
    talk = worded()
    talk.calls()
    talk.ends()
    talk.result("Boom.", outcome=Outcome.ERROR)
    talk.timer("call:call_1")
    assert talk.told() == [("call_1", "Boom.")]
    assert talk.sent_types() == ["conversation.item.create", "response.create"]
    assert [type(output) for output in talk.put(ToolErrorWorded("call_1", "Late."))] == [Ignored]


def test_a_handoff_that_failed_is_told_as_it_is() -> None:
    talk = worded()
    talk.calls("transfer_to_billing")
    talk.timer("call:call_1")
    assert talk.told() == [("call_1", "The handoff to billing took too long and was not made.")]
    assert not talk.of(WordToolError)


# --- calls that the program answers ---------------------------------------------------------------


def elsewhere() -> Talk:
    return Talk(agent(tools=[tool()], handoffs=[handoff("billing")]), calls_elsewhere=True).asked()


@pytest.mark.parametrize("name", ["weather", "transfer_to_billing", "nonsense"])
def test_the_program_answers_its_calls_itself(name: str) -> None:
    talk = elsewhere()
    outputs = talk.calls(name)
    assert not talk.of(DispatchTool, outputs)
    assert talk.errors() == []
    assert not talk.of(Record, outputs)
    talk.put(SendToolOutput("call_1", "sunny", respond=True))
    assert talk.told() == [("call_1", "sunny")]
    assert talk.sent_types() == ["conversation.item.create"], "the model is still at it"
    call = talk.emitted("history_updated")[-1]["history"][-1]
    assert (call["output"], call["status"]) == ("sunny", "completed")
    talk.ends()
    assert talk.sent_types() == ["response.create"]


def test_a_program_may_answer_without_having_the_model_go_on() -> None:
    talk = elsewhere()
    talk.calls()
    talk.ends()
    talk.put(SendToolOutput("call_1", "noted", respond=False))
    assert talk.sent_types() == ["conversation.item.create"]


def test_outputs_of_one_response_ask_for_one_more() -> None:
    talk = elsewhere()
    talk.calls(call="call_1")
    talk.calls(call="call_2")
    talk.put(SendToolOutput("call_1", "a", respond=True))
    talk.put(SendToolOutput("call_2", "b", respond=True))
    talk.ends()
    assert talk.sent_types() == ["response.create"]
    talk.begins("resp_2")
    talk.ends("resp_2")
    assert talk.sent_types() == []


def test_a_second_output_is_ignored_and_one_for_no_call_is_an_error() -> None:
    talk = elsewhere()
    talk.calls()
    talk.put(SendToolOutput("call_1", "sunny", respond=True))
    assert [type(output) for output in talk.put(SendToolOutput("call_1", "rainy", respond=True))] == [Ignored]
    talk.put(SendToolOutput("call_9", "sunny", respond=True))
    assert talk.errors() == ["unknown_call"]
    assert talk.told() == [("call_1", "sunny")]


def test_a_call_that_the_session_answers_is_not_the_programs_to_answer() -> None:
    talk = working()
    talk.calls()
    talk.put(SendToolOutput("call_1", "mine", respond=True))
    assert talk.errors() == ["unknown_call"]
    talk.result("sunny")
    assert talk.told() == [("call_1", "sunny")]


def test_of_calls_that_a_program_never_answers_only_so_many_are_remembered() -> None:
    talk = elsewhere()
    for number in range(257):
        talk.calls(call=f"call_{number}")
    assert talk.errors() == []
    assert [type(output) for output in talk.put(SendToolOutput("call_0", "late", respond=True))] == [Ignored]
    talk.put(SendToolOutput("call_256", "in time", respond=True))
    assert talk.told() == [("call_256", "in time")]


# --- a model that sequences by itself -------------------------------------------------------------


def by_itself(*tools: Any) -> Talk:
    talk = Talk(agent(tools=tools or [tool()], handoffs=[handoff("billing")]), transport=Transport.EVENTS)
    talk.model("response.created", response={"id": "resp_1"})
    return talk


def test_a_model_that_sequences_by_itself_is_asked_in_the_same_step() -> None:
    talk = by_itself()
    talk.calls()
    talk.result("sunny")
    assert talk.sent_types() == ["conversation.item.create", "response.create"]
    talk.ends()
    assert talk.sent_types() == []


def test_its_calls_that_are_known_together_are_answered_together() -> None:
    talk = by_itself(tool("fast"), tool("slow"))
    talk.calls("fast", "call_1")
    talk.calls("slow", "call_2")
    talk.result("1", "call_1")
    assert talk.sent_types() == ["conversation.item.create"]
    talk.result("2", "call_2")
    assert talk.sent_types() == ["conversation.item.create", "response.create"]


def test_its_tools_may_answer_in_silence_too() -> None:
    talk = by_itself(tool("log", respond="never"), tool("weather"))
    talk.calls("log", "call_1")
    talk.result("ok", "call_1")
    assert talk.sent_types() == ["conversation.item.create"]
    talk.calls("weather", "call_2")
    talk.result("noted", "call_2", background=True)
    assert talk.sent_types() == ["conversation.item.create"]


def test_a_call_outside_of_any_response_is_answered_like_any_other() -> None:
    talk = Talk(agent(tools=[tool()]), transport=Transport.EVENTS)
    item = {"id": "item_1", "type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
    outputs = talk.put(ModelEvent({"type": "response.output_item.done", "item": item}))
    assert talk.of(DispatchTool, outputs)
    talk.result("sunny")
    assert talk.told() == [("call_1", "sunny")]
    assert talk.sent_types() == ["conversation.item.create", "response.create"]


def test_of_its_handoffs_in_one_response_the_first_wins_however_late_the_second_is() -> None:
    talk = Talk(agent(handoffs=[handoff("billing"), handoff("sales")]), transport=Transport.EVENTS)
    talk.model("response.created", response={"id": "resp_1"})
    talk.calls("transfer_to_billing", "call_1")
    talk.put(AgentResolved("call_1", agent("billing")))
    assert talk.sent_types() == ["session.update", "conversation.item.create", "response.create"]
    talk.calls("transfer_to_sales", "call_2")
    assert talk.told()[-1] == ("call_2", "Only one handoff is made at a time; the conversation goes to billing.")


# --- how long things took -------------------------------------------------------------------------


def test_the_record_of_a_call_says_how_long_its_tool_took() -> None:
    talk = working()
    talk.calls()
    talk.result("sunny", after=1.25)
    (end,) = talk.records(EventType.TOOL_END)
    assert (end.call_id, end.ended_ms - end.started_ms, end.outcome) == ("call_1", 1250, Outcome.OK)


def test_what_a_tool_has_changed_in_the_context_is_there_before_the_model_hears_of_its_result() -> None:
    talk = Talk(agent(tools=[tool()])).asked()
    talk.calls()
    outputs = talk.result("Booked.", context={"nights": {"before": 2, "after": 3}})
    assert talk.of(MergeContext, outputs) == [MergeContext("weather", {"nights": {"before": 2, "after": 3}})]
    kinds = [type(output) for output in outputs]
    assert kinds.index(MergeContext) < kinds.index(SendModel)
