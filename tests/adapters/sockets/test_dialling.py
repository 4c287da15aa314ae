"""Connections of a client's side: what those that do not come about leave behind."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
from python_socks import ProxyError
from websockets.asyncio.server import serve

from support.connect_proxy import connect_proxy
from support.echo_port import Echo, port
from support.tls import Authority
from support.waiting import wait_until
from voicebus.adapters.sockets.dialling import connect
from voicebus.adapters.sockets.uvicorn_upgrade import Accept

# `SO_LINGER` with no time: the connection is reset instead of closed.
RESET = struct.pack("ii", 1, 0)


async def accepted(server: socket.socket) -> socket.socket:
    """The next connection, as soon as it is there."""
    while True:
        try:
            return server.accept()[0]
        except BlockingIOError:
            await asyncio.sleep(0)


LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])


async def test_of_two_addresses_the_one_that_answers_is_taken_though_the_first_swallows_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue()
    serves = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serves.load_cert_chain(pair.certificate, pair.key)
    async with serve(lambda connection: connection.wait_closed(), "127.0.0.1", 0, ssl=serves) as server:
        alive = next(iter(server.sockets)).getsockname()
        with socket.socket() as hole, socket.socket() as fills, socket.socket() as waits:
            # A server whose queue is full answers no further connection, as one behind a dead route.
            hole.bind(("127.0.0.2", alive[1]))
            hole.listen(0)
            for connection in (fills, waits):
                connection.setblocking(False)
                connection.connect_ex(hole.getsockname())
            stream = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, ""
            both = [(*stream, hole.getsockname()), (*stream, alive)]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
            url = f"wss://localhost:{alive[1]}/"
            opened = await connect(url, Echo(), headers={}, timeout_s=20, tls=authority.trusting())
            opened.close()
            await opened.wait_closed()


class Hears(Echo):
    """Says nothing back."""

    def text(self, message: bytes) -> None:
        self.texts.append(message)


@LOOPS
def test_a_server_with_tls_is_talked_to_through_a_proxy(
    new_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    async def scenario() -> None:
        authority, heard = Authority(tmp_path), Hears()
        async with port(lambda _: Accept(Echo()), authority.issue()) as number, connect_proxy(number) as proxy:
            way = f"http://127.0.0.1:{proxy.port}"
            opened = await connect(
                "wss://localhost/", heard, headers={}, timeout_s=20, tls=authority.trusting(), proxy=way
            )
            said = [b"hello", b"x" * 300_000, b"bye"]
            for message in said:
                opened.send_text(message)
            await wait_until(lambda: heard.texts == said, description="the answers")
            opened.close()
            await opened.wait_closed()
        assert proxy.asked == ["CONNECT localhost:443 HTTP/1.1"]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())


@pytest.mark.parametrize("by_proxy", [False, True])
@LOOPS
def test_a_server_that_resets_at_once_costs_nobody_else_a_connection(
    new_loop: Callable[[], asyncio.AbstractEventLoop], by_proxy: bool
) -> None:
    # uvloop refuses a connection whose descriptor it still watches for one that is over; the lowest free number is
    # given first, so whoever comes next has that of the connection which was dialled.
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as model, socket.create_server(("127.0.0.1", 0)) as door:
            model.setblocking(False)
            address = f"127.0.0.1:{model.getsockname()[1]}"
            url, proxy = ("wss://model.example/", f"http://{address}") if by_proxy else (f"ws://{address}/", None)
            for turns in range(12):  # between the connection and its end
                with socket.create_connection(door.getsockname()):
                    dialled = asyncio.create_task(connect(url, Echo(), headers={}, timeout_s=5, proxy=proxy))
                    peer = await accepted(model)
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    peer.close()
                    with pytest.raises((OSError, ProxyError)):
                        await dialled
                    comes, _ = door.accept()
                    comes.setblocking(False)
                    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, comes)
                    transport.abort()
                    await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())
