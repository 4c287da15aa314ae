"""A model by hand, for what the simulator does not do: settings answered late, appends refused."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection, serve


@dataclass
class ScriptedModel:
    """Answers `session.update` once it is `released`, and appends with an error if it `refuses` them; keeps what it
    was sent."""

    url: str = ""
    refuses: bool = False
    heard: list[dict[str, Any]] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    sockets: list[ServerConnection] = field(default_factory=list)

    @property
    def types(self) -> list[str]:
        return [event["type"].rpartition(".")[2] for event in self.heard]

    @property
    def audio(self) -> bytes:
        return b"".join(base64.b64decode(event["audio"]) for event in self.heard if "audio" in event)

    async def say(self, **event: Any) -> None:
        """Send an event to the session that was opened last."""
        await self.sockets[-1].send(json.dumps({"event_id": "event_of_the_model", **event}))

    async def serve(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        await socket.send(json.dumps({"type": "session.created", "session": {"id": "sess_1"}}))
        async for frame in socket:
            event = json.loads(frame)
            self.heard.append(event)
            if event["type"] == "session.update":
                await self.released.wait()
                await socket.send(json.dumps({"type": "session.updated", "session": event["session"]}))
            elif self.refuses and "audio" in event:
                error = {"type": "invalid_request_error", "code": "invalid_value", "message": "No.", "param": "audio"}
                error["event_id"] = event.get("event_id")
                await socket.send(json.dumps({"type": "error", "event_id": "event_1", "error": error}))


@asynccontextmanager
async def scripted_model(*, slow: bool = False, refuses: bool = False) -> AsyncIterator[ScriptedModel]:
    model = ScriptedModel(refuses=refuses)
    if not slow:
        model.released.set()
    async with serve(model.serve, "127.0.0.1", 0, max_size=None) as server:
        model.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/v1/realtime"
        yield model
        model.released.set()
