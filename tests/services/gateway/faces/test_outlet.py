"""The way out to a client that must not slow anybody."""

import asyncio

import pytest

from support.waiting import wait_until
from voicebus_services.gateway.faces import outlet
from voicebus_services.gateway.faces.outlet import Outlet


class FakeSocket:
    """A peer that reads when it is told to. Implements `Socket`."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        self._reads = asyncio.Event()
        self._reads.set()

    def reads(self, yes: bool) -> None:
        if yes:
            self._reads.set()
        else:
            self._reads.clear()

    @property
    def is_congested(self) -> bool:
        return not self._reads.is_set()

    async def writable(self) -> None:
        await self._reads.wait()

    def send_text(self, message: bytes) -> None:
        self.sent.append(message)

    def send_binary(self, message: bytes) -> None:
        self.sent.append(message)

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed = (code, reason)

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    async def wait_closed(self) -> None: ...


async def test_frames_go_straight_out_while_the_peer_reads_and_wait_in_order_while_it_does_not() -> None:
    socket = FakeSocket()
    out = Outlet(socket)
    out.send(b"1")
    assert socket.sent == [b"1"]
    socket.reads(False)
    out.send(b"2")
    out.send(b"3", binary=True, audio=True)
    assert socket.sent == [b"1"]
    socket.reads(True)
    out.send(b"4")
    await wait_until(lambda: len(socket.sent) == 4, description="what waited")
    assert socket.sent == [b"1", b"2", b"3", b"4"]


async def test_the_oldest_audio_is_dropped_and_no_event_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet, "MAX_AUDIO", 40)
    socket = FakeSocket()
    out = Outlet(socket)
    socket.reads(False)
    for number in range(8):
        out.send(b"event%d" % number)
        out.send(b"%010d" % number, binary=True, audio=True)
    socket.reads(True)
    await wait_until(lambda: socket.sent and socket.sent[-1] == b"%010d" % 7, description="what was kept")
    assert [frame for frame in socket.sent if frame.startswith(b"event")] == [b"event%d" % n for n in range(8)]
    heard = [int(frame) for frame in socket.sent if not frame.startswith(b"event")]
    assert heard == list(range(8 - len(heard), 8))
    assert out.dropped == 10 * (8 - len(heard)) > 0


async def test_a_peer_that_leaves_too_many_events_is_closed_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet, "MAX_EVENTS", 30)
    socket = FakeSocket()
    out = Outlet(socket)
    socket.reads(False)
    for _ in range(4):
        out.send(b"0123456789")
    await wait_until(lambda: socket.closed is not None, description="the close")
    assert socket.closed == (1013, "too slow")
    socket.reads(True)
    out.send(b"more")
    assert socket.sent == []
