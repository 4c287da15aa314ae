"""What a client connection is asked to honour: its pings, its patience, and the size of a message."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import websockets
from websockets.asyncio.server import ServerConnection, serve

from support.waiting import wait_until
from voicebus.adapters.sockets import ABNORMAL, MESSAGE_TOO_BIG, Keepalive, Socket
from voicebus.adapters.sockets.acknowledged import Progress
from voicebus.adapters.sockets.dialling import connect


@dataclass
class Ear:
    socket: Socket | None = None
    sizes: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)

    def opened(self, socket: Socket) -> None:
        self.socket = socket

    def text(self, message: bytes) -> None:
        self.sizes.append(len(message))

    def binary(self, message: bytes) -> None:
        self.sizes.append(len(message))

    def closed(self, code: int, reason: str) -> None:
        self.ended.append(code)


@asynccontextmanager
async def server(talk: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[str]:
    async with serve(talk, "127.0.0.1", 0, ping_interval=None, max_size=None) as running:
        yield f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}/"


@asynccontextmanager
async def raw_server(pongs: bool) -> AsyncIterator[tuple[str, list[int]]]:
    """A server below the library: counts pings, and answers them only when told to."""
    pings: list[int] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        key = next(
            line.split(b": ")[1] for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
        )
        accept = websockets.utils.accept_key(key.decode()).encode()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                opcode, length = await reader.readexactly(2)
                await reader.readexactly(4 + (length & 0x7F))
                if opcode & 0x0F == 9:
                    pings.append(1)
                    if pongs:
                        writer.write(b"\x8a\x00")
        writer.close()

    running = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with running:
        yield f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}/", pings


async def test_a_peer_that_answers_pings_is_kept() -> None:
    ear = Ear()
    async with raw_server(pongs=True) as (url, pings):
        socket = await connect(url, ear, headers={}, timeout_s=5, keepalive=Keepalive(0.01, 5.0))
        await wait_until(lambda: len(pings) > 3, description="several pings")
        assert not ear.ended
        socket.close()
        await socket.wait_closed()


async def test_a_peer_that_answers_no_ping_is_dropped() -> None:
    ear = Ear()
    async with raw_server(pongs=False) as (url, pings):
        await connect(url, ear, headers={}, timeout_s=5, keepalive=Keepalive(0.01, 0.05))
        await wait_until(lambda: ear.ended, description="the end")
    assert pings
    assert ear.ended == [ABNORMAL]


@pytest.mark.parametrize(("interval_s", "timeout_s"), [(0.01, 0.05), (0.05, 0.01)])
async def test_a_peer_whose_pong_stands_behind_what_it_sends_is_kept_while_anything_comes(
    monkeypatch: pytest.MonkeyPatch, interval_s: float, timeout_s: float
) -> None:
    ear, asked = Ear(), itertools.count(1)
    comes = True

    def progress(_: object) -> Progress:
        return Progress(sent=next(asked) if comes else 0)

    monkeypatch.setattr("voicebus.adapters.sockets.pings.progress", progress)
    async with raw_server(pongs=False) as (url, pings):
        await connect(url, ear, headers={}, timeout_s=5, keepalive=Keepalive(interval_s, timeout_s))
        await wait_until(lambda: len(pings) > 15, description="pings for longer than a pong may take")
        assert not ear.ended
        comes = False
        await wait_until(lambda: ear.ended, description="the end")


async def test_pings_without_a_limit_for_their_answer_drop_nobody() -> None:
    ear = Ear()
    async with raw_server(pongs=False) as (url, pings):
        socket = await connect(url, ear, headers={}, timeout_s=5, keepalive=Keepalive(0.01, None))
        await wait_until(lambda: len(pings) > 3, description="several pings")
        assert not ear.ended
        socket.close()
        await socket.wait_closed()


async def test_no_pings_are_sent_where_none_are_wanted() -> None:
    ear = Ear()
    async with raw_server(pongs=False) as (url, pings):
        socket = await connect(url, ear, headers={}, timeout_s=5, keepalive=Keepalive(None, 0.01))
        for _ in range(20):
            await asyncio.sleep(0)
        socket.close()
        await socket.wait_closed()
    assert not pings


async def test_a_message_may_be_as_large_as_it_likes_where_no_limit_is_set() -> None:
    ear = Ear()

    async def talk(connection: ServerConnection) -> None:
        await connection.send("x" * 40_000_000)
        await connection.wait_closed()

    async with server(talk) as url:
        socket = await connect(url, ear, headers={}, timeout_s=5, max_message=None)
        await wait_until(lambda: ear.sizes, description="the message")
        socket.close()
        await socket.wait_closed()
    assert ear.sizes == [40_000_000]


@pytest.mark.parametrize("pieces", [["x" * 2000], ["x" * 900, "x" * 900]])
async def test_a_message_over_the_limit_closes_the_connection_whole_or_in_fragments(pieces: list[str]) -> None:
    ear = Ear()
    seen: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def talk(connection: ServerConnection) -> None:
        async def parts() -> AsyncIterator[str]:
            for piece in pieces:
                yield piece

        with contextlib.suppress(websockets.ConnectionClosed):
            await connection.send(parts())
            await connection.wait_closed()
        seen.set_result(connection.close_code)

    async with server(talk) as url:
        socket = await connect(url, ear, headers={}, timeout_s=5, max_message=1000)
        assert await seen == MESSAGE_TOO_BIG
        await socket.wait_closed()
    assert ear.ended == [MESSAGE_TOO_BIG]
    assert ear.sizes == []
