"""What an agent's tools come to with what workers of other services offer."""

from typing import Any

import pytest

from voicebus import HostedMCPTool, RealtimeAgent, RemoteTool, RemoteTools, RunContextWrapper, UserError, function_tool
from voicebus.agents.author import SessionAuthor
from voicebus.agents.tools.toolset import MAX_TOOLS, Offered, ToolRules, Toolset, toolset
from voicebus.contracts.tools import ToolRegistration

RULES = ToolRules(timeout_s=30.0, in_process=False)


@function_tool(name_override="own")
def own() -> str:
    """Do it here."""
    return ""


def registration(name: str, *, queue: str = "house", version: str = "1", **fields: Any) -> ToolRegistration:
    return ToolRegistration(
        name=name, queue=queue, version=version, timeout_ms=1000, at=0,
        **{"parameters": {"type": "object"}, "description": "", **fields},
    )  # fmt: skip


def offered(*registrations: ToolRegistration) -> Offered:
    return {each.name: each for each in registrations}


def of(entries: list[Any], offers: Offered, **options: Any) -> Toolset:
    return toolset("a", entries, offers, RULES, **options)


def names(found: Toolset) -> list[str]:
    return [spec.name for spec in found.specs]


def test_all_of_a_queue_are_the_agents_but_what_it_has_itself_comes_first() -> None:
    offers = offered(
        *(registration(name) for name in ("b", "a", "own", "leave", "named")), registration("x", queue="y")
    )
    found = of([own, RemoteTools(queue="house"), RemoteTool("named")], offers, taken=["leave"])
    assert names(found) == ["own", "named", "a", "b"]
    assert found.tools["own"] is own
    assert found.tools["a"] == RemoteTool("a")
    assert [spec.queue for spec in found.specs[1:]] == ["house"] * 3


def test_two_ways_to_one_queue_give_each_tool_once() -> None:
    found = of([RemoteTools(queue="house"), RemoteTools(queue="house")], offered(registration("a")))
    assert names(found) == ["a"]


@pytest.mark.parametrize(
    "bad",
    [
        registration("a name"),
        registration("x" * 65),
        registration("list", parameters={"type": "array"}),
        registration("long", description="x" * 16_385),
        registration("five", parameters={"type": "object", "properties": 5}),
        registration("inner", parameters={"properties": {"a": {"type": "object", "properties": {"b": "string"}}}}),
        registration("kind", parameters={"properties": {"a": {"type": "text"}}}),
        registration("needed", parameters={"properties": {}, "required": "item"}),
        registration("none", parameters={"properties": {"a": {"anyOf": []}}}),
    ],
    ids=lambda bad: bad.name[:10],
)
def test_what_no_model_takes_costs_the_agent_nothing_else(bad: ToolRegistration) -> None:
    offers = offered(bad, registration("good"))
    assert names(of([RemoteTools(queue="house"), RemoteTool(bad.name)], offers)) == ["good"]


def test_there_is_an_end_to_what_one_agent_can_have() -> None:
    offers = offered(*(registration(f"t{n:03}") for n in range(MAX_TOOLS + 5)))
    found = of([own, RemoteTools(queue="house")], offers)
    assert len(found.specs) == MAX_TOOLS
    assert names(found)[0] == "own"


def test_in_process_there_are_no_workers() -> None:
    rules = ToolRules(timeout_s=30.0, in_process=True)
    with pytest.raises(UserError, match="RemoteTools of queue 'house' needs a cluster"):
        toolset("a", [RemoteTools(queue="house")], {}, rules)


@pytest.mark.parametrize("queue", ["", "a b", None, 5])
def test_a_queue_has_a_name(queue: Any) -> None:
    with pytest.raises(UserError, match="queue must be a name of 1 to 64"):
        RemoteTools(queue=queue)


# --- running sessions -----------------------------------------------------------------------------


def author(offers: list[Offered]) -> SessionAuthor:
    async def registered() -> Offered:
        return offers[-1]

    return SessionAuthor(
        context=RunContextWrapper(None), run_config={}, model_config=None, session="s1", tool_timeout_s=30.0,
        in_process=False, registered=registered,
    )  # fmt: skip


async def test_each_agent_learns_of_what_changed_for_it_once() -> None:
    offers = [offered(registration("a"))]
    session = author(offers)
    hosted = HostedMCPTool({"server_label": "docs", "server_url": "https://docs"})
    butler = await session.begin(RealtimeAgent("butler", tools=[own, RemoteTools(queue="house"), hosted]))
    await session.update(RealtimeAgent("clerk", tools=[own]))
    assert session.follows_offers
    assert session.retool(offers[-1]) == []
    now = offered(registration("a", version="2"), registration("b"))
    [change] = session.retool(now)
    assert change.instead_of == butler.snapshot
    assert [(tool.name, tool.version) for tool in change.agent.tools] == [("own", "1"), ("a", "2"), ("b", "1")]
    assert session.tool(change.agent.snapshot, "docs.search") is hosted
    assert session.tool(butler.snapshot, "a") == RemoteTool("a"), "calls of before find theirs"
    assert session.retool(now) == []
    assert session.retool(dict(now)) == [], "another mapping of the same"
    [gone] = session.retool({})
    assert (gone.instead_of, [tool.name for tool in gone.agent.tools]) == (change.agent.snapshot, ["own"])
    await session.aclose()
    assert session.retool(now) == []


async def test_an_agent_in_charge_keeps_its_callables_however_often_another_changes() -> None:
    session = author([offered()])
    clerk = await session.begin(RealtimeAgent("clerk", tools=[own]))
    await session.update(RealtimeAgent("butler", tools=[RemoteTools(queue="house")]))
    for n in range(200):
        assert len(session.retool(offered(registration(f"t{n}")))) == 1
    assert session.tool(clerk.snapshot, "own") is own
    await session.aclose()


async def test_an_agent_without_tools_of_others_follows_nothing() -> None:
    session = author([offered(registration("a"))])
    await session.begin(RealtimeAgent("clerk", tools=[own]))
    assert not session.follows_offers
    await session.aclose()


async def test_a_tool_that_is_not_offered_yet_must_have_a_name_of_its_own_all_the_same() -> None:
    session = author([offered()])
    with pytest.raises(UserError, match="two tools or handoffs named 'own'"):
        await session.begin(RealtimeAgent("clerk", tools=[own, RemoteTool("own")]))
    await session.aclose()
