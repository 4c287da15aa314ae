"""The other yardstick: a relay of nothing but `picows`, frame by frame, without parsing. Prints its port."""

import asyncio
import sys

import picows
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest

from voicebus.runtime.lifecycle import run


class Side(WSListener):
    """One side of a conversation; what comes is sent to the other, or kept until that is there."""

    def __init__(self) -> None:
        self.transport: WSTransport | None = None
        self.other: Side | None = None
        self._early: list[tuple[WSMsgType, bytes]] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif self.other is not None and self.other.transport is not None:
            self.other.transport.send(frame.msg_type, frame.get_payload_as_memoryview())
        else:
            self._early.append((frame.msg_type, frame.get_payload_as_bytes()))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.send_close(WSCloseCode.OK)
            self.other.transport.disconnect()

    def join(self, other: "Side") -> None:
        self.other, other.other = other, self
        for source, sink in ((self, other), (other, self)):
            for kind, payload in source._early:
                if sink.transport is not None:
                    sink.transport.send(kind, payload)
            source._early.clear()


async def main(model_url: str) -> None:
    """Relay every connection to a connection of its own."""
    dialling: set[asyncio.Task[None]] = set()

    async def dial(client: Side) -> None:
        model = Side()
        await picows.ws_connect(lambda: model, model_url)
        client.join(model)

    def accept(_: WSUpgradeRequest) -> WSListener:
        client = Side()
        task = asyncio.create_task(dial(client), name="dial")
        dialling.add(task)
        task.add_done_callback(dialling.discard)
        return client

    server = await picows.ws_create_server(accept, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    run(main(sys.argv[1]))
