"""A text agent as a tool of a spoken one (parity 7)."""

import pytest

from support.completions import calls, completions, says
from support.scripts import answering, outputs, session_update
from support.stages import Stage
from voicebus import Agent, RealtimeAgent, function_tool
from voicebus.testing import audio_turn, function_call


@function_tool
def price(room: str) -> str:
    """The price of a room."""
    return f"{room} is 90"


async def test_a_text_agent_answers_a_call_with_its_own_model_and_tools(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert = Agent("Price expert", instructions="You know prices.", tools=[price])
    agent = RealtimeAgent("Ada", tools=[expert.as_tool(tool_description="Knows prices.")])
    turn = function_call("price_expert", {"input": "the blue room?"}, call_id="c1")
    async with completions(monkeypatch) as model:
        model.script = [calls("price", room="blue"), says("It is 90.")]
        async with answering(turn, audio_turn("90.")) as server, stage.conversation(agent, server) as talk:
            await talk.say("the blue room?")
            await talk.until("agent_end", output="90.")
            (offered,) = session_update(server)["tools"]
    assert outputs(server) == [("c1", "It is 90.")]
    assert (offered["name"], offered["description"]) == ("price_expert", "Knows prices.")
    assert [message["content"] for message in model.asked[0]["messages"]] == ["You know prices.", "the blue room?"]
    assert model.asked[1]["messages"][-1]["content"] == "blue is 90"
