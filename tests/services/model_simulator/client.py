"""A plain client of the protocol for the tests of the simulator's socket."""

import base64
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

JsonObject = dict[str, Any]


class Client:
    """Sends dicts, collects events."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[JsonObject] = []

    async def send(self, event_type: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": event_type, **fields}))

    async def receive(self) -> JsonObject:
        event: JsonObject = json.loads(await self.socket.recv())
        self.events.append(event)
        return event

    async def until(self, event_type: str) -> JsonObject:
        """The next event of this type; everything on the way is collected."""
        while True:
            event = await self.receive()
            if event["type"] == event_type:
                return event

    async def say(self, text: str) -> None:
        """A written user turn and a request to answer it."""
        await self.send(
            "conversation.item.create",
            item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]},
        )
        await self.send("response.create")

    async def append(self, audio: bytes, frame: int = 960) -> None:
        for start in range(0, len(audio), frame):
            await self.send("input_audio_buffer.append", audio=base64.b64encode(audio[start : start + frame]).decode())

    def types(self) -> list[str]:
        return [event["type"] for event in self.events]


@asynccontextmanager
async def connected(url: str, *, key: str | None = "sk-test", **options: Any) -> AsyncIterator[Client]:
    headers: Iterable[tuple[str, str]] = [("Authorization", f"Bearer {key}")] if key else []
    separator = "&" if "?" in url else "?"
    address = url if "model=" in url or "intent=" in url or "call_id=" in url else f"{url}{separator}model=gpt-realtime"
    async with connect(address, additional_headers=[*headers, *options.pop("headers", [])], **options) as socket:
        yield Client(socket)
