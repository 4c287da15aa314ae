"""A chat in a terminal: lines in, lines out, and a player that tells the model what was heard. `terminal_chat.py`.

Written for openai-agents; the tests run it with voicebus after a change of its import lines.
"""

import asyncio
import os
import sys
from typing import Any

from agents.realtime import (
    RealtimeAgent,
    RealtimePlaybackTracker,
    RealtimeRunConfig,
    RealtimeRunner,
    RealtimeSession,
    RealtimeSessionEvent,
)
from agents.realtime.items import AssistantMessageItem

from agents import function_tool


@function_tool
def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return f"The weather in {city} is sunny."


@function_tool(failure_error_function=lambda context, error: f"Sorry: {error}")
async def open_door(code: int) -> str:
    """Open the door."""
    raise ValueError(f"{code} is wrong")


agent = RealtimeAgent(
    name="Assistant",
    instructions=lambda context, agent: f"You talk to {context.context['user']}.",
    tools=[get_weather, open_door],
)


class Player:
    """Plays at once, and says so."""

    def __init__(self, tracker: RealtimePlaybackTracker) -> None:
        self.tracker = tracker
        self.played = 0

    def play(self, event: Any) -> None:
        self.played += len(event.audio.data)
        self.tracker.on_play_bytes(event.item_id, event.content_index, event.audio.data)

    def stop(self) -> None:
        self.played = 0


class Chat:
    def __init__(self) -> None:
        self.tracker = RealtimePlaybackTracker()
        self.player = Player(self.tracker)
        self.answered = asyncio.Event()
        self.history: list[Any] = []
        self.shown: set[str] = set()

    async def run(self) -> None:
        config: RealtimeRunConfig = {
            "model_settings": {"voice": "ash", "modalities": ["audio"]},
            "tracing_disabled": True,
        }
        runner = RealtimeRunner(agent, config=config)
        model_config: Any = {"url": os.environ["REALTIME_URL"], "playback_tracker": self.tracker}
        async with await runner.run(context={"user": "Ada"}, model_config=model_config) as session:
            listening = asyncio.create_task(self.listen(session))
            for line in sys.stdin:
                self.answered.clear()
                await session.send_message(line.strip())
                await self.answered.wait()
        await listening
        print("bye", flush=True)

    async def listen(self, session: RealtimeSession) -> None:
        async for event in session:
            self.on_event(event)

    def on_event(self, event: RealtimeSessionEvent) -> None:
        if event.type == "audio":
            self.player.play(event)
        elif event.type == "audio_interrupted":
            self.player.stop()
        elif event.type == "tool_start":
            print(f"tool {event.tool.name}({event.arguments})", flush=True)
        elif event.type == "tool_end":
            print(f"tool {event.tool.name} -> {event.output}", flush=True)
        elif event.type == "history_updated":
            self.history = list(event.history)
        elif event.type == "history_added":
            self.history.append(event.item)
        elif event.type == "error":
            print(f"error {event.error}", flush=True)
        elif event.type == "agent_end":
            self.answer()

    def answer(self) -> None:
        for item in self.history:
            if isinstance(item, AssistantMessageItem) and item.item_id not in self.shown:
                self.shown.add(item.item_id)
                words = " ".join(
                    getattr(part, "transcript", None) or getattr(part, "text", "") for part in item.content
                )
                print(f"agent {words} ({self.player.played} bytes)", flush=True)
                self.answered.set()


asyncio.run(Chat().run())
