"""`voicebus.openai_agents`: programs that match each kind of event of openai-agents, and no other."""

import importlib
from typing import Any, assert_never

import pytest

import voicebus
from support.scripts import answering
from voicebus.openai_agents import RealtimeAgent, RealtimeRunner, RealtimeSession, RealtimeSessionEvent
from voicebus.testing import audio_turn, function_call

pytestmark = pytest.mark.usefixtures("delivery")


def test_it_is_a_module_and_no_package_of_second_copies() -> None:
    with pytest.raises(ModuleNotFoundError, match="is not a package"):
        importlib.import_module("voicebus.openai_agents.errors")
    assert not hasattr(voicebus.openai_agents, "nothing")


@voicebus.function_tool
async def weather(city: str) -> str:
    """Tell the weather."""
    return f"clear in {city}"


def shown(event: RealtimeSessionEvent) -> str:
    if event.type == "agent_start" or event.type == "agent_end":
        return event.agent.name
    if event.type == "handoff":
        return event.to_agent.name
    if event.type == "tool_start" or event.type == "tool_end" or event.type == "tool_approval_required":
        return event.tool.name
    if event.type == "audio" or event.type == "audio_end" or event.type == "audio_interrupted":
        return event.item_id
    if event.type == "history_added":
        return event.item.type
    if event.type == "history_updated":
        return str(len(event.history))
    if event.type == "raw_model_event":
        return event.data.type
    if event.type == "guardrail_tripped":
        return event.message
    if event.type == "error":
        return str(event.error)
    if event.type == "input_audio_timeout_triggered":
        return "silence"
    assert_never(event)


async def test_a_match_that_allows_no_other_event_holds_for_a_whole_conversation() -> None:
    agent: RealtimeAgent[Any] = RealtimeAgent("Ada", tools=[weather], handoffs=[RealtimeAgent("Bob")])
    turns = (
        function_call("weather", {"city": "Rome"}), function_call("transfer_to_bob"), audio_turn("Clear.", bytes(960)),
    )  # fmt: skip
    async with answering(*turns) as server:
        session = await RealtimeRunner(agent).run(model_config={"url": server.url, "api_key": "test"})
        assert isinstance(session, RealtimeSession)
        assert isinstance(session, voicebus.RealtimeSession)
        seen: dict[str, str] = {}
        async with session:
            await session.send_message("the weather, then Bob")
            async for event in session:
                seen[event.type] = shown(event)
                if event.type == "agent_end" and event.output == "Clear.":
                    break
    assert (seen["agent_end"], seen["tool_end"], seen["handoff"]) == ("Bob", "weather", "Bob")
    assert "audio" in seen


async def test_a_loop_ends_with_its_session() -> None:
    async with answering() as server:
        session = await RealtimeRunner(RealtimeAgent[Any]("Ada")).run(
            model_config={"url": server.url, "api_key": "test"}
        )
        async with session:
            await server.wait_for("session.update")
        kinds = [event.type async for event in session]
    assert "history_updated" in kinds


def test_all_other_names_are_those_of_the_package() -> None:
    from voicebus import openai_agents

    assert openai_agents.tool is voicebus.function_tool
    assert all(hasattr(openai_agents, name) for name in voicebus.__all__)
    with pytest.raises(ImportError, match="nonsense"):
        from voicebus.openai_agents import nonsense  # type: ignore[attr-defined]  # noqa: F401


def test_everything_can_be_imported_at_once() -> None:
    names: dict[str, Any] = {}
    exec("from voicebus.openai_agents import *", names)
    assert {*voicebus.__all__} <= {*names}
    assert names["RealtimeRunner"] is RealtimeRunner
