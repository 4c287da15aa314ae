"""A tool that runs when it is interrupted, in process and through the cluster: stopped where it runs, if it says so."""

import asyncio
from typing import Any

from support.scripts import answering, outputs
from support.stages import Stage
from support.waiting import wait_until
from voicebus import RealtimeAgent, ToolContext, function_tool
from voicebus.testing import audio_turn, function_calls


async def test_an_interruption_stops_the_tools_that_end_with_it_wherever_they_run(stage: Stage) -> None:
    stopped: list[str | None] = []
    began, go = set[str](), asyncio.Event()

    @function_tool(cancel_on_interrupt=True)
    async def search(context: ToolContext[Any]) -> str:
        """Search."""
        began.add("search")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append(context.cancellation.reason)
            raise
        return "never"

    @function_tool(cancel_on_interrupt=True)
    def browse(context: ToolContext[Any]) -> str:
        """Browse, in a thread."""
        began.add("browse")
        context.cancellation.wait(20)
        stopped.append(context.cancellation.reason)
        return "never"

    @function_tool
    async def pay() -> str:
        """Pay."""
        began.add("pay")
        await go.wait()
        return "paid"

    calls = function_calls(("search", "{}", "c1"), ("browse", "{}", "c2"), ("pay", "{}", "c3"))
    async with answering(calls, audio_turn("Paid.")) as server:
        async with stage.conversation(RealtimeAgent("Ada", tools=[search, browse, pay]), server) as talk:
            await talk.say("go")
            await wait_until(lambda: len(began) == 3, description="all three to run")
            await talk.interrupt()
            for tool in ("search", "browse"):
                ended = await talk.until("tool_end", tool=tool)
                assert ended["outcome"] == "cancelled"
            await wait_until(lambda: len(stopped) == 2, description="both to know it")
            assert stopped == ["interrupted"] * 2
            go.set()
            await talk.until("tool_end", tool="pay", output="paid")
            await talk.until("agent_end", output="Paid.")
        told = dict(outputs(server))
        assert told["c3"] == "paid"
        assert told["c1"] == told["c2"] == "The call was cancelled, as the user interrupted it."
