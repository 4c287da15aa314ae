"""A model behind a queue: it takes what is asked of it one after another, and an error of nobody's speaks for it first.

It lets the first `response.create` wait until it is sent again, as a session does that takes that error for an answer,
and then answers both; it is too slow for a cancel to reach it.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from voicebus.engine.turns import ALREADY_ACTIVE

_NOBODYS = {"type": "error", "error": {"type": "invalid_request_error", "code": ALREADY_ACTIVE, "message": "Busy."}}


@dataclass(frozen=True, slots=True)
class QueuedModel:
    """`url` stands for the model's."""

    url: str


class _Queue:
    def __init__(self, client: ServerConnection, model: ClientConnection) -> None:
        self._client = client
        self._model = model
        self._creates: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._asked = 0
        self._asked_again = asyncio.Event()
        self._done = asyncio.Event()

    async def to_the_model(self) -> None:
        try:
            async for frame in self._client:
                kind = json.loads(frame)["type"]
                if kind == "response.create":
                    await self._ask(frame)
                elif kind != "response.cancel":
                    await self._model.send(frame)
        except ConnectionClosed:
            pass
        finally:
            await self._model.close()

    async def _ask(self, frame: str | bytes) -> None:
        self._asked += 1
        self._creates.put_nowait(frame)
        if self._asked == 1:
            await self._client.send(json.dumps(_NOBODYS))
        else:
            self._asked_again.set()

    async def one_after_another(self) -> None:
        await self._asked_again.wait()
        while True:
            self._done.clear()
            await self._model.send(await self._creates.get())
            await self._done.wait()

    async def to_the_client(self) -> None:
        try:
            async for frame in self._model:
                await self._client.send(frame)
                if json.loads(frame)["type"] == "response.done":
                    self._done.set()
        except ConnectionClosed:
            pass
        finally:
            await self._client.close()


@asynccontextmanager
async def queued_model(target: str) -> AsyncIterator[QueuedModel]:
    """Stand in for the server at `target` while the block runs."""

    async def handle(client: ServerConnection) -> None:
        assert client.request is not None
        _, _, query = client.request.path.partition("?")
        key = {"Authorization": "Bearer any"}
        async with connect(f"{target}?{query}", additional_headers=key, max_size=None) as model:
            queue = _Queue(client, model)
            asking = asyncio.create_task(queue.one_after_another(), name="one create after another")
            try:
                await asyncio.gather(queue.to_the_model(), queue.to_the_client())
            finally:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)

    async with serve(handle, "127.0.0.1", 0, max_size=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield QueuedModel(f"ws://127.0.0.1:{port}/v1/realtime")
