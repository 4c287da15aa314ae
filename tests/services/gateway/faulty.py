"""Agents that fail as a session begins."""

from typing import Any

from voicebus.agents.agent import RealtimeAgent


def raising(context: Any, agent: Any) -> str:
    raise AttributeError("no guest of the token s3cret")


def of_no_text(context: Any, agent: Any) -> Any:
    return 5


raises = RealtimeAgent(name="raises", instructions=raising)
numbers = RealtimeAgent(name="numbers", instructions=of_no_text)
