"""The way out to a client that must not slow anybody."""

import asyncio

import pytest

from support.waiting import wait_until
from voicebus.adapters.sockets.pieces import Pieces
from voicebus_services.gateway.faces import outlet
from voicebus_services.gateway.faces.outlet import CROWDED, Crowd, Outlet


class FakeSocket:
    """A peer that reads when it is told to. Implements `Socket`."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        self.taken = 0
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

    def send_pieces(self, message: Pieces) -> None:
        self.sent.append(bytes(message))

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


async def test_what_is_withheld_waits_in_order_until_it_is_released() -> None:
    socket = FakeSocket()
    out = Outlet(socket)
    out.withhold()
    out.send(b"1")
    out.send(b"2", binary=True, audio=True)
    await asyncio.sleep(0)
    assert socket.sent == []
    out.release()
    out.send(b"3")
    assert socket.sent == [b"1", b"2", b"3"]


async def test_what_is_released_to_a_peer_that_does_not_read_waits_until_it_does() -> None:
    socket = FakeSocket()
    out = Outlet(socket)
    out.withhold()
    socket.reads(False)
    out.send(b"1")
    out.release()
    out.send(b"2")
    assert socket.sent == []
    socket.reads(True)
    await wait_until(lambda: socket.sent == [b"1", b"2"], description="what waited")


async def test_what_is_withheld_goes_out_before_the_socket_is_closed() -> None:
    socket = FakeSocket()
    out = Outlet(socket)
    out.withhold()
    out.send(b"why not")
    out.flush()
    assert socket.sent == [b"why not"]


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


NO_TIME = 1e-9


@pytest.fixture
def bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones, and a peer that has taken nothing since it was looked at last does not read."""
    monkeypatch.setattr(outlet, "MAX_EVENTS", 32)
    monkeypatch.setattr(outlet, "MOST_EVENTS", 100)
    monkeypatch.setattr(outlet, "STALLED_S", NO_TIME)


def stalled(crowd: Crowd | None = None) -> tuple[FakeSocket, Outlet]:
    """One whose peer has stopped reading, with a frame that waits."""
    socket = FakeSocket()
    out = Outlet(socket, crowd=crowd or Crowd())
    socket.reads(False)
    out.send(b"0123456789")
    return socket, out


@pytest.mark.usefixtures("bounds")
async def test_a_peer_that_takes_nothing_is_closed_with_a_reason_once_too_many_events_wait() -> None:
    socket, out = stalled()
    for _ in range(4):
        out.send(b"0123456789")
    await wait_until(lambda: socket.closed is not None, description="the close")
    assert socket.closed == (1013, "too slow")
    socket.reads(True)
    out.send(b"more")
    assert socket.sent == []


async def test_a_peer_that_takes_nothing_is_closed_though_nothing_more_is_said_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outlet, "MAX_EVENTS", 32)
    socket, out = stalled()
    for _ in range(4):
        out.send(b"0123456789")
    assert socket.closed is None
    monkeypatch.setattr(outlet, "STALLED_S", 0.01)
    await wait_until(lambda: socket.closed is not None, description="the close")


@pytest.mark.usefixtures("bounds")
async def test_one_event_may_be_larger_than_all_that_may_wait() -> None:
    socket, out = stalled()
    out.send(b"x" * 1000)
    socket.reads(True)
    await wait_until(lambda: len(socket.sent) == 2, description="what waited")
    assert socket.closed is None


@pytest.mark.usefixtures("bounds")
async def test_a_peer_that_reads_on_is_not_closed_for_what_waits_until_it_is_very_much() -> None:
    socket, out = stalled()
    for _ in range(10):
        socket.taken += 1
        out.send(b"0123456789")
    assert socket.closed is None
    for _ in range(2):
        socket.taken += 1
        out.send(b"one too many")
    await wait_until(lambda: socket.closed is not None, description="the close")


@pytest.mark.usefixtures("bounds")
async def test_of_states_that_wait_the_newest_is_kept_where_they_are_too_much_and_order_stays() -> None:
    socket, out = stalled()
    for number in range(50):
        out.send(b"state %04d" % number, state=True)
        if number in (0, 49):
            out.send(b"event %d" % number)
    assert socket.closed is None
    socket.reads(True)
    await wait_until(lambda: socket.sent and socket.sent[-1] == b"event 49", description="what was kept")
    assert socket.sent[:2] == [b"0123456789", b"event 0"]
    assert socket.sent[-2:] == [b"state 0049", b"event 49"]
    assert len(socket.sent) < 8


async def test_states_that_find_room_are_all_told() -> None:
    socket, out = stalled()
    for number in range(50):
        out.send(b"%d" % number, state=True)
    socket.reads(True)
    await wait_until(lambda: len(socket.sent) == 51, description="what waited")


class Counted(Pieces):
    """Counts how often it is put together."""

    made = 0

    def __bytes__(self) -> bytes:
        Counted.made += 1
        return super().__bytes__()


@pytest.mark.usefixtures("bounds")
async def test_what_comes_in_pieces_is_put_together_as_it_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counted, "made", 0)
    socket, out = stalled()
    for number in range(50):
        out.send(Counted([b"state ", b"%04d" % number]), state=True)
    assert Counted.made == 0
    socket.reads(True)
    await wait_until(lambda: socket.sent and socket.sent[-1] == b"state 0049", description="what was kept")
    assert Counted.made == len(socket.sent) - 1 < 8


async def test_where_too_much_waits_for_all_together_each_has_a_share_of_its_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outlet, "ROOM", 10_000)
    monkeypatch.setattr(outlet, "MAX_EVENTS", 100 * CROWDED)
    monkeypatch.setattr(outlet, "MAX_AUDIO", 100 * CROWDED)
    monkeypatch.setattr(outlet, "STALLED_S", NO_TIME)
    crowd = Crowd()
    few = [stalled(crowd=crowd) for _ in range(2)]
    others = [stalled(crowd=crowd) for _ in range(48)]
    for _ in range(100):
        for socket, out in few:
            socket.taken += 1
            out.send(b"0123456789")
        for _, out in others:
            out.send(b"0123456789")
            out.send(b"0123456789", binary=True, audio=True)
        assert crowd.size < 11_000
    await wait_until(lambda: any(socket.closed for socket, _ in others), description="the close of some")
    assert not any(socket.closed for socket, _ in few)
    for _, out in (*few, *others):
        out.close()
    assert crowd.size == 0


async def test_what_waits_for_a_client_that_leaves_or_is_told_all_counts_no_more() -> None:
    crowd = Crowd()
    for leave in (Outlet.close, Outlet.flush):
        _, out = stalled(crowd=crowd)
        assert crowd.size == 10
        leave(out)
        assert crowd.size == 0
    socket, _ = stalled(crowd=crowd)
    socket.reads(True)
    await wait_until(lambda: crowd.size == 0, description="what waited")
