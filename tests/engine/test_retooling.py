"""An agent in charge gets other tools: when the model is told, and by which tools calls run."""

from collections.abc import Sequence
from typing import Any

from support.talk import Talk, agent, tool
from voicebus.engine.config import AgentSpec, ClientRights, Face
from voicebus.engine.inputs import ToolsChanged, UpdateAgent
from voicebus.engine.outputs import DispatchTool, Output, SendModel

CLERK: AgentSpec = agent(tools=[tool("weather")], snapshot=1)


def changed(*names: str, instead_of: int, snapshot: int, **fields: Any) -> ToolsChanged:
    return ToolsChanged(agent(tools=[tool(name, **fields) for name in names], snapshot=snapshot), instead_of)


def offered(talk: Talk, outputs: Sequence[Output] | None = None) -> list[list[str]]:
    """The names of the tools in each `session.update`."""
    updates = talk.sent("session.update", talk.last if outputs is None else outputs)
    return [[entry["name"] for entry in update["session"].get("tools", ())] for update in updates]


def test_the_model_is_told_at_once_where_nothing_is_said() -> None:
    talk = Talk(CLERK).live()
    outputs = talk.put(changed("weather", "taxi", instead_of=1, snapshot=2))
    assert offered(talk) == [["weather", "taxi"]]
    [update] = talk.of(SendModel, outputs)
    assert set(update.event["session"]) == {"type", "tools"}, "nothing else of the session is touched"


def test_an_answer_is_not_disturbed_and_calls_of_it_run_by_the_tools_of_before() -> None:
    talk = Talk(CLERK).asked()
    talk.put(changed("weather", instead_of=1, snapshot=2, version="2"))
    assert offered(talk) == []
    outputs = talk.calls()
    [dispatched] = talk.of(DispatchTool, outputs)
    assert (dispatched.snapshot, dispatched.version) == (1, None)
    talk.ends()
    assert offered(talk) == [["weather"]]
    talk.model("session.updated", session={})
    talk.result()
    talk.begins("resp_2")
    [dispatched] = talk.of(DispatchTool, talk.calls(call="call_2", response="resp_2"))
    assert (dispatched.snapshot, dispatched.version) == (2, "2")


def test_changes_that_follow_each_other_are_told_as_one() -> None:
    talk = Talk(CLERK).asked()
    talk.put(changed("weather", "taxi", instead_of=1, snapshot=2))
    talk.put(changed("taxi", instead_of=2, snapshot=3))
    talk.ends()
    assert offered(talk) == [["taxi"]]


def test_a_change_for_an_agent_that_is_about_to_take_over_waits_for_it() -> None:
    talk = Talk(CLERK).live()
    talk.put(changed("taxi", instead_of=7, snapshot=8))
    assert offered(talk) == []
    talk.put(UpdateAgent(agent("porter", snapshot=7)))
    assert offered(talk) == [[]]
    talk.model("session.updated", session={})
    assert offered(talk) == [["taxi"]]


def test_a_change_for_an_agent_that_is_no_longer_in_charge_is_none() -> None:
    talk = Talk(CLERK).live()
    talk.put(UpdateAgent(agent("porter", snapshot=7)))
    talk.model("session.updated", session={})
    talk.put(changed("taxi", instead_of=1, snapshot=8))
    assert offered(talk) == []


def test_the_next_socket_is_told_what_came_while_there_was_none() -> None:
    talk = Talk(CLERK).live()
    talk.loses_the_link()
    talk.put(changed("weather", "taxi", instead_of=1, snapshot=2))
    assert offered(talk) == []
    talk.reconnects()
    assert offered(talk, talk.all)[-1] == ["weather", "taxi"]


def test_a_clients_own_tools_and_its_choice_of_the_agents_stay() -> None:
    rights = ClientRights(may_set=frozenset({"tools", "server_tools"}))
    clerk = agent(tools=[tool("weather"), tool("taxi")], client=rights, snapshot=1)
    talk = Talk(clerk, face=Face.OPENAI).live()
    own = {"type": "function", "name": "mine", "parameters": {"type": "object"}}
    talk.client("session.update", session={"type": "realtime", "tools": [own, {"type": "function", "name": "taxi"}]})
    talk.model("session.updated", session=talk.sent("session.update")[-1]["session"])
    after = agent(tools=[tool("taxi"), tool("hotel")], client=rights, snapshot=2)
    talk.put(ToolsChanged(after, instead_of=1))
    assert offered(talk) == [["mine", "taxi"]]
