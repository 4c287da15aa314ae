"""A TARGET for storms: an agent whose tool may run again, as nothing but its answer comes of it."""

import asyncio

from voicebus import RealtimeAgent, function_tool


@function_tool(idempotent=True)
async def look_up(word: str) -> str:
    """Find out about a word; it takes a moment."""
    await asyncio.sleep(0.3)
    return f"{word} is known"


desk = RealtimeAgent(name="desk", instructions="Help.", tools=[look_up])
