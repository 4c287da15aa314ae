"""A company's HTTP proxy: takes CONNECT and plain requests to one port of this machine, whatever name is asked for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class ConnectProxy:
    """`asked` is what was asked for; with `refusing` nothing is let through."""

    port: int = 0
    refusing: bool = False
    asked: list[str] = field(default_factory=list)


@asynccontextmanager
async def connect_proxy(to_port: int, *, refusing: bool = False) -> AsyncIterator[ConnectProxy]:
    proxy = ConnectProxy(refusing=refusing)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        proxy.asked.append(request.split(b"\r\n")[0].decode())
        if proxy.refusing:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        there, onwards = await asyncio.open_connection("127.0.0.1", to_port)
        if request.startswith(b"CONNECT "):
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            onwards.write(request)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(carry(reader, onwards), name="proxy-out")
                both.create_task(carry(there, writer), name="proxy-back")
        except* ConnectionError:  # one of the two hung up
            onwards.close()
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy
