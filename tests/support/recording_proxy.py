"""A WebSocket proxy that keeps every event that passes, for tests that look at what was said on the wire."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

# Handshake headers that each side makes for itself.
_OWN_HEADERS = frozenset({"host", "connection", "upgrade"})


@dataclass
class Recording:
    """`events` are `(direction, event)` in the order in which they passed; `url` stands for the target's."""

    url: str = ""
    events: list[tuple[Literal["client", "server"], dict[str, Any]]] = field(default_factory=list)

    def types(self, direction: str) -> list[str]:
        return [event["type"] for sender, event in self.events if sender == direction]

    def lines(self) -> bytes:
        """JSON lines, for `programs/validate_events.py`."""
        return "".join(json.dumps(entry) + "\n" for entry in self.events).encode()


@asynccontextmanager
async def recording_proxy(target: str) -> AsyncIterator[Recording]:
    """Stand in for the server at `target` (`ws://host:port/path`); paths and queries of clients are appended to it."""
    recording = Recording()

    async def relay(
        source: ServerConnection | ClientConnection,
        sink: ServerConnection | ClientConnection,
        direction: Literal["client", "server"],
    ) -> None:
        try:
            async for frame in source:
                recording.events.append((direction, json.loads(frame)))
                await sink.send(frame)
        except ConnectionClosed:
            pass  # either side may leave; the other one is told below
        finally:
            await sink.close()

    async def handle(client: ServerConnection) -> None:
        request = client.request
        assert request is not None
        headers = [
            (name, value)
            for name, value in request.headers.raw_items()
            if name.lower() not in _OWN_HEADERS and not name.lower().startswith("sec-websocket")
        ]
        _, _, query = request.path.partition("?")
        async with (
            connect(f"{target}?{query}", additional_headers=headers, max_size=None) as model,
            asyncio.TaskGroup() as relays,
        ):
            relays.create_task(relay(client, model, "client"), name="to the model")
            relays.create_task(relay(model, client, "server"), name="to the client")

    async with serve(handle, "127.0.0.1", 0, max_size=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        recording.url = f"ws://127.0.0.1:{port}/v1/realtime"
        yield recording
