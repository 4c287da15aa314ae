"""A web application: a browser per session talks over `/ws/{session_id}`. `web_app.py PORT`, the model by environment.

Written for openai-agents; the tests run it with voicebus after a change of its import lines.
"""

import asyncio
import base64
import json
import os
import struct
import sys
from typing import Any, assert_never

import uvicorn
from agents.realtime import RealtimeAgent, RealtimeRunner, RealtimeSession, RealtimeSessionEvent, realtime_handoff
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from agents import function_tool


@function_tool(name_override="look_up", description_override="Look something up in the handbook.")
async def handbook(topic: str) -> str:
    await asyncio.sleep(0.01)
    return f"The handbook says: one {topic} each."


@function_tool(needs_approval=True)
async def book_seat(seat: str) -> str:
    """Book a seat.

    Args:
        seat: its number.
    """
    return f"Seat {seat} is booked."


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"The sun shines in {city}."


faq = RealtimeAgent(
    name="FAQ Agent",
    handoff_description="Answers questions about the airline.",
    instructions="Answer from the handbook only.",
    tools=[handbook],
)
seats = RealtimeAgent(
    name="Seat Agent",
    handoff_description="Books seats.",
    instructions="Ask for the seat, then book it.",
    tools=[book_seat],
)
triage = RealtimeAgent(
    name="Triage Agent",
    instructions="Find out who can help.",
    tools=[weather],
    handoffs=[faq, realtime_handoff(seats)],
)
faq.handoffs.append(triage)
seats.handoffs.append(triage)


class Connections:
    """Sessions by their browsers' ids."""

    def __init__(self) -> None:
        self.sessions: dict[str, RealtimeSession] = {}
        self.contexts: dict[str, Any] = {}
        self.sockets: dict[str, WebSocket] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def connect(self, socket: WebSocket, session_id: str) -> None:
        await socket.accept()
        self.sockets[session_id] = socket
        runner = RealtimeRunner(triage)
        model_config: Any = {
            "url": os.environ["REALTIME_URL"],
            "initial_model_settings": {
                "turn_detection": {"type": "server_vad", "prefix_padding_ms": 300, "silence_duration_ms": 500},
            },
        }
        context = await runner.run(model_config=model_config)
        session = await context.__aenter__()
        self.sessions[session_id] = session
        self.contexts[session_id] = context
        self.tasks[session_id] = asyncio.create_task(self.show(session_id))

    async def disconnect(self, session_id: str) -> None:
        self.sockets.pop(session_id, None)
        await self.contexts.pop(session_id).__aexit__(None, None, None)
        self.sessions.pop(session_id)
        await self.tasks.pop(session_id)

    async def show(self, session_id: str) -> None:
        async for event in self.sessions[session_id]:
            shown = serialised(event)
            if session_id in self.sockets:
                try:
                    await self.sockets[session_id].send_text(json.dumps(shown))
                except (WebSocketDisconnect, RuntimeError):  # the browser has left; the other loop sees to that
                    self.sockets.pop(session_id, None)

    async def take(self, session_id: str, message: dict[str, Any]) -> None:
        session = self.sessions[session_id]
        match message["type"]:
            case "audio":
                await session.send_audio(struct.pack(f"{len(message['data'])}h", *message["data"]))
            case "commit_audio":
                await session.send_audio(b"", commit=True)
            case "text":
                await session.send_message(message["text"])
            case "image":
                content = [
                    {"type": "input_text", "text": message["text"]},
                    {"type": "input_image", "image_url": message["url"], "detail": "high"},
                ]
                await session.send_message({"type": "message", "role": "user", "content": content})
            case "interrupt":
                await session.interrupt()
            case "decision" if message["approve"]:
                await session.approve_tool_call(message["call_id"], always=bool(message.get("always")))
            case "decision":
                await session.reject_tool_call(message["call_id"])


def serialised(event: RealtimeSessionEvent) -> dict[str, Any]:
    shown: dict[str, Any] = {"type": event.type}
    if event.type in ("agent_start", "agent_end"):
        shown["agent"] = event.agent.name
    elif event.type == "handoff":
        shown["from"], shown["to"] = event.from_agent.name, event.to_agent.name
    elif event.type == "tool_start":
        shown["tool"], shown["arguments"] = event.tool.name, event.arguments
    elif event.type == "tool_end":
        shown["tool"], shown["output"] = event.tool.name, str(event.output)
    elif event.type == "tool_approval_required":
        shown["tool"], shown["call_id"], shown["arguments"] = event.tool.name, event.call_id, event.arguments
    elif event.type == "audio":
        shown["audio"] = base64.b64encode(event.audio.data).decode()
    elif event.type in ("audio_end", "audio_interrupted"):
        pass
    elif event.type == "history_updated":
        shown["history"] = [item.model_dump(mode="json") for item in event.history]
    elif event.type == "history_added":
        shown["item"] = event.item.model_dump(mode="json")
    elif event.type == "guardrail_tripped":
        shown["guardrails"] = [result.guardrail.name for result in event.guardrail_results]
    elif event.type == "raw_model_event":
        shown["raw"] = event.data.type
    elif event.type == "error":
        shown["error"] = str(event.error)
    elif event.type == "input_audio_timeout_triggered":
        pass
    else:
        assert_never(event)
    return shown


app = FastAPI()
connections = Connections()


@app.websocket("/ws/{session_id}")
async def talk(socket: WebSocket, session_id: str) -> None:
    await connections.connect(socket, session_id)
    try:
        while True:
            await connections.take(session_id, json.loads(await socket.receive_text()))
    except WebSocketDisconnect:
        await connections.disconnect(session_id)


@app.get("/sessions")
async def sessions() -> list[str]:
    return sorted(connections.sessions)


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", ws="websockets-sansio")
