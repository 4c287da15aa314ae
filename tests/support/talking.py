"""A conversation in text with the model of the environment, for what a page's programs define."""

import asyncio
from typing import Any

from voicebus import RealtimeAgent, RealtimeRunner, RealtimeSession
from voicebus.agents.events import RealtimeSessionEvent

_LIMIT_S = 20


def talk(
    start: RealtimeAgent[Any] | RealtimeRunner, *messages: str, until: str = "agent_end", context: Any = None
) -> list[RealtimeSessionEvent]:
    """Say each message and wait for its `until`, of an agent that has said something; all events."""
    return asyncio.run(_talk(start, messages, until, context))


def of(events: list[RealtimeSessionEvent], kind: str) -> list[Any]:
    return [event for event in events if event.type == kind]


async def _talk(start: Any, messages: tuple[str, ...], until: str, context: Any) -> list[RealtimeSessionEvent]:
    runner = start if isinstance(start, RealtimeRunner) else RealtimeRunner(start)
    session = await runner.run(
        context=context, model_config={"initial_model_settings": {"output_modalities": ["text"]}}
    )
    heard: list[RealtimeSessionEvent] = []
    async with asyncio.timeout(_LIMIT_S), session:
        for message in messages:
            await session.send_message(message)
            await _wait(session, until, heard)
    return heard


async def _wait(session: RealtimeSession, until: str, heard: list[RealtimeSessionEvent]) -> None:
    async for event in session:
        heard.append(event)
        if event.type == until and getattr(event, "output", "it") != "":
            return
    raise AssertionError(f"the session ended before {until}: {[event.type for event in heard]}")
