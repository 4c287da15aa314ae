"""A client of each face, as small as a test needs it."""

import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import websockets
from prometheus_client import REGISTRY
from websockets.exceptions import ConnectionClosed


class Listening(Protocol):
    """A gateway, wherever it runs."""

    @property
    def port(self) -> int: ...


class TestClient:
    """Sends JSON, remembers every frame, waits for one of a type."""

    __test__ = False

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self.socket = socket
        self.seen: list[Any] = []

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def until(self, *kinds: str, **having: Any) -> dict[str, Any]:
        """Read until a frame of one of these types (and with these fields) came; returns it."""
        async for frame in self.socket:
            if isinstance(frame, bytes):
                self.seen.append(frame)
                continue
            event: dict[str, Any] = json.loads(frame)
            self.seen.append(event)
            if event["type"] in kinds and all(event.get(name) == value for name, value in having.items()):
                return event
        raise AssertionError(f"closed with {self.socket.close_code} before {kinds} {having}; saw {self.types}")

    async def closed(self) -> int | None:
        """Read to the end; returns the close code."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                frame = await self.socket.recv()
                self.seen.append(frame if isinstance(frame, bytes) else json.loads(frame))
        return self.socket.close_code

    @property
    def types(self) -> list[str]:
        return ["<binary>" if isinstance(frame, bytes) else frame["type"] for frame in self.seen]

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [frame for frame in self.seen if not isinstance(frame, bytes) and frame["type"] == kind]

    @property
    def audio(self) -> bytes:
        return b"".join(frame for frame in self.seen if isinstance(frame, bytes))


@asynccontextmanager
async def connected(gateway: Listening, path: str, **options: Any) -> AsyncIterator[TestClient]:
    # Reads on whatever the test has not read: else the answer to its close is not heard, and waited for in vain (10 s).
    given: dict[str, Any] = {"max_size": None, "max_queue": None, **options}
    async with websockets.connect(f"ws://127.0.0.1:{gateway.port}{path}", **given) as socket:
        yield TestClient(socket)


def tool_outcomes(tool: str, outcome: str) -> float:
    """How many ends of this kind this process has counted."""
    labels = {"tool": tool, "outcome": outcome}
    return REGISTRY.get_sample_value("voicebus_tool_outcomes_total", labels) or 0.0


def native(gateway: Listening, query: str = "", **options: Any) -> AbstractAsyncContextManager[TestClient]:
    return connected(gateway, f"/v1/sessions/connect{query}", **options)


def realtime(gateway: Listening, query: str = "", **options: Any) -> AbstractAsyncContextManager[TestClient]:
    return connected(gateway, f"/v1/realtime{query}", **options)
