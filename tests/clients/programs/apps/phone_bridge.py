"""A bridge for phone calls as media streams: mu-law both ways, marks for what was played, `clear` to interrupt.

`phone_bridge.py PORT`, the model by environment. Written for openai-agents; the tests run it with voicebus after a
change of its import lines.
"""

import asyncio
import base64
import json
import os
import sys
from typing import Any

import uvicorn
from agents.realtime import (
    RealtimeAgent,
    RealtimePlaybackTracker,
    RealtimeRunner,
    RealtimeSession,
    RealtimeSessionEvent,
)
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import PlainTextResponse

from agents import function_tool

CHUNK = 400  # bytes: 50 ms of 8 kHz mu-law


@function_tool
def current_time() -> str:
    """The time now."""
    return "It is noon."


agent = RealtimeAgent(name="Phone", instructions="You answer the phone.", tools=[current_time])


class PhoneCall:
    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.tracker = RealtimePlaybackTracker()
        self.stream = ""
        self.buffer = bytearray()
        self.marks: dict[str, tuple[str, int, int]] = {}
        self.number = 0

    async def run(self) -> None:
        await self.socket.accept()
        model_config: Any = {
            "url": os.environ["REALTIME_URL"],
            "initial_model_settings": {
                "input_audio_format": "g711_ulaw",
                "output_audio_format": "g711_ulaw",
                "turn_detection": {"type": "semantic_vad", "interrupt_response": True, "create_response": True},
            },
            "playback_tracker": self.tracker,
        }
        runner = RealtimeRunner(agent)
        async with await runner.run(model_config=model_config) as session:
            speaking = asyncio.create_task(self.speak(session))
            try:
                while True:
                    message = json.loads(await self.socket.receive_text())
                    if message["event"] == "stop":
                        break
                    await self.hear(session, message)
            except WebSocketDisconnect:
                pass
        await speaking

    async def hear(self, session: RealtimeSession, message: dict[str, Any]) -> None:
        match message["event"]:
            case "start":
                self.stream = message["start"]["streamSid"]
            case "media":
                self.buffer += base64.b64decode(message["media"]["payload"])
                if len(self.buffer) >= CHUNK:
                    samples, self.buffer = bytes(self.buffer), bytearray()
                    await session.send_audio(samples)
            case "mark":
                item_id, content_index, size = self.marks.pop(message["mark"]["name"])
                self.tracker.on_play_bytes(item_id, content_index, b"\xff" * size)

    async def speak(self, session: RealtimeSession) -> None:
        async for event in session:
            await self.on_event(event)

    async def on_event(self, event: RealtimeSessionEvent) -> None:
        if event.type == "audio":
            payload = base64.b64encode(event.audio.data).decode()
            await self.tell("media", media={"payload": payload})
            self.number += 1
            self.marks[str(self.number)] = (event.item_id, event.content_index, len(event.audio.data))
            await self.tell("mark", mark={"name": str(self.number)})
        elif event.type == "audio_interrupted":
            await self.tell("clear")
        elif event.type == "tool_end":
            print(f"tool {event.tool.name} -> {event.output}", flush=True)
        elif event.type == "error":
            print(f"error {event.error}", flush=True)

    async def tell(self, event: str, **fields: Any) -> None:
        await self.socket.send_text(json.dumps({"event": event, "streamSid": self.stream, **fields}))


app = FastAPI()


@app.post("/incoming-call")
async def incoming_call(request: Request) -> PlainTextResponse:
    host = request.headers["host"]
    words = f'<Response><Connect><Stream url="wss://{host}/media-stream" /></Connect></Response>'
    return PlainTextResponse(words, media_type="text/xml")


@app.websocket("/media-stream")
async def media_stream(socket: WebSocket) -> None:
    await PhoneCall(socket).run()
    print("call over", flush=True)


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", ws="websockets-sansio")
