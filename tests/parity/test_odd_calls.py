"""Calls without an id, of one id in two roles, in the background, and those that are open at the end (parity 2)."""

import asyncio
from typing import Any

import pytest

from support.scripts import answering, outputs
from support.stages import Stage
from support.waiting import wait_until
from voicebus import RealtimeAgent, function_tool
from voicebus.testing import ScriptedRealtimeServer, ServerStep, audio_turn, function_call, function_calls, text_turn


def code(error: dict[str, Any]) -> str:
    return str(error.get("error", error)["code"])


@function_tool
async def weather(city: str) -> str:
    """Tell the weather."""
    return f"clear in {city}"


async def test_a_call_without_an_id_is_an_error_and_runs_nothing(stage: Stage) -> None:
    call = {"id": "i9", "type": "function_call", "name": "weather", "call_id": "", "status": "completed"}
    response = {"id": "r9", "status": "completed", "output": []}
    async with answering(text_turn("Hi.")) as server:
        async with stage.conversation(RealtimeAgent("Ada", tools=[weather]), server) as talk:
            await talk.until("history_updated")
            await server.connections[0].emit(
                {"type": "response.created", "response": {**response, "status": "in_progress"}},
                {
                    "type": "response.output_item.done", "response_id": "r9", "output_index": 0,
                    "item": {**call, "arguments": '{"city": "Rome"}'},
                },
                {"type": "response.done", "response": response},
            )  # fmt: skip
            error = await talk.until("error")
            await talk.say("hello")
            await talk.until("agent_end", output="Hi.")
    assert code(error) == "invalid_call_id"
    assert outputs(server) == []
    assert not talk.of("tool_start")


async def test_a_handoff_under_the_id_of_a_functions_call_is_an_error_and_is_not_made(stage: Stage) -> None:
    agent = RealtimeAgent("Ada", tools=[weather], handoffs=[RealtimeAgent("Bob")])
    turns = function_call("weather", {"city": "Rome"}, call_id="c1"), audio_turn("Clear.")
    async with answering(*turns) as server, stage.conversation(agent, server) as talk:
        await talk.say("weather?")
        await talk.until("agent_end", output="Clear.")
        await server.connections[0].emit(function_call("transfer_to_bob", call_id="c1"))
        error = await talk.until("error")
        assert outputs(server) == [("c1", "clear in Rome")]
    assert code(error) == "duplicate_call_id"
    assert not talk.of("handoff")


async def test_of_several_handoffs_in_one_response_the_others_are_told_who_takes_over(stage: Stage) -> None:
    agent = RealtimeAgent("Ada", handoffs=[RealtimeAgent("Bob"), RealtimeAgent("Eve")])
    calls = function_calls(("transfer_to_bob", "{}", "h1"), ("transfer_to_eve", "{}", "h2"))
    async with answering(calls, audio_turn("Bob here.")) as server, stage.conversation(agent, server) as talk:
        await talk.say("both")
        await talk.until("agent_end", output="Bob here.")
    assert dict(outputs(server)) == {
        "h1": '{"assistant": "Bob"}',
        "h2": "Only one handoff is made at a time; the conversation goes to Bob.",
    }
    assert [event["to_agent"] for event in talk.of("handoff")] == ["Bob"]


async def test_a_background_call_and_another_of_its_response_are_answered_together_and_its_result_comes_later(
    stage: Stage,
) -> None:
    gate = asyncio.Event()

    @function_tool(background=True)
    async def report() -> str:
        """Make a report."""
        await gate.wait()
        return "the report"

    agent = RealtimeAgent("Ada", tools=[report, weather])
    calls = function_calls(("report", "{}", "c1"), ("weather", {"city": "Rome"}, "c2"))
    steps = [calls, text_turn("Clear, and I am on it."), text_turn("Here it is.")]
    async with answering(*steps) as server, stage.conversation(agent, server) as talk:
        await talk.say("weather, and the report")
        await talk.until("agent_end", output="Clear, and I am on it.")
        told = dict(outputs(server))
        assert told.keys() == {"c1", "c2"}
        assert told["c1"].startswith("The tool report runs in the background.")
        assert len(server.received("response.create")) == 2, "both are answered by one"
        gate.set()
        await talk.until("agent_end", output="Here it is.")
    items = [event["item"] for event in server.received("conversation.item.create")]
    (made,) = [item for item in items if item["type"] == "function_call"]
    assert made["name"] == "report"
    assert (made["call_id"], "the report") in outputs(server)
    ends = {event["call_id"]: event["outcome"] for event in talk.of("tool_end")}
    assert ends == {"c1": "ok", "c2": "ok"}


@pytest.mark.parametrize("waits", [False, True], ids=["it runs", "it waits for a person"])
async def test_a_call_that_is_open_when_the_session_ends_is_recorded_as_cancelled(stage: Stage, waits: bool) -> None:
    ran, ended = asyncio.Event(), asyncio.Event()

    @function_tool(needs_approval=waits)
    async def slow() -> str:
        """Take long."""
        ran.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return "never"

    async with ScriptedRealtimeServer([ServerStep("response.create", function_call("slow", call_id="c1"))]) as server:
        async with stage.conversation(RealtimeAgent("Ada", tools=[slow]), server) as talk:
            await talk.say("go")
            await talk.until("tool_approval_required" if waits else "tool_start")
            if not waits:
                await asyncio.wait_for(ran.wait(), 10)
    if not waits:
        await wait_until(ended.is_set, description="the tool to be cancelled")
    assert outputs(server) == []
    assert ran.is_set() is not waits
    ends = {(record["call_id"], record["outcome"]) for record in (*talk.events, *talk.records) if "outcome" in record}
    assert ends == {("c1", "cancelled")}
