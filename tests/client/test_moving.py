"""The second connection of a client that is asked to move."""

import asyncio
from typing import Any

import pytest

from support.waiting import wait_until
from voicebus.client import dialling, moving
from voicebus.client.line import Line, Told
from voicebus.client.moving import Moving
from voicebus.errors import RemoteError


class FakeLine(Line):
    """A connection that is greeted once it may be, or closed with a code instead."""

    def __init__(self, refused: int | None = None) -> None:
        self.socket: Any = self
        self.transport = self
        self.close_code = refused
        self.may = asyncio.Event()
        self.closed: list[int] = []
        self.was_aborted = False

    async def greeted(self) -> bool:
        await self.may.wait()
        return self.close_code is None

    async def close(self, code: int = 1000) -> None:
        self.closed.append(code)

    def abort(self) -> None:
        self.was_aborted = True


class Client:
    """`dials` are what dialling comes to, one after another."""

    def __init__(self, *dials: FakeLine | RemoteError) -> None:
        self.dials = list(dials)
        self.first: FakeLine | None = FakeLine()
        self.moving = Moving(self._dial, lambda: self.first, Told(), frozenset({4404}))

    async def _dial(self) -> Line:
        found = self.dials.pop(0)
        if isinstance(found, RemoteError):
            raise found
        return found


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "FIRST_DELAY_S", 0.0)


async def test_it_is_tried_until_a_gateway_has_the_session_and_then_the_first_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(moving, "_LAST_FRAMES_S", 0.0)
    restarting, greeting = FakeLine(1012), FakeLine()
    restarting.may.set()
    greeting.may.set()
    client = Client(RemoteError("nobody answers"), restarting, greeting)
    first = client.first
    assert first is not None
    assert not client.moving.was_asked
    client.moving.begin()
    client.moving.begin()  # asked again meanwhile
    assert await client.moving.second() is greeting
    await wait_until(lambda: first.was_aborted, description="the first connection to be left")
    assert (client.dials, client.moving.was_asked) == ([], False)


async def test_a_session_that_is_over_for_good_is_no_reason_to_go_on() -> None:
    gone = FakeLine(4404)
    gone.may.set()
    client = Client(gone, FakeLine())
    client.moving.begin()
    assert await client.moving.second() is None
    assert len(client.dials) == 1


async def test_who_waits_for_the_second_connection_is_told_that_there_is_none_as_another_task_closes() -> None:
    second = FakeLine()
    client = Client(second)
    client.moving.begin()
    waiting = asyncio.create_task(client.moving.second())
    await wait_until(lambda: not client.dials, description="the second connection")
    await client.moving.stay()
    assert await waiting is None
    assert second.closed == [1001]


async def test_who_stays_closes_the_second_connection_whether_it_was_greeted_or_not() -> None:
    for greeted in (False, True):
        second = FakeLine()
        client = Client(second)
        client.moving.begin()
        await asyncio.sleep(0)
        if greeted:
            second.may.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await client.moving.stay()
        assert second.closed == [1001]
    await client.moving.stay()  # nothing to be done
    assert await client.moving.second() is None
