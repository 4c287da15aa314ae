"""Calls, approvals and handoffs with a model that paces its own audio, in a burst and as it is spoken."""

import pytest

from support.simulator import running_simulator
from support.stages import Stage
from voicebus import RealtimeAgent, function_tool


@function_tool
async def rate(city: str) -> str:
    """Find what a room costs."""
    return f"100 in {city}"


@function_tool(needs_approval=True)
async def refund(amount: int) -> str:
    """Refund money."""
    return f"refunded {amount}"


@pytest.mark.parametrize("pace", [0, 50], ids=["burst", "spoken"])
async def test_calls_approvals_and_handoffs_of_a_model_that_speaks(stage: Stage, pace: float) -> None:
    desk = RealtimeAgent("desk", instructions="You refund.", tools=[refund])
    front = RealtimeAgent("front", instructions="You help.", tools=[rate], handoffs=[desk])
    async with (
        running_simulator(pace=pace) as simulator,
        stage.conversation(front, simulator) as talk,
    ):
        await talk.say('[[call: rate {"city": "Rome"}]] [[next]] [[say: {outputs}]]')
        await talk.until("agent_end", output="100 in Rome")
        await talk.say("[[call: transfer_to_desk {}]] [[next]] [[say: Desk.]]")
        assert (await talk.until("agent_end", output="Desk."))["agent"] == "desk"
        await talk.say('[[call: refund {"amount": 5}]] [[next]] [[say: {outputs}]]')
        asked = await talk.until("tool_approval_required")
        await talk.approve(asked["call_id"])
        await talk.until("agent_end", output="refunded 5")
    assert [event["tool"] for event in talk.of("tool_end")] == ["rate", "refund"]
    assert not talk.of("error")
    assert talk.of("audio")
