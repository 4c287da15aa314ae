"""How far a peer has come is told of every connection: by the kernel of TCP's, else by what is buffered here.

What it has sent, and whether it takes what waits, is told of TCP's alone, also where nothing is read here.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import uvloop

from support.waiting import wait_until
from voicebus.adapters.sockets.acknowledged import Progress, acknowledged, progress

LARGE = 30_000_000

pytestmark = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
NewLoop = Callable[[], asyncio.AbstractEventLoop]


def tcp() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        return server.accept()[0], peer


class Ends(asyncio.Protocol):
    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set()


@asynccontextmanager
async def transport_of(end: socket.socket) -> AsyncIterator[asyncio.Transport]:
    loop = asyncio.get_running_loop()
    connect = loop.create_unix_connection if end.family == socket.AF_UNIX else loop.create_connection
    transport, protocol = await connect(Ends, sock=end)
    try:
        yield transport
    finally:
        transport.abort()
        await protocol.ended.wait()


def over(
    ends: tuple[socket.socket, socket.socket],
    new_loop: NewLoop,
    main: Callable[[asyncio.Transport, socket.socket], Awaitable[None]],
) -> None:
    """Run `main` with a transport of the one end, and the other one."""
    end, peer = ends

    async def run() -> None:
        async with transport_of(end) as transport:
            await main(transport, peer)

    with peer, asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


def is_beyond(transport: asyncio.Transport, before: int) -> bool:
    return acknowledged(transport) > before


def take(peer: socket.socket, size: int) -> None:
    while size > 0:
        size -= len(peer.recv(size))


def test_it_grows_with_what_a_peer_takes_of_one_large_message(new_loop: NewLoop) -> None:
    async def main(transport: asyncio.Transport, peer: socket.socket) -> None:
        assert acknowledged(transport) >= 0  # the peer has said that it is there
        transport.write(b"x" * LARGE)
        for _ in range(3):
            before = acknowledged(transport)
            await asyncio.to_thread(take, peer, 3_000_000)
            await wait_until(partial(is_beyond, transport, before), description="the news of it")
        await asyncio.to_thread(take, peer, LARGE - 9_000_000)
        await wait_until(lambda: acknowledged(transport) >= LARGE, description="that it has all")

    over(tcp(), new_loop, main)


def test_of_a_connection_that_is_no_tcp_it_is_what_is_not_buffered_any_more(new_loop: NewLoop) -> None:
    async def main(transport: asyncio.Transport, peer: socket.socket) -> None:
        transport.write(b"x" * LARGE)
        before = acknowledged(transport)
        assert -LARGE <= before < 0
        await asyncio.to_thread(take, peer, LARGE)
        await wait_until(lambda: acknowledged(transport) == 0, description="that nothing is buffered")

    over(socket.socketpair(), new_loop, main)


def test_what_a_peer_has_sent_grows_also_while_nothing_of_it_is_read(new_loop: NewLoop) -> None:
    async def main(transport: asyncio.Transport, peer: socket.socket) -> None:
        transport.pause_reading()
        before = progress(transport).sent
        peer.sendall(b"x" * 1000)
        await wait_until(lambda: progress(transport).sent == before + 1000, description="the news of it")

    over(tcp(), new_loop, main)


def test_what_a_peer_has_sent_over_no_tcp_is_not_counted(new_loop: NewLoop) -> None:
    async def main(transport: asyncio.Transport, peer: socket.socket) -> None:
        peer.sendall(b"x" * 1000)
        assert progress(transport) == Progress()

    over(socket.socketpair(), new_loop, main)


def test_a_peer_that_takes_what_waits_for_it_is_there(new_loop: NewLoop) -> None:
    async def main(transport: asyncio.Transport, peer: socket.socket) -> None:
        transport.write(b"x" * LARGE)
        before = progress(transport)
        assert before.waiting > 0
        await asyncio.to_thread(take, peer, 9_000_000)
        await wait_until(lambda: progress(transport).is_beyond(before), description="the news of it")
        await asyncio.to_thread(take, peer, LARGE - 9_000_000)
        await wait_until(lambda: progress(transport).taken >= LARGE, description="that it has all")
        # That nothing waits any more says nothing of who took it.
        assert not progress(transport).is_beyond(before)

    over(tcp(), new_loop, main)


@pytest.mark.parametrize("asked_before", [False, True])
def test_a_connection_that_is_closed_may_be_asked(new_loop: NewLoop, asked_before: bool) -> None:
    async def main(transport: asyncio.Transport, peer: socket.socket) -> None:
        if asked_before:
            acknowledged(transport)
        transport.abort()
        await asyncio.to_thread(peer.recv, 1)
        assert acknowledged(transport) == 0
        assert progress(transport).sent == 0

    over(tcp(), new_loop, main)
