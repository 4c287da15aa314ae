"""Connections of a client's side: what those that do not come about leave behind."""

import asyncio
import socket
import struct
from collections.abc import Callable

import pytest
import uvloop
from python_socks import ProxyError

from support.echo_port import Echo
from voicebus.adapters.sockets.dialling import connect

# `SO_LINGER` with no time: the connection is reset instead of closed.
RESET = struct.pack("ii", 1, 0)


async def accepted(server: socket.socket) -> socket.socket:
    """The next connection, as soon as it is there."""
    while True:
        try:
            return server.accept()[0]
        except BlockingIOError:
            await asyncio.sleep(0)


@pytest.mark.parametrize("by_proxy", [False, True])
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
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
