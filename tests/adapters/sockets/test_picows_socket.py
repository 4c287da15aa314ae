"""A socket towards its end: how long a peer is waited for that takes its time. And one whose peer sends a flood."""

import asyncio
import tracemalloc
from collections import deque
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from picows import WSMsgType

from support.waiting import wait_until
from voicebus.adapters.sockets import picows_socket
from voicebus.adapters.sockets.picows_socket import PicowsSocket
from voicebus.adapters.sockets.unfinished import LARGE, Unfinished


class Listener:
    def opened(self, socket: Any) -> None: ...

    def text(self, message: bytes) -> None: ...

    def binary(self, message: bytes) -> None: ...

    def closed(self, code: int, reason: str) -> None: ...


class Transport:
    """picows' side. `sizes` is what its buffer holds each time that somebody looks, the last one from then on."""

    is_close_frame_sent = False
    is_client_side = False

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = deque(sizes)
        self.said: list[str] = []
        self.underlying_transport = SimpleNamespace(
            resume_reading=lambda: self.said.append("resumed"),
            pause_reading=lambda: self.said.append("paused"),
            get_write_buffer_size=lambda: self.sizes.popleft() if len(self.sizes) > 1 else self.sizes[0],
        )

    def send_close(self, code: int, reason: str = "") -> None:
        self.said.append(f"close {code}")

    close_handshake = None

    def send_pong(self, message: bytes) -> None:
        self.said.append(f"pong {message.decode()}")

    def disconnect(self, *, graceful: bool = True) -> None:
        self.said.append("in order" if graceful else "cut")


def closing(transport: Transport) -> PicowsSocket:
    socket = PicowsSocket(Listener())
    connected: Any = transport
    socket.on_ws_connected(connected)
    socket.close(1013, "too slow")
    return socket


async def test_a_peer_that_still_takes_what_was_sent_before_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picows_socket, "CLOSE_TIMEOUT_S", 0.001)
    # Looked at twice in each period: at its end, and where the next one begins.
    transport = Transport([400, 300, 300, 200, 200, 100, 100, 100])
    closing(transport)
    await wait_until(lambda: "cut" in transport.said, description="the end")
    assert transport.said == ["close 1013", "resumed", "cut"]
    assert list(transport.sizes) == [100], "it went on as long as the peer took anything"


@pytest.mark.parametrize("left", [0, 500], ids=["has everything", "takes nothing"])
async def test_a_peer_that_takes_nothing_more_and_does_not_answer_is_cut(
    monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    monkeypatch.setattr(picows_socket, "CLOSE_TIMEOUT_S", 0.001)
    transport = Transport([left])
    closing(transport)
    await wait_until(lambda: "cut" in transport.said, description="the end")


async def test_a_peer_that_takes_a_little_for_ever_is_cut_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picows_socket, "CLOSE_TIMEOUT_S", 0.001)
    monkeypatch.setattr(picows_socket, "CLOSE_LIMIT_S", 0.01)
    transport = Transport(range(1_000_000, 0, -1))
    closing(transport)
    await wait_until(lambda: "cut" in transport.said, description="the end")
    assert len(transport.sizes) > 1


def frame(kind: WSMsgType, payload: bytes = b"", *, fin: bool = True, last: bool = True) -> Any:
    return SimpleNamespace(
        msg_type=kind, fin=fin, rsv1=False, rsv2=False, rsv3=False, last_in_buffer=last, tail_size=0,
        get_payload_as_bytes=lambda: payload,
    )  # fmt: skip


def opened(transport: Transport) -> PicowsSocket:
    socket = PicowsSocket(Listener())
    connected: Any = transport
    socket.on_ws_connected(connected)
    return socket


async def test_of_the_pings_of_a_peer_that_reads_nothing_the_newest_is_answered_once_it_reads_again() -> None:
    transport: Any = Transport([0])
    socket = opened(transport)
    socket.on_ws_frame(transport, frame(WSMsgType.PING, b"1"))
    socket.pause_writing()
    for number in range(2, 100):
        socket.on_ws_frame(transport, frame(WSMsgType.PING, b"%d" % number))
    assert transport.said == ["pong 1"]
    socket.resume_writing()
    socket.on_ws_frame(transport, frame(WSMsgType.PING, b"100"))
    socket.pause_writing()
    socket.resume_writing()
    assert transport.said == ["pong 1", "pong 99", "pong 100"]


@pytest.mark.parametrize("kind", [WSMsgType.PING, WSMsgType.PONG, WSMsgType.CONTINUATION])
async def test_a_flood_of_frames_that_are_no_message_is_read_later(kind: WSMsgType) -> None:
    transport: Any = Transport([0])
    socket = opened(transport)
    if kind is WSMsgType.CONTINUATION:
        socket.on_ws_frame(transport, frame(WSMsgType.BINARY, fin=False))
    for _ in range(2 * picows_socket._MINOR_PER_S):
        socket.on_ws_frame(transport, frame(kind, fin=kind is not WSMsgType.CONTINUATION))
    assert "paused" in transport.said
    paused = transport.said.count("paused")
    await wait_until(lambda: transport.said.count("resumed") == 1, description="reading", timeout=20)
    assert paused <= 2


