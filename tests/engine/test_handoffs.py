"""Handoffs: functions to the model, another agent to the caller (parity I, 2.19)."""

from support.talk import Talk, agent, handoff, tool
from voicebus.contracts.journal import EventType
from voicebus.engine.inputs import AgentResolved, AgentUnresolved
from voicebus.engine.outputs import DispatchTool, Ignored, Record, ResolveAgent, SendModel


def transferring(*names: str) -> Talk:
    talk = Talk(agent(handoffs=[handoff(name) for name in (names or ("billing",))])).asked()
    for number, name in enumerate(names or ("billing",), start=1):
        talk.calls(f"transfer_to_{name}", f"call_{number}", '{"why":"bill"}')
    return talk


def output_of(talk: Talk, call: str) -> list[str]:
    items = [event["item"] for event in talk.sent("conversation.item.create")]
    return [item["output"] for item in items if item.get("call_id") == call]


def test_a_handoff_asks_for_the_agent_and_starts_no_tool() -> None:
    talk = transferring()
    assert talk.of(ResolveAgent) == [
        ResolveAgent("call_1", "transfer_to_billing", "helper", "billing", '{"why":"bill"}')
    ]
    assert not talk.of(DispatchTool)
    assert not talk.records(EventType.TOOL_START)


def test_the_order_is_event_settings_output_response() -> None:
    talk = transferring()
    talk.ends()
    outputs = talk.put(AgentResolved("call_1", agent("billing", tools=[tool("invoice")], instructions="Bill.")))
    decisions = [output for output in outputs if isinstance(output, Record | SendModel)]
    assert isinstance(decisions[0], Record)
    assert decisions[0].type is EventType.HANDOFF
    assert talk.sent_types() == ["session.update", "conversation.item.create", "response.create"]
    (handed,) = talk.records(EventType.HANDOFF)
    assert (handed.from_agent, handed.to_agent, handed.call_id) == ("helper", "billing", "call_1")
    session = talk.sent("session.update", outputs)[0]["session"]
    assert session["instructions"] == "Bill."
    assert [entry["name"] for entry in session["tools"]] == ["invoice"]
    assert output_of(talk, "call_1") == ['{"assistant": "billing"}']
    assert not talk.records(EventType.TOOL_END)


def test_the_next_response_is_the_new_agents_and_the_old_one_ends_under_its_own_name() -> None:
    talk = transferring()
    talk.put(AgentResolved("call_1", agent("billing")))
    talk.ends()
    assert talk.emitted("agent_end")[-1]["agent"] == "helper"
    talk.begins("resp_2")
    assert talk.emitted("agent_start")[-1]["agent"] == "billing"


def test_a_handoff_that_fails_keeps_the_old_agent_and_tells_the_model() -> None:
    talk = transferring()
    talk.ends()
    talk.put(AgentUnresolved("call_1", "The billing desk is closed."))
    assert talk.sent_types() == ["conversation.item.create", "response.create"]
    assert output_of(talk, "call_1") == ["The billing desk is closed."]
    assert talk.errors() == ["handoff_failed"]
    assert talk.session.agent.name == "helper"


def test_of_several_handoffs_in_one_response_the_first_wins() -> None:
    talk = transferring("billing", "sales")
    assert [resolve.to_agent for resolve in talk.of(ResolveAgent)] == ["billing"]
    assert output_of(talk, "call_2") == ["Only one handoff is made at a time; the conversation goes to billing."]
    talk.put(AgentResolved("call_1", agent("billing")))
    talk.ends()
    assert len(talk.sent("response.create", talk.last)) == 1


def test_the_second_handoff_loses_also_when_the_first_is_made_already() -> None:
    talk = Talk(agent(handoffs=[handoff("billing"), handoff("sales")])).asked()
    talk.calls("transfer_to_billing", "call_1")
    talk.put(AgentResolved("call_1", agent("billing")))
    talk.calls("transfer_to_sales", "call_2")
    assert output_of(talk, "call_2") == ["Only one handoff is made at a time; the conversation goes to billing."]
    assert len(talk.of(ResolveAgent)) == 1


def test_a_handoff_that_nobody_resolves_is_given_up() -> None:
    talk = transferring()
    talk.timer("call:call_1")
    assert talk.errors() == ["handoff_failed"]
    assert [type(output) for output in talk.put(AgentResolved("call_1", agent("billing")))] == [Ignored]
    assert talk.session.agent.name == "helper"


def test_an_answer_to_no_handoff_is_ignored() -> None:
    talk = Talk().live()
    assert [type(output) for output in talk.put(AgentResolved("call_9", agent("x")))] == [Ignored]
    assert [type(output) for output in talk.put(AgentUnresolved("call_9", "No."))] == [Ignored]


def test_a_new_agents_settings_that_the_model_refuses_are_an_error_and_the_call_goes_on() -> None:
    talk = transferring()
    outputs = talk.put(AgentResolved("call_1", agent("billing")))
    talk.fails("invalid_value", "Bad tool.", talk.sent("session.update", outputs)[0]["event_id"])
    assert talk.errors() == ["invalid_value"]
    talk.ends()
    assert talk.sent_types() == ["response.create"]


def test_the_second_handoff_is_made_when_the_first_has_failed() -> None:
    talk = Talk(agent(handoffs=[handoff("billing"), handoff("sales")])).asked()
    talk.calls("transfer_to_billing", "call_1")
    talk.put(AgentUnresolved("call_1", "Closed."))
    talk.calls("transfer_to_sales", "call_2")
    assert [resolve.to_agent for resolve in talk.of(ResolveAgent)] == ["billing", "sales"]
