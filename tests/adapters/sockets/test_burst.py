"""What is sent because of one read leaves in one write for each connection, in order and whole."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from picows import WSMsgType
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode

from support.echo_port import HANDSHAKE
from voicebus.adapters.sockets import Socket
from voicebus.adapters.sockets.picows_socket import PicowsSocket
from voicebus.adapters.sockets.uvicorn_upgrade import Accept, upgrade_hook
from voicebus_services.http import serving


class Forwards:
    """Sends what it hears to its sinks: text as text, binary as binary. `close` is answered by a close."""

    def __init__(self, *sinks: Any) -> None:
        self.sinks = list(sinks)

    def opened(self, socket: Socket) -> None:
        self.sinks = self.sinks or [socket]

    def text(self, message: bytes) -> None:
        for sink in self.sinks:
            sink.close(1000, "as asked") if message == b"close" else sink.send_text(message)

    def binary(self, message: bytes) -> None:
        for sink in self.sinks:
            sink.send_binary(message)

    def closed(self, code: int, reason: str) -> None: ...


class Side:
    """One side of a connection as picows has it; `wrote` is what left, by the call that it left with."""

    is_close_frame_sent = False
    is_disconnected = False
    close_handshake = None

    def __init__(self, *, is_client_side: bool = False, is_gone: bool = False) -> None:
        self.is_client_side = is_client_side
        self.wrote: list[bytes] = []

        def write(data: bytes) -> None:
            if is_gone:
                raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")
            self.wrote.append(data)

        self.underlying_transport = SimpleNamespace(
            write=write, get_write_buffer_size=lambda: 0, resume_reading=lambda: None, pause_reading=lambda: None
        )

    def send(self, kind: WSMsgType, message: bytes) -> None:
        self.wrote.append(bytes(message))

    def send_reuse_external_bytearray(self, kind: WSMsgType, framed: bytearray, offset: int) -> None:
        self.wrote.append(bytes(framed[offset:]))

    def send_close(self, code: int, reason: str = "") -> None:
        self.wrote.append(b"close")

    def disconnect(self, *, graceful: bool = True) -> None:
        self.wrote.append(b"cut")


def opened(listener: Any, side: Any) -> PicowsSocket:
    socket = PicowsSocket(listener)
    socket.on_ws_connected(side)
    return socket


def read(socket: PicowsSocket, *messages: bytes, kind: WSMsgType = WSMsgType.TEXT) -> None:
    """Bring these in one read."""
    side: Any = socket._transport
    for number, message in enumerate(messages, 1):
        frame: Any = SimpleNamespace(
            msg_type=kind, fin=True, rsv1=False, rsv2=False, rsv3=False, last_in_buffer=number == len(messages),
            tail_size=0,
            get_payload_as_bytes=lambda message=message: message,
        )  # fmt: skip
        socket.on_ws_frame(side, frame)


LONG = b"x" * 200
LARGE = b"y" * 9000
FRAMED = {b"a": b"\x81\x01a", b"b": b"\x81\x01b", LONG: b"\x81\x7e\x00\xc8" + LONG}


async def test_what_is_sent_because_of_one_read_leaves_in_one_write_for_each_connection() -> None:
    one, two = Side(), Side()
    model = opened(Forwards(opened(Forwards(), one), opened(Forwards(), two)), Side(is_client_side=True))
    read(model, b"a", LONG, b"b")
    assert one.wrote == two.wrote == [FRAMED[b"a"] + FRAMED[LONG] + FRAMED[b"b"]]


async def test_a_message_that_comes_alone_leaves_as_it_is_heard() -> None:
    client = Side()
    model = opened(Forwards(opened(Forwards(), client)), Side(is_client_side=True))
    read(model, b"a")
    read(model, b"b")
    assert client.wrote == [b"a", b"b"]


async def test_what_leaves_by_itself_leaves_behind_what_was_said_before_it() -> None:
    client = Side()
    model = opened(Forwards(opened(Forwards(), client)), Side(is_client_side=True))
    read(model, b"a", LARGE, b"b", b"close", b"not any more")
    assert client.wrote == [FRAMED[b"a"], LARGE, FRAMED[b"b"], b"close"]


async def test_the_side_that_masks_sends_each_by_itself() -> None:
    model = Side(is_client_side=True)
    client = opened(Forwards(opened(Forwards(), model)), Side())
    read(client, b"a", b"b")
    assert model.wrote == [b"a", b"b"]


async def test_a_connection_that_is_gone_does_not_keep_the_others_from_what_was_said() -> None:
    gone, there, model = Side(is_gone=True), Side(), Side(is_client_side=True)
    reader = opened(Forwards(opened(Forwards(), gone), opened(Forwards(), there)), model)
    read(reader, b"a", b"b")
    assert there.wrote == [FRAMED[b"a"] + FRAMED[b"b"]]
    assert (gone.wrote, model.wrote) == ([b"cut"], [])


async def test_a_listener_that_fails_does_not_hold_back_what_others_send() -> None:
    class Fails(Forwards):
        def text(self, message: bytes) -> None:
            super().text(message)
            if message == b"b":
                raise ValueError("an error of our own")

    client = Side()
    talks = opened(Forwards(), client)
    read(opened(Fails(talks), Side(is_client_side=True)), b"a", b"b")
    talks.send_text(b"later")
    assert client.wrote == [FRAMED[b"a"] + FRAMED[b"b"], b"later"]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 8192, 8193, 65_535, 65_536, 100_000])
async def test_a_client_that_says_much_at_once_is_answered_in_order_and_whole(size: int) -> None:
    said: list[str | bytes] = ["one", b"\x00\x01", "ä" * (size // 2), bytes(size), "last"]
    frames = [Frame(Opcode.TEXT, m.encode()) if isinstance(m, str) else Frame(Opcode.BINARY, m) for m in said]
    hook = upgrade_hook(lambda _: Accept(Forwards()))
    async with (
        serving(FastAPI(), host="127.0.0.1", port=0, ws=hook) as server,
        connect(f"ws://127.0.0.1:{server.port}/", max_size=None, compression=None) as client,
    ):
        client.transport.write(b"".join(frame.serialize(mask=True) for frame in frames))
        assert [await client.recv() for _ in said] == said


async def test_to_who_breaks_the_protocol_nothing_is_sent_behind_the_close() -> None:
    said = [Frame(Opcode.TEXT, text).serialize(mask=True) for text in (b"one", b"two")]
    hook = upgrade_hook(lambda _: Accept(Forwards()))
    async with serving(FastAPI(), host="127.0.0.1", port=0, ws=hook) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        no_frame = b"\x83\x80\0\0\0\0"  # of a kind that there is not
        writer.write(b"".join(said) + no_frame)
        heard = await reader.read()
        writer.close()
    assert heard[:1] == b"\x88"
    assert len(heard) == 2 + heard[1]
