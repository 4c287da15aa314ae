"""Large messages of many connections: they take turns, and nobody else waits for all of them."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from picows import WSMsgType

from voicebus.adapters.sockets.large import AT_ONCE, LARGE_MESSAGE
from voicebus.adapters.sockets.picows_socket import PicowsSocket
from voicebus.adapters.sockets.pieces import Pieces

SIZE = AT_ONCE // 4
CLIENTS = 20
FORMS = ["whole", "in fragments", "binary"]


class Transport:
    """picows' side, of which nothing is asked. Keeps what is `sent`."""

    is_close_frame_sent = False
    is_client_side = False
    close_handshake = None

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.pauses = 0
        self.underlying_transport = SimpleNamespace(
            resume_reading=lambda: self._pause(-1), pause_reading=lambda: self._pause(1)
        )

    def _pause(self, by: int) -> None:
        self.pauses += by

    def send(self, kind: WSMsgType, message: bytes) -> None:
        assert type(message) is bytes
        self.sent.append(message)

    def send_reuse_external_bytearray(self, kind: WSMsgType, framed: bytearray, offset: int) -> None:
        assert offset == 14  # what picows writes its header into
        self.sent.append(bytes(framed[offset:]))


class Client:
    """One connection. All of them write down in `heard` who was heard, and how long a message it was."""

    def __init__(self, number: int, heard: list[tuple[int, int]]) -> None:
        self._number = number
        self._heard = heard
        self.transport = Transport()
        connected: Any = self.transport
        self._connected = connected
        self.socket = PicowsSocket(self)
        self.socket.on_ws_connected(connected)

    def says(self, size: int, form: str = "whole", *, last: bool = True) -> None:
        kind, words = WSMsgType.BINARY if form == "binary" else WSMsgType.TEXT, b"x" * size
        if form == "in fragments":
            self._frame(kind, words[:1], fin=False, last=False)
            kind, words = WSMsgType.CONTINUATION, words[1:]
        self._frame(kind, words, fin=True, last=last)

    def _frame(self, kind: WSMsgType, words: bytes, *, fin: bool, last: bool) -> None:
        frame: Any = SimpleNamespace(
            msg_type=kind, fin=fin, rsv1=0, rsv2=0, rsv3=0, last_in_buffer=last, tail_size=0,
            get_payload_as_bytes=lambda: words,
        )  # fmt: skip
        self.socket.on_ws_frame(self._connected, frame)

    def leaves(self) -> None:
        self.socket.on_ws_disconnected(self._connected)

    def opened(self, socket: Any) -> None: ...

    def text(self, message: bytes) -> None:
        self._heard.append((self._number, len(message)))

    def binary(self, message: bytes) -> None:
        self.text(message)

    def closed(self, code: int, reason: str) -> None:
        self._heard.append((self._number, -code))


def clients(heard: list[tuple[int, int]]) -> list[Client]:
    return [Client(number, heard) for number in range(CLIENTS)]


@pytest.mark.parametrize("form", FORMS)
async def test_large_messages_that_come_at_once_are_heard_some_in_each_turn_of_the_loop(form: str) -> None:
    heard: list[tuple[int, int]] = []
    for client in clients(heard):
        client.says(SIZE, form)
    turns = [len(heard)]
    while sum(turns) < CLIENTS:
        await asyncio.sleep(0)
        turns.append(len(heard) - sum(turns))
    assert max(turns) <= AT_ONCE // SIZE
    assert heard == [(number, SIZE) for number in range(CLIENTS)]


async def test_what_is_not_large_waits_for_none_of_them_but_for_those_of_its_own_connection() -> None:
    heard: list[tuple[int, int]] = []
    talking = clients(heard)
    for client in talking:
        client.says(SIZE, last=False)
        client.says(5)
    other = Client(CLIENTS, heard)
    other.says(LARGE_MESSAGE)
    assert heard[-1] == (CLIENTS, LARGE_MESSAGE)
    assert len(heard) < CLIENTS
    for _ in range(2 * CLIENTS):
        await asyncio.sleep(0)
    assert len(heard) == 2 * CLIENTS + 1
    for number, client in enumerate(talking):
        assert [size for who, size in heard if who == number] == [SIZE, 5]
        assert client.transport.pauses == 0


async def test_one_that_is_larger_than_what_is_heard_at_once_is_heard_and_alone() -> None:
    heard: list[tuple[int, int]] = []
    first, second = Client(0, heard), Client(1, heard)
    first.says(3 * AT_ONCE)
    second.says(3 * AT_ONCE)
    assert heard == [(0, 3 * AT_ONCE)]
    assert (first.transport.pauses, second.transport.pauses) == (0, 1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert heard == [(0, 3 * AT_ONCE), (1, 3 * AT_ONCE)]
    assert second.transport.pauses == 0


async def test_one_that_waits_for_its_turn_is_heard_before_the_end_of_its_connection() -> None:
    heard: list[tuple[int, int]] = []
    Client(0, heard).says(AT_ONCE)
    leaving = Client(1, heard)
    leaving.says(SIZE)
    assert len(heard) == 1
    leaving.leaves()
    assert heard[1:] == [(1, SIZE), (1, -1006)]


@pytest.mark.parametrize("size", [10, 100_000])
async def test_a_message_in_pieces_leaves_as_one(size: int) -> None:
    client = Client(0, [])
    client.socket.send_pieces(Pieces([b"[", b"x" * size, b"]"]))
    assert client.transport.sent == [b"[" + b"x" * size + b"]"]
    client.leaves()
    client.socket.send_pieces(Pieces([b"x" * size]))
    assert len(client.transport.sent) == 1