async def test_a_message_in_tiny_fragments_takes_no_more_memory_than_its_bytes() -> None:
    transport: Any = Transport([0])
    socket = opened(transport)
    socket.on_ws_frame(transport, frame(WSMsgType.BINARY, fin=False))
    tiny = [frame(WSMsgType.CONTINUATION, bytes([n % 256, 1]), fin=False) for n in range(256)]
    tracemalloc.start()
    for _ in range(200):
        for one in tiny:
            one.get_payload_as_bytes = lambda: bytes(bytearray(2))
            socket.on_ws_frame(transport, one)
            socket.on_ws_frame(transport, frame(WSMsgType.CONTINUATION, fin=False))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 512 * 1024, "51,200 fragments of two bytes, and as many of none"
    socket.on_ws_disconnected(transport)  # it counts in this process


async def test_a_peer_whose_own_next_fragment_is_too_much_for_all_is_told_so() -> None:
    transport: Any = Transport([0])
    socket = PicowsSocket(Listener(), unfinished=(unfinished := Unfinished(room=2 * LARGE)))
    socket.on_ws_connected(transport)
    socket.on_ws_frame(transport, frame(WSMsgType.BINARY, bytes(LARGE), fin=False))
    others: Any = object()
    unfinished.hold(others, LARGE)
    socket.on_ws_frame(transport, frame(WSMsgType.CONTINUATION, b"x", fin=False))
    assert transport.said == ["close 1013", "resumed", "paused"]
    assert (unfinished.size, socket.arriving.is_counted) == (LARGE, False)
    socket.on_ws_frame(transport, frame(WSMsgType.CONTINUATION, bytes(LARGE), fin=False))
    assert unfinished.size == LARGE, "what it sends still is nobody's message"
    socket.on_ws_disconnected(transport)


async def test_the_fragment_that_makes_a_message_whole_keeps_nobody_out() -> None:
    hears, transport = Hears(), Transport([0])
    connected: Any = transport
    socket = PicowsSocket(hears, unfinished=(unfinished := Unfinished(room=2 * LARGE)))
    socket.on_ws_connected(connected)
    socket.on_ws_frame(connected, frame(WSMsgType.TEXT, b"x" * (2 * LARGE), fin=False))
    socket.on_ws_frame(connected, frame(WSMsgType.CONTINUATION, b"x"))
    socket.count()
    assert ([len(message) for message in hears.heard], unfinished.size) == ([2 * LARGE + 1], 0)


class Hears(Listener):
    """Writes down what it hears; closes its socket at `closes_at`."""

    def __init__(self, closes_at: int = -1) -> None:
        self.heard: list[str] = []
        self.socket: Any = None
        self._closes_at = closes_at

    def opened(self, socket: Any) -> None:
        self.socket = socket

    def text(self, message: bytes) -> None:
        self.heard.append(message.decode())
        if len(self.heard) == self._closes_at:
            self.socket.close()

    def binary(self, message: bytes) -> None:
        self.text(message)

    def closed(self, code: int, reason: str) -> None:
        self.heard.append(f"closed {code}")


FLOOD = [str(number) for number in range(100)]


def flooded(hears: Hears) -> tuple[PicowsSocket, Any]:
    """A socket that was brought a hundred messages of all kinds in one buffer."""
    transport: Any = Transport([0])
    socket = PicowsSocket(hears)
    socket.on_ws_connected(transport)
    for number, word in enumerate(FLOOD):
        first, second = (WSMsgType.TEXT, WSMsgType.BINARY)[number % 2], WSMsgType.CONTINUATION
        last = word == FLOOD[-1]
        if number % 7:
            socket.on_ws_frame(transport, frame(first, word.encode(), last=last))
        else:
            socket.on_ws_frame(transport, frame(first, word[:1].encode(), fin=False, last=False))
            socket.on_ws_frame(transport, frame(second, word[1:].encode(), last=last))
    return socket, transport


async def test_of_a_flood_each_turn_of_the_loop_takes_a_share_and_nothing_more_is_read_before_its_end() -> None:
    hears = Hears()
    _, transport = flooded(hears)
    assert transport.said == ["paused"]
    shares = [len(hears.heard)]
    while len(hears.heard) < len(FLOOD):
        before = len(hears.heard)
        await asyncio.sleep(0)
        shares.append(len(hears.heard) - before)
    assert max(shares) < 25, f"others had their turn after so many: {shares}"
    assert hears.heard == FLOOD
    assert transport.said == ["paused", "resumed"]


async def test_messages_that_come_one_by_one_are_heard_at_once() -> None:
    hears = Hears()
    transport: Any = Transport([0])
    socket = PicowsSocket(hears)
    socket.on_ws_connected(transport)
    for word in FLOOD:
        socket.on_ws_frame(transport, frame(WSMsgType.TEXT, word.encode()))
    assert (hears.heard, transport.said) == (FLOOD, [])


@pytest.mark.parametrize("code", [1000, 1006], ids=["close frame", "lost"])
async def test_what_came_before_the_end_of_a_connection_is_heard_before_it(code: int) -> None:
    hears = Hears()
    socket, transport = flooded(hears)
    if code == 1000:
        socket.on_ws_frame(transport, frame(WSMsgType.CLOSE, code.to_bytes(2, "big")))
    socket.on_ws_disconnected(transport)
    await asyncio.sleep(0)
    assert hears.heard == [*FLOOD, f"closed {code}"]


@pytest.mark.parametrize("closes_at", [3, 20], ids=["in the first turn", "in a later one"])
async def test_what_comes_behind_our_own_close_is_not_heard(closes_at: int) -> None:
    hears = Hears(closes_at)
    socket, transport = flooded(hears)
    for _ in FLOOD:
        await asyncio.sleep(0)
    assert hears.heard == FLOOD[:closes_at]
    socket.on_ws_disconnected(transport)
    assert hears.heard[closes_at:] == ["closed 1006"]
