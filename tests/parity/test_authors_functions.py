"""What authors write about agents and tools may raise anything, and end no more than what it was asked about."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from support.scripts import answering, outputs
from support.stages import Stage
from voicebus import RealtimeAgent, RealtimeRunConfig, function_tool, realtime_handoff
from voicebus.testing import function_call, text_turn

TOLD = {
    "needs_approval": "needs_approval of tool 'price' failed",
    "is_enabled": "is_enabled of tool 'price' failed",
    "failure_error_function": "its error function failed",
    "tool_error_formatter": "The tool_error_formatter failed",
    "on_handoff": "The handoff to desk failed",
    "is_enabled of a handoff": "The handoff to desk failed",
    "instructions": "The handoff to desk failed",
}


def _agent(place: str, fails: Callable[..., Any]) -> RealtimeAgent[Any]:
    """An agent whose function at `place` fails when it is asked about a call."""
    asked = 0

    def later(*given: Any) -> Any:
        # The first time is when the agent is offered to the model.
        nonlocal asked
        asked += 1
        return fails(*given) if asked > 1 else True

    def out_of_order() -> str:
        raise ValueError("out of order")

    options: dict[str, Any] = {}
    if place == "needs_approval":
        options["needs_approval"] = fails
    elif place == "is_enabled":
        options["is_enabled"] = later
    elif place == "failure_error_function":
        options["failure_error_function"] = fails
    price = function_tool(out_of_order, name_override="price", **options)
    desk = RealtimeAgent[Any]("desk", instructions=fails if place == "instructions" else "You sit at the desk.")
    taken: Any = {"on_handoff": lambda context: fails(context, place)} if place == "on_handoff" else {}
    handoff = realtime_handoff(desk, is_enabled=later if place == "is_enabled of a handoff" else True, **taken)
    return RealtimeAgent("Ada", tools=[price], handoffs=[handoff])


@pytest.mark.parametrize("place", list(TOLD))
@pytest.mark.parametrize("raised", [ValueError, SystemExit, asyncio.CancelledError])
async def test_a_call_is_answered_whatever_its_authors_functions_raise(
    stage: Stage, place: str, raised: type[BaseException]
) -> None:
    def fails(*given: Any) -> Any:
        raise raised("for the program")

    config: RealtimeRunConfig = {"tool_error_formatter": fails} if place == "tool_error_formatter" else {}
    called = "transfer_to_desk" if "handoff" in place or place == "instructions" else "price"
    turns = [function_call(called), text_turn("Still here."), text_turn("Still here, too.")]
    async with answering(*turns) as server, stage.conversation(_agent(place, fails), server, config) as talk:
        await talk.say("go on")
        if place == "needs_approval":
            await talk.approve((await talk.until("tool_approval_required"))["call_id"])
        await talk.until("agent_end", output="Still here.")
        await talk.say("are you there?")
        await talk.until("agent_end", output="Still here, too.")
        kind = "ValueError: for the program" if raised is ValueError else raised.__name__
        kind = "cancelled itself" if raised is asyncio.CancelledError and place != "failure_error_function" else kind
        (error,) = [str(event) for event in talk.of("error") if TOLD[place] in str(event)]
        assert kind in error
        assert not any("for the program" in output for _, output in outputs(server)), "the model is told no more"
