"""Messages that are not whole: what all of a process may have come together, and what is left of those that were."""

import asyncio
import logging
import mmap
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY

from support.echo_port import HANDSHAKE, Echo, port
from support.waiting import wait_until
from voicebus.adapters.sockets import uvicorn_upgrade
from voicebus.adapters.sockets.unfinished import LARGE, Unfinished, everybody, give_back
from voicebus.adapters.sockets.uvicorn_upgrade import Accept, Upgrade

MASK = b"\x00\x00\x00\x00"
MIB = 1024 * 1024


class Given:
    """One who waits for the rest of a message."""

    gone = False

    def give_up(self) -> None:
        self.gone = True


def test_where_too_much_is_unfinished_those_that_began_first_are_given_up() -> None:
    unfinished = Unfinished(room=4 * LARGE)
    first, second, third = Given(), Given(), Given()
    for receiver, size in ((first, LARGE), (second, LARGE), (first, 2 * LARGE), (third, LARGE)):
        unfinished.hold(receiver, size)
    assert (unfinished.size, first.gone) == (4 * LARGE, False)
    unfinished.hold(third, 2 * LARGE)
    assert (first.gone, second.gone, third.gone, unfinished.size) == (True, False, False, 3 * LARGE)


def test_one_that_came_whole_does_not_count_any_more() -> None:
    unfinished = Unfinished(room=2 * LARGE)
    one, other = Given(), Given()
    unfinished.hold(one, 2 * LARGE)
    unfinished.hold(one, 0)
    unfinished.hold(other, 2 * LARGE)
    assert (unfinished.size, one.gone, other.gone) == (2 * LARGE, False, False)


def test_small_ones_do_not_count() -> None:
    unfinished = Unfinished(room=0)
    one = Given()
    unfinished.hold(one, LARGE - 1)
    assert (unfinished.size, one.gone) == (0, False)


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="this system takes no memory back")
def test_memory_that_is_given_back_is_whole_pages_within_the_buffer() -> None:
    buffer = bytearray(b"x" * (5 * mmap.PAGESIZE))
    give_back(memoryview(buffer)[1:-1])
    assert (buffer[0], buffer[-1]) == (ord("x"), ord("x"))
    assert buffer.count(0) in (3 * mmap.PAGESIZE, 4 * mmap.PAGESIZE)
    give_back(memoryview(buffer)[:1])
    give_back(memoryview(b""))


@pytest.fixture
def small_room(monkeypatch: pytest.MonkeyPatch) -> Unfinished:
    assert everybody.size == 0, "a test before this one has left a connection"
    monkeypatch.setattr(everybody, "room", 4 * MIB)
    return everybody


