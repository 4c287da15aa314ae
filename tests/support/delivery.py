"""How a model's words reach a session: in order as they are said, in bursts, in another order that is allowed, late.

Whatever server a test has the model be, its frames go out so: scripted ones and those that a test holds in its hand are
put behind a `_Post`, the simulator has quirks of its own for it. What a session sends is not touched.
"""

import asyncio
import contextlib
import json
import os
import random
import socket
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from support import simulator
from support.model_server import ModelServer
from voicebus.testing import ScriptedRealtimeServer
from voicebus_services.model_simulator.protocol.orders import OtherOrders

IN_ORDER: Final = "in order"
OTHERS: Final = tuple(mode for mode in simulator.MODES if mode != IN_ORDER)

# What a server says within so much time (s) is a burst.
_BURST: Final = 0.005
# How late a frame may be (s).
_LATE: Final = 0.008


def modes_of(test: str) -> Sequence[str]:
    """The modes in which a test runs: in order, and one more that its name draws; all where VOICEBUS_MODES=all."""
    if os.environ.get("VOICEBUS_MODES") == "all":
        return (IN_ORDER, *OTHERS)
    return (IN_ORDER, OTHERS[zlib.crc32(test.encode()) % len(OTHERS)])


@contextlib.contextmanager
def delivering(mode: str) -> Iterator[None]:
    """All models of this process deliver so while the block runs."""
    if mode == IN_ORDER:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulator, "delivery", simulator.MODES[mode])
        patch.setattr(ScriptedRealtimeServer, "_serve", _posted(ScriptedRealtimeServer._serve, mode))
        patch.setattr(ModelServer, "_talk", _posted(ModelServer._talk, mode))
        yield


def _posted(serve: Callable[[Any, Any], Awaitable[None]], mode: str) -> Callable[[Any, ServerConnection], Any]:
    """A server's way to talk to one client, with a post between."""

    async def talk(server: Any, connection: ServerConnection) -> None:
        post = _Post(connection, mode)
        try:
            await serve(server, post)
        finally:
            await post.end()

    return talk


class _Post:
    """A connection whose frames wait to be sent; everything else is the connection's own."""

    def __init__(self, connection: ServerConnection, mode: str) -> None:
        self._connection = connection
        self._mode = mode
        self._orders = OtherOrders()
        self._answering = False
        self._random = random.Random(7)
        self._frames: asyncio.Queue[str] = asyncio.Queue()
        self._sent = asyncio.Event()
        self._sent.set()
        self._sending = asyncio.create_task(self._send(), name="post")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __aiter__(self) -> Any:
        return aiter(self._connection)

    async def send(self, frame: str) -> None:
        self._sent.clear()
        self._frames.put_nowait(frame)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self._sent.wait()
        await self._connection.close(code, reason)

    @property
    def transport(self) -> "_Transport":
        return _Transport(self._connection, self._sent)

    async def end(self) -> None:
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)

    async def _send(self) -> None:
        try:
            while True:
                frames = [await self._frames.get()]
                await asyncio.sleep(self._random.uniform(0, _LATE) if self._mode == "delayed" else _BURST)
                while self._mode != "delayed" and not self._frames.empty():
                    frames.append(self._frames.get_nowait())
                await self._pass_on(self._reordered(frames) if self._mode == "reordered" else frames)
                if self._frames.empty():
                    self._sent.set()
        finally:
            self._sent.set()

    async def _pass_on(self, frames: Sequence[str]) -> None:
        """As few packets as they fit into."""
        with contextlib.suppress(ConnectionClosed, OSError):
            wire = self._connection.transport.get_extra_info("socket")
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            for frame in frames:
                await self._connection.send(frame)
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    def _reordered(self, frames: Sequence[str]) -> list[str]:
        events = [_event(frame) for frame in frames]
        for event in events:
            if event["type"] in ("response.created", "response.done"):
                self._answering = event["type"] == "response.created"
        return [
            event.get(_MALFORMED) or json.dumps(event) for event in self._orders.of(events, answering=self._answering)
        ]


_MALFORMED: Final = "malformed frame"


def _event(frame: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        event = json.loads(frame)
        if isinstance(event, dict) and isinstance(event.get("type"), str):
            return event
    return {"type": "", _MALFORMED: frame}


class _Transport:
    """What is under a connection; it is cut behind what was to be sent."""

    def __init__(self, connection: ServerConnection, sent: asyncio.Event) -> None:
        self._transport = connection.transport
        self._sent = sent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def abort(self) -> None:
        if self._sent.is_set():
            self._transport.abort()
        else:
            self._cutting = asyncio.create_task(self._abort(), name="cut")

    async def _abort(self) -> None:
        await self._sent.wait()
        self._transport.abort()
