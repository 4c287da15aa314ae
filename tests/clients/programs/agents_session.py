"""`openai-agents` as its users write it: `agents_session.py URL INSTRUCTIONS TEXT…` sends each text in turn.

The local agent has a tool, `open_map`; without instructions (""), those of the server's agent are not contested.
"""

import asyncio
import json
import sys
from typing import Any

from agents.realtime import OpenAIRealtimeWebSocketModel, RealtimeAgent, RealtimeRunner

from agents import function_tool

PATIENCE_S = 60


@function_tool
def open_map(place: str) -> str:
    """Open the map at a place."""
    return f"the map shows {place}"


async def main(url: str, instructions: str, *texts: str) -> None:
    runner = RealtimeRunner(
        RealtimeAgent(name="caller", instructions=instructions or None, tools=[open_map]),
        model=OpenAIRealtimeWebSocketModel(),
        config={"model_settings": {"turn_detection": {"type": "server_vad"}}},
    )
    kinds: list[str] = []
    errors: list[Any] = []
    tools: list[str] = []
    history: list[Any] = []
    audio = 0
    called = False
    raw: list[str] = []
    async with await runner.run(model_config={"url": url, "api_key": "test-key"}) as session:
        for text in texts:
            await session.send_message(text)
            async with asyncio.timeout(PATIENCE_S):
                async for event in session:
                    kinds.append(event.type)
                    if event.type == "error":
                        error = event.error
                        errors.append(error.model_dump() if hasattr(error, "model_dump") else str(error))
                    elif event.type == "tool_end":
                        tools.append(event.tool.name)
                    elif event.type == "audio":
                        audio += len(event.audio.data)
                    elif event.type == "history_updated":
                        history = [item.model_dump() for item in event.history]
                    elif event.type == "raw_model_event" and event.data.type == "raw_server_event":
                        frame = event.data.data
                        raw.append(frame["type"])
                        if frame["type"] == "response.done":
                            # The session answers a call of its own tool and asks for the next response by itself.
                            called = any(item["type"] == "function_call" for item in frame["response"]["output"])
                    if event.type == "agent_end" and not called:
                        break
        # The transcript of the last answer may be in the history only now.
        history = [item.model_dump() for item in session._history]
    json.dump(
        {"kinds": kinds, "errors": errors, "tools": tools, "history": history, "audio_bytes": audio, "raw": raw},
        sys.stdout,
    )
    sys.stdout.write("\n")


asyncio.run(main(*sys.argv[1:]))
