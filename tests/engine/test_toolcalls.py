"""Function calls: start, answer, going on (parity H, 0.4, 0.12, 2.2, 2.3, 2.9-2.14)."""

from typing import Any

import pytest

from support.talk import Talk, agent, tool
from voicebus.contracts.journal import EventType
from voicebus.contracts.tools import Outcome, ToolProgress, ToolStarted
from voicebus.engine.inputs import End, ToolProgressArrived, ToolStartedArrived, UpdateAgent
from voicebus.engine.outputs import CancelTool, DispatchTool, Emit, Ignored, Observe, Record, SendModel


def outputs_to_model(talk: Talk) -> list[tuple[str, str]]:
    items = [event["item"] for event in talk.sent("conversation.item.create")]
    return [(item["call_id"], item["output"]) for item in items if item["type"] == "function_call_output"]


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
    assert outputs_to_model(talk) == [("call_1", "sunny")]
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
    assert outputs_to_model(talk) == [("call_1", "Tool nonsense not found")]
    assert talk.errors() == ["unknown_tool"]
    assert not talk.records(EventType.TOOL_END)
    talk.ends()
    assert talk.sent_types() == ["response.create"]


def test_a_silent_worker_is_answered_for_two_seconds_after_the_deadline() -> None:
    talk = working(tool(timeout_ms=1500))
    talk.calls()
    talk.ends()
    talk.put(ToolStartedArrived(ToolStarted(call_id="call_1", worker="worker-9")))
    outputs = talk.timer("call:call_1")
    assert talk.now == 103.5
    assert talk.of(CancelTool, outputs) == [CancelTool("call_1", "default", "worker-9", "timeout")]
    assert outputs_to_model(talk) == [("call_1", "Tool 'weather' timed out after 1.5 seconds.")]
    (end,) = talk.records(EventType.TOOL_END)
    assert (end.outcome, end.worker) == (Outcome.TIMEOUT, "worker-9")
    assert talk.sent_types() == ["conversation.item.create", "response.create"]
    assert [type(output) for output in talk.result("sunny")] == [Ignored]


def test_a_late_result_is_dropped() -> None:
    talk = working()
    talk.calls()
    talk.result("sunny")
    assert [type(output) for output in talk.result("rainy")] == [Ignored]
    assert outputs_to_model(talk) == [("call_1", "sunny")]


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_is_told_to_the_model_and_recorded(outcome: Outcome) -> None:
    talk = working()
    talk.calls()
    talk.result("what happened", outcome=outcome)
    assert outputs_to_model(talk) == [("call_1", "what happened")]
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
    assert talk.emitted("tool_progress") == [{"call_id": "call_1", "tool": "weather", "text": "half way"}]
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
