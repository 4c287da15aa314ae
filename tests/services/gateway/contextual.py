"""An agent whose instructions are made of the session's context, and a note of what they found."""

from typing import Any

from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.context import RunContextWrapper

FOUND: list[Any] = []


def instructions(context: RunContextWrapper[Any], agent: RealtimeAgent) -> str:
    FOUND.append(context.context)
    return "You are at the desk."


desk = RealtimeAgent(name="desk", instructions=instructions)