class Client:
    """A client that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def begin(self, size: int, came: int, *, last: bool = True) -> None:
        """Begin a text of `size` bytes, and send `came` of it."""
        first = 0x81 if last else 0x01
        self.writer.write(bytes([first, 0xFF]) + size.to_bytes(8, "big") + MASK + b"x" * came)
        await self.writer.drain()

    async def close_code(self) -> int:
        """The code of the next frame, which is a close."""
        kind, size = await self.reader.readexactly(2)
        payload = await self.reader.readexactly(size)
        assert kind == 0x88
        return int.from_bytes(payload[:2], "big")


Connect = Callable[[int], Awaitable[Client]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    writers: list[asyncio.StreamWriter] = []

    async def connected(number: int) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        writers.append(writer)
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        return Client(reader, writer)

    yield connected
    for writer in writers:
        writer.transport.abort()


def met() -> float:
    return REGISTRY.get_sample_value("voicebus_limits_reached_total", {"limit": "unfinished_messages"}) or 0.0


@pytest.mark.parametrize("last", [True, False], ids=["one frame", "fragments"])
async def test_the_connection_whose_message_began_first_is_closed_with_1013_and_others_go_on(
    last: bool, small_room: Unfinished, connect: Connect
) -> None:
    before = met()
    echoes: list[Echo] = []

    def accept(_: Upgrade) -> Accept:
        echoes.append(Echo())
        return Accept(echoes[-1])

    async with port(accept) as number:
        first, second, third = [await connect(number) for _ in range(3)]
        if last:
            await first.begin(8 * MIB, 2 * MIB)
        else:
            await first.begin(2 * MIB, 2 * MIB, last=False)
        await wait_until(lambda: small_room.size >= 2 * MIB, description="the first half")
        await second.begin(2 * MIB, MIB)
        await wait_until(lambda: small_room.size >= 3 * MIB, description="the second half")
        await third.begin(8 * MIB, 2 * MIB)
        assert await first.close_code() == 1013
        second.writer.write(b"x" * MIB)
        await wait_until(lambda: echoes[1].texts, description="the second one's message")
        assert len(echoes[1].texts[0]) == 2 * MIB
        assert met() == before + 1
        for client in (first, second, third):
            client.writer.transport.abort()
        await wait_until(lambda: all(echo.ended for echo in echoes), description="the ends")
    assert small_room.size == 0


async def test_one_whose_own_next_fragment_is_too_much_is_closed_as_any_other(
    small_room: Unfinished, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    echoes = [Echo(), Echo()]
    left = iter(echoes)
    async with port(lambda _: Accept(next(left))) as number:
        first, second = [await connect(number) for _ in range(2)]
        await first.begin(2 * MIB, 2 * MIB, last=False)
        await wait_until(lambda: small_room.size >= 2 * MIB, description="the first half")
        await second.begin(8 * MIB, 2 * MIB - 64)
        await wait_until(lambda: small_room.size >= 4 * MIB - 64, description="nearly all of the second half")
        first.writer.write(b"\x00\xe4" + MASK + b"x" * 100)
        assert await first.close_code() == 1013
        for client in (first, second):
            client.writer.transport.abort()
        await wait_until(lambda: all(echo.ended for echo in echoes), description="the ends")
        assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_once_a_large_message_is_whole_the_memory_it_came_through_goes_back_to_the_system(
    monkeypatch: pytest.MonkeyPatch, connect: Connect
) -> None:
    given: list[int] = []

    def give(memory: memoryview) -> None:
        given.append(len(memory))
        give_back(memory)

    monkeypatch.setattr(uvicorn_upgrade, "give_back", give)
    echo = Echo()
    async with port(lambda _: Accept(echo)) as number:
        client = await connect(number)
        await client.begin(8 * MIB, 8 * MIB)
        client.writer.write(b"\x81\x85" + MASK + b"small")
        await wait_until(lambda: len(echo.texts) == 2, description="the first two messages")
        await client.begin(8 * MIB, 8 * MIB)
        await wait_until(lambda: len(echo.texts) == 3, description="all messages")
        client.writer.transport.abort()
        await wait_until(lambda: echo.ended, description="the end")
    assert [len(text) for text in echo.texts] == [8 * MIB, 5, 8 * MIB]
    assert len(given) == 2
    assert min(given) >= 8 * MIB


async def test_a_large_message_that_came_in_one_piece_leaves_no_memory_behind_either(
    monkeypatch: pytest.MonkeyPatch, connect: Connect
) -> None:
    given: list[int] = []
    monkeypatch.setattr(uvicorn_upgrade, "give_back", lambda memory: given.append(len(memory)))
    echo = Echo()
    async with port(lambda _: Accept(echo)) as number:
        await connect(number)
        opened: Any = await wait_until(lambda: echo.socket, description="the socket")
        protocol = opened._transport.underlying_transport.get_protocol()
        whole = bytes([0x81, 0xFF]) + MIB.to_bytes(8, "big") + MASK + b"x" * MIB
        protocol.data_received(whole)  # in pieces: for the first one the buffer grows
        assert len(given) == 1
        assert given[-1] > len(whole)
        # More at once, and other connections would wait for it.
        assert len(protocol.get_buffer(-1)) <= uvicorn_upgrade._AT_ONCE
        protocol.data_received(whole)
        assert len(given) == 2
        protocol.data_received(b"\x81\x85" + MASK + b"small")
        # The second one waits for its turn, and what is behind it with it.
        await wait_until(lambda: len(echo.texts) == 3, description="all messages")
        assert [len(text) for text in echo.texts] == [MIB, MIB, 5]
    assert len(given) == 2
    assert min(given) > MIB


async def test_what_came_with_the_end_of_a_message_counts_as_well(small_room: Unfinished, connect: Connect) -> None:
    echo = Echo()
    async with port(lambda _: Accept(echo)) as number:
        client = await connect(number)
        whole = bytes([0x81, 0xFF]) + MIB.to_bytes(8, "big") + MASK + b"x" * MIB
        client.writer.write(whole + whole[:-1])
        await wait_until(lambda: echo.texts, description="the first message")
        await wait_until(lambda: small_room.size == len(whole) - 1, description="the other one to be counted")
        client.writer.transport.abort()
        await wait_until(lambda: echo.ended, description="the end")
