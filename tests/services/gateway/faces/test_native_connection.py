"""One connection to the native face."""

from typing import Any

import pytest

from voicebus_services.gateway.faces.native_connection import NativeConnection


class FakeSocket:
    """Counts pauses. Implements what of `Socket` is used."""

    def __init__(self) -> None:
        self.pauses = 0

    @property
    def is_congested(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.pauses += 1

    def resume_reading(self) -> None:
        self.pauses -= 1


class FakeFace:
    """Takes connections in at once, or when it is told to."""

    def __init__(self, *, at_once: bool) -> None:
        self._at_once = at_once

    def join(self, connection: NativeConnection) -> None:
        if self._at_once:
            connection.taken_in()


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_connection_that_is_taken_in_ends_no_pause_but_its_own(at_once: bool) -> None:
    face: Any = FakeFace(at_once=at_once)
    socket: Any = FakeSocket()
    socket.pause_reading()  # as its client comes too fast
    connection = NativeConnection(face)
    connection.opened(socket)
    if not at_once:
        assert socket.pauses == 2
        connection.taken_in()
    assert socket.pauses == 1
