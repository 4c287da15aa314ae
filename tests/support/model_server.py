"""A server of the realtime protocol that a test holds in its hand: what it heard, and what it says and when."""

import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import websockets
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from support.waiting import wait_until


@dataclass
class ModelServer:
    """Greets and confirms settings by itself unless told not to; everything else the test says."""

    greets: bool = True
    confirms: bool = True
    status: int | None = None
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    heard: list[dict[str, Any]] = field(default_factory=list)
    connections: list[ServerConnection] = field(default_factory=list)
    ended: list[int | None] = field(default_factory=list)

    async def say(self, *events: dict[str, Any]) -> None:
        for event in events:
            await self.connections[-1].send(json.dumps(event))

    async def say_text(self, frame: str) -> None:
        await self.connections[-1].send(frame)

    async def hang_up(self, code: int = 1000) -> None:
        """Close with a code; 1005 stands for none at all."""
        if code != 1005:
            await self.connections[-1].close(code, "bye")
            return
        self.connections[-1].transport.write(b"\x88\x00")
        await self.connections[-1].wait_closed()

    def cut(self) -> None:
        self.connections[-1].transport.abort()

    def types(self) -> list[str]:
        return [event["type"] for event in self.heard]

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.heard if event["type"] == kind]

    async def hears(self, kind: str, count: int = 1) -> dict[str, Any]:
        """The `count`-th event of a type, once it has come."""
        await wait_until(lambda: len(self.of_type(kind)) >= count, description=f"{kind} number {count}")
        return self.of_type(kind)[count - 1]

    def _check(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        return connection.respond(self.status, "no") if self.status else None

    async def _talk(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        with contextlib.suppress(websockets.ConnectionClosed):
            if self.greets:
                await connection.send('{"type":"session.created","session":{"id":"sess_1"}}')
            async for message in connection:
                event = json.loads(message)
                self.heard.append(event)
                if self.confirms and event["type"] == "session.update":
                    await connection.send(json.dumps({"type": "session.updated", "session": event["session"]}))
        await connection.wait_closed()
        self.ended.append(connection.close_code)


@asynccontextmanager
async def model_server(**options: Any) -> AsyncIterator[ModelServer]:
    """Serve a `ModelServer` with these options on a free port while the block runs."""
    server = ModelServer(**options)
    async with serve(server._talk, "127.0.0.1", 0, process_request=server._check, max_size=None) as running:
        server.url = f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}/v1/realtime"
        yield server
