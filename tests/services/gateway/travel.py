"""An agent whose tools take their time, and what is said meanwhile."""

import asyncio
from typing import Any

from voicebus import RealtimeAgent, RealtimeRunner, ToolContext, function_tool

QUEUE = "travel"
GO = asyncio.Event()
"""Lets the tools end; one for each test."""


@function_tool(queue=QUEUE, speak_progress=True)
async def search(context: ToolContext[Any]) -> str:
    """Search flights."""
    await context.progress("3 of 7 airlines asked")
    await GO.wait()
    return "90 euros"


@function_tool(queue=QUEUE, hold_after=0.05)
async def look_up() -> str:
    """Look a flight up."""
    await GO.wait()
    return "LH 400"


@function_tool(queue=QUEUE, background=True)
async def compare() -> str:
    """Compare all flights."""
    await GO.wait()
    return "LH 400 is best"


agent: RealtimeAgent[Any] = RealtimeAgent("travel", instructions="You find flights.", tools=[search, look_up, compare])
runner = RealtimeRunner(
    agent,
    config={
        "model_settings": {"output_modalities": ["text"]},
        "hold_phrase": "One moment, I am looking.",
        "hold_after": 600,
    },
)
