"""Hooks of the agents and of the run are told what happens, wherever a session runs (parity 0.7 and 8)."""

from typing import Any

from support.hooks import RunHooks, Told
from support.scripts import answering
from support.stages import Stage
from support.waiting import wait_until
from voicebus import RealtimeAgent, RealtimeAgentHooks, RealtimeRunHooks, function_tool
from voicebus.testing import audio_turn, function_call


class Own(RealtimeAgentHooks[Any]):
    def __init__(self, told: Told) -> None:
        self.told = told

    async def on_start(self, context: Any, agent: Any) -> None:
        self.told.append(("start", agent.name))

    async def on_end(self, context: Any, agent: Any, output: Any) -> None:
        self.told.append(("end", agent.name, output))

    async def on_handoff(self, context: Any, agent: Any, source: Any) -> None:
        self.told.append(("handoff", source.name, agent.name))

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        self.told.append(("tool", agent.name, tool.name))

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        self.told.append(("tool end", agent.name, tool.name, result))


@function_tool
async def weather(city: str) -> str:
    """Tell the weather."""
    return f"clear in {city}"


async def test_hooks_of_the_run_and_of_the_agents_hear_of_turns_tools_and_handoffs_in_their_order(stage: Stage) -> None:
    run, own = RunHooks([]), Own([])
    desk = RealtimeAgent("desk", hooks=own)
    front = RealtimeAgent("front", tools=[weather], handoffs=[desk], hooks=own)
    turns = [
        function_call("weather", {"city": "Rome"}, call_id="c1"),
        function_call("transfer_to_desk", call_id="h1"),
        audio_turn("Clear."),
    ]
    async with answering(*turns) as server, stage.conversation(front, server, {"hooks": run}) as talk:
        await talk.say("weather, then the desk")
        await talk.until("agent_end", output="Clear.")
        await wait_until(lambda: ("end", "desk", "Clear.") in own.told, description="the hooks to hear the end")
    whole_turns = [
        ("start", "front"), ("end", "front", ""), ("start", "front"), ("end", "front", ""), ("start", "desk"),
        ("end", "desk", "Clear."),
    ]  # fmt: skip
    others = [
        ("tool", "front", "weather"), ("tool end", "front", "weather", "clear in Rome"), ("handoff", "front", "desk"),
    ]  # fmt: skip
    for told in (run.told, own.told):  # a call may end before or after the response that made it
        assert [one for one in told if one[0] in ("start", "end")] == whole_turns
        assert [one for one in told if one[0] not in ("start", "end")] == others


async def test_a_hook_that_raises_is_an_error_and_ends_nothing(stage: Stage) -> None:
    class Broken(RealtimeRunHooks[Any]):
        async def on_agent_start(self, context: Any, agent: Any) -> None:
            raise RuntimeError("out of order")

    async with answering(audio_turn("Still here.")) as server:
        async with stage.conversation(RealtimeAgent("Ada"), server, {"hooks": Broken()}) as talk:
            await talk.say("there?")
            await talk.until("agent_end", output="Still here.")
            await wait_until(lambda: bool(talk.of("error")), description="the hook's error")
    assert [event.get("error", event)["code"] for event in talk.of("error")] == ["hook_failed"]
