"""A socket towards its end: how long a peer is waited for that takes its time."""

from collections import deque
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from support.waiting import wait_until
from voicebus.adapters.sockets import picows_socket
from voicebus.adapters.sockets.picows_socket import PicowsSocket


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
            resume_reading=lambda: None,
            get_write_buffer_size=lambda: self.sizes.popleft() if len(self.sizes) > 1 else self.sizes[0],
        )

    def send_close(self, code: int, reason: str) -> None:
        self.said.append(f"close {code}")

    def disconnect(self, *, graceful: bool) -> None:
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
    assert transport.said == ["close 1013", "cut"]
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
