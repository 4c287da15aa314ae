"""Who comes to a public port and cannot be taken in."""

import asyncio
import os
import socket
from contextlib import ExitStack

import pytest
import uvloop
from fastapi import FastAPI

from voicebus_services.http import serving

ASKS = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def answer(client: socket.socket) -> bytes:
    reader, writer = await asyncio.open_connection(sock=client)
    writer.write(ASKS)
    try:
        return await reader.read()
    finally:
        writer.close()


# uvloop leaves its half of such a connection open, and warns of that.
@pytest.mark.filterwarnings("ignore:unclosed resource <TCPTransport:ResourceWarning")
def test_a_connection_that_the_loop_cannot_take_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with serving(FastAPI(), host="127.0.0.1", port=0) as server:
            address = ("127.0.0.1", server.port)
            assert (await answer(socket.create_connection(address))).startswith(b"HTTP/1.1 404")
            with ExitStack() as stack:
                # uvloop takes no connection whose descriptor has the number of one that it watches still.
                watched, _other = (stack.enter_context(each) for each in socket.socketpair())
                number = watched.fileno()
                loop.add_reader(number, lambda: None)
                await asyncio.sleep(0.01)  # it begins to watch with the next turn
                client = socket.create_connection(address)
                watched.close()
                while (lower := os.dup(client.fileno())) != number:
                    stack.callback(os.close, lower)
                os.close(lower)
                try:
                    assert await answer(client) == b""
                finally:
                    loop.remove_reader(number)
            assert "a connection cannot be served" in caplog.text
            assert (await answer(socket.create_connection(address))).startswith(b"HTTP/1.1 404")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
