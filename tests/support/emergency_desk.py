"""A TARGET for scenarios in which gateways die: tools that write down each time they run, an approval, a handoff."""

import asyncio
from pathlib import Path

from voicebus import RealtimeAgent, RealtimeRunner, function_tool


@function_tool
async def book(notes: str, seconds: float) -> str:
    """Write one line into the file `notes`, then take a while."""
    with Path(notes).open("a", encoding="utf-8") as file:
        file.write("booked\n")
    await asyncio.sleep(seconds)
    return "it is booked"


@function_tool(needs_approval=True)
async def pay(notes: str) -> str:
    """Write one line into the file `notes`, once somebody has agreed."""
    with Path(notes).open("a", encoding="utf-8") as file:
        file.write("paid\n")
    return "it is paid"


first = RealtimeAgent(name="first", instructions="First.", tools=[book, pay])
second = RealtimeAgent(name="second", handoff_description="The second line.", instructions="Second.", tools=[book])
first.handoffs.append(second)
runner = RealtimeRunner(first, config={"model_settings": {"turn_detection": {"type": "server_vad"}}})
