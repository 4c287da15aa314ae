"""The yardstick: a relay of nothing but `websockets`, frame by frame, no parsing. Prints its port."""

import asyncio
import sys

import websockets
from websockets.asyncio.server import ServerConnection, serve

from voicebus.runtime.lifecycle import run


async def main(model_url: str) -> None:
    """Relay every connection to a connection of its own."""

    async def forward(
        source: websockets.ClientConnection | ServerConnection, sink: ServerConnection | websockets.ClientConnection
    ) -> None:
        async for message in source:
            await sink.send(message)

    async def relay(client: ServerConnection) -> None:
        async with websockets.connect(model_url, compression=None, max_size=None) as model:
            ways = [asyncio.create_task(forward(client, model)), asyncio.create_task(forward(model, client))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async with serve(relay, "127.0.0.1", 0, compression=None, max_size=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    run(main(sys.argv[1]))
