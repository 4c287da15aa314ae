"""A TCP proxy that cuts connections: the network between a client and its server, failing when a test says so."""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# `SO_LINGER` with no time: the connection is reset instead of closed.
_RESET = struct.pack("ii", 1, 0)
# Bytes; without that the kernel keeps more and more, up to several MB.
_NARROW = 8 * 1024


class CuttingProxy:
    """Forwards to `target` (a port on this machine) from `port`. While `refuses`, new connections are reset at once.

    What a client sends with `slow_word` in it is held up for `slow_s`, as by a server that is long at it. With `narrow`
    new connections hold little of what the server sends: once frozen, it is the server that has to keep the rest.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.refuses = False
        self.narrow = False
        self.slow_word = b""
        self.slow_s = 0.0
        self.accepted = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._deaf: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    def cut(self) -> None:
        """Reset every connection, on both sides, with neither a closing handshake nor a FIN."""
        for writer in list(self._writers):
            _abort(writer)

    def cut_one(self, chance: random.Random) -> None:
        """Reset one side of one connection, whichever it is; nothing where there is none."""
        if self._writers:
            _abort(chance.choice(list(self._writers)))

    def freeze(self) -> None:
        """Let nothing through any more, and tell nobody."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let what has waited through, and all that comes."""
        self._flowing.set()

    def deafen(self) -> None:
        """Let nothing of the server's through any more on the connections that there are."""
        self._deaf |= self._writers

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.refuses:
            _abort(writer)
            return
        try:
            upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:  # it is not there, and whoever wants it is to know at once
            _abort(writer)
            return
        if self.narrow:
            upstream.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW)
        self._writers |= {writer, upstream}
        try:
            await asyncio.gather(self._pump(reader, upstream), self._pump(upstream_reader, writer, towards_client=True))
        finally:
            self._writers -= {writer, upstream}
            self._deaf -= {writer, upstream}
            writer.close()
            upstream.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, towards_client: bool = False
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                if towards_client and writer in self._deaf:
                    continue
                if not towards_client and self.slow_word and self.slow_word in data:
                    await asyncio.sleep(self.slow_s)
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):  # cut already
            writer.write_eof()


def _abort(writer: asyncio.StreamWriter) -> None:
    raw: socket.socket = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # closed already
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


@asynccontextmanager
async def cutting_proxy(target: int) -> AsyncIterator[CuttingProxy]:
    """A proxy in front of a port, for the time of the block."""
    proxy = CuttingProxy(target)
    tasks: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer), name="cutting-proxy")
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
