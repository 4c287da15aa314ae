"""Connections that ask nothing: how many a public port keeps, with and without TLS."""

import asyncio
import contextlib
import encodings.idna  # noqa: F401 - of a host's name; to be read before there are no files any more
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import uvloop
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
from prometheus_client import REGISTRY

from support.tls import Authority
from support.waiting import wait_until
from voicebus_services import entrance
from voicebus_services.http import HttpServer, serving
from voicebus_services.silent_connections import SilentConnections
from voicebus_services.tls import Certificate

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
MANY = "127.0.0.2"
LARGE = 32 * 1024 * 1024  # more than the kernel keeps of a connection

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def dropped() -> float:
    return REGISTRY.get_sample_value("voicebus_limits_reached_total", {"limit": "silent_connections"}) or 0.0


class Port:
    """A port that answers `"asked"`, on `/later` when it is told to, or at length; and its clients."""

    def __init__(self, trusted: ssl.SSLContext | None, stack: AsyncExitStack) -> None:
        self.server: HttpServer | None = None
        self.asked, self.answer_now = asyncio.Event(), asyncio.Event()
        self.parts = 0
        self._trusted = trusted
        self._stack = stack

    @property
    def number(self) -> int:
        assert self.server is not None
        return self.server.port

    @property
    def kept(self) -> int:
        """How many are silent."""
        assert self.server is not None
        return self.server._silent._count

    async def silent(self, address: str = MANY) -> Connection:
        """Somebody who connects and shakes no hands."""
        return await self._connect(address, None)

    async def client(self, address: str = "127.0.0.1") -> Connection:
        return await self._connect(address, self._trusted)

    async def ask(self) -> bytes:
        """What a client is told that asks once."""
        reader, writer = await self.client()
        writer.write(LAST)
        return await reader.read()

    async def _connect(self, address: str, trusted: ssl.SSLContext | None) -> Connection:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            self.number,
            ssl=trusted,
            server_hostname="localhost" if trusted else None,
            local_addr=(address, 0),
        )
        self._stack.callback(writer.close)
        return reader, writer


@asynccontextmanager
async def port_for(most: int, authority: Authority | None) -> AsyncIterator[Port]:
    app = FastAPI()

    @app.get("/")
    async def asked() -> str:
        return "asked"

    @app.get("/later")
    async def later() -> str:
        port.asked.set()
        await port.answer_now.wait()
        return "later"

    @app.get("/large")
    async def large() -> Response:
        return Response(b"a" * LARGE)

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            while True:
                port.parts += 1
                yield b"a" * 65_536
                await asyncio.sleep(0)

        return StreamingResponse(parts())

    @app.get("/halves")
    async def halves() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"a" * LARGE
            port.asked.set()
            await port.answer_now.wait()
            yield b"the end"

        return StreamingResponse(parts(), headers={"Content-Length": str(LARGE + len(b"the end"))})

    pair = authority.issue() if authority else None
    certificate = Certificate(pair.certificate, pair.key) if pair else None
    async with (
        serving(app, host="127.0.0.1", port=0, certificate=certificate, max_silent=most) as server,
        AsyncExitStack() as stack,
    ):
        port = Port(authority.trusting() if authority else None, stack)
        port.server = server
        yield port


class Silent:
    """One that has come and asks nothing."""

    def __init__(self, address: str, kept: SilentConnections) -> None:
        self.address = address
        self.is_dropped = False
        self._kept = kept
        kept.fell_silent(self)

    def drop(self) -> None:
        self.is_dropped = True

    def goes(self) -> None:
        self._kept.spoke(self)


Runs = Callable[[int, Callable[[Port], Awaitable[None]]], None]


@pytest.fixture(params=["plain", "tls"])
def authority(request: pytest.FixtureRequest, tmp_path: Path) -> Authority | None:
    return Authority(tmp_path) if request.param == "tls" else None


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def on_port(request: pytest.FixtureRequest, authority: Authority | None) -> Runs:
    """Runs a test with a port that keeps so many silent connections."""

    def run(most: int, test: Callable[[Port], Awaitable[None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(60), port_for(most, authority) as port:
                await test(port)

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return run


async def is_cut(connection: Connection) -> bool:
    try:
        return await connection[0].read() == b""
    except ConnectionError:
        return True


def test_beyond_the_bound_the_longest_silent_is_cut_for_each_that_comes(
    on_port: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(port: Port) -> None:
        before = dropped()
        came = [await port.silent() for _ in range(8)]
        for each in came[:5]:
            assert await is_cut(each)
        assert not any(reader.at_eof() for reader, _ in came[5:])
        assert dropped() - before == 5
        assert b'"asked"' in await port.ask()

    on_port(3, test)
    assert caplog.text.count("too many connections without a request") == 1
    assert f"mostly_from={MANY}" in caplog.text


def test_of_many_that_come_at_once_only_those_are_cut_that_are_too_many_and_nothing_is_kept_of_them(
    on_port: Runs,
) -> None:
    async def test(port: Port) -> None:
        before = dropped()
        came = await asyncio.gather(*(port.silent() for _ in range(60)))
        await wait_until(lambda: dropped() - before >= 40, description="those that are too many to be cut")
        # Who was let in is served, and heard of when it goes.
        assert b'"asked"' in await port.ask()
        for _, writer in came:
            writer.transport.abort()
        await wait_until(lambda: port.kept == 0, description="the places to be given back")
        assert port.server is not None
        assert not port.server.server_state.connections
        assert dropped() - before == 41, "one for who asked"

    on_port(20, test)


def test_a_client_that_is_slow_keeps_its_place_in_a_flood_from_another_address(on_port: Runs) -> None:
    async def test(port: Port) -> None:
        reader, writer = await port.client()
        writer.write(LAST[:10])
        silent = [await port.silent() for _ in range(50)]
        assert await is_cut(silent[0])
        writer.write(LAST[10:])
        assert b'"asked"' in await reader.read()

    on_port(5, test)


def test_clients_get_in_while_a_flood_goes_on(on_port: Runs) -> None:
    async def test(port: Port) -> None:
        before = dropped()

        is_over = False

        async def flood() -> None:
            while not is_over:
                connections = [await port.silent() for _ in range(10)]
                for _, writer in connections:
                    writer.transport.abort()

        flooding = [asyncio.create_task(flood()) for _ in range(8)]
        await wait_until(lambda: dropped() - before > 20, description="the bound")
        for _ in range(20):
            assert b'"asked"' in await port.ask()
        is_over = True
        await asyncio.gather(*flooding)

    on_port(10, test)


def test_who_has_been_answered_and_asks_nothing_more_is_silent_again(on_port: Runs) -> None:
    async def test(port: Port) -> None:
        answered = []
        for _ in range(4):
            reader, writer = await port.client()
            writer.write(GET)
            assert b'"asked"' in await reader.readuntil(b'"asked"')
            answered.append((reader, writer))
        assert await is_cut(answered[0])
        reader, writer = answered[-1]
        writer.write(LAST)
        assert b'"asked"' in await reader.read()

    on_port(3, test)


def test_who_waits_for_an_answer_is_not_silent(on_port: Runs) -> None:
    async def test(port: Port) -> None:
        reader, writer = await port.client()
        writer.write(LAST.replace(b"/", b"/later", 1))
        await port.asked.wait()
        came = [await port.silent() for _ in range(4)]
        assert await is_cut(came[0])
        port.answer_now.set()
        assert b'"later"' in await reader.read()

    on_port(1, test)


@pytest.mark.parametrize("path", [b"/large", b"/endless"])
def test_who_does_not_take_an_answer_is_silent(on_port: Runs, path: bytes) -> None:
    async def test(port: Port) -> None:
        before = dropped()
        reader, writer = await port.client(MANY)
        writer.write(LAST.replace(b"/", path, 1))
        await reader.readuntil(b"\r\n\r\n")
        now, since, parts = asyncio.get_running_loop().time, 0.0, -1

        def is_full() -> bool:
            """The kernel makes room a few times more, within a fifth of a second."""
            nonlocal since, parts
            if port.kept != 1 or port.parts != parts:
                since, parts = now(), port.parts
            return now() - since > 0.5

        await wait_until(is_full, description="the answer to fill all buffers")
        another, _ = await port.silent(MANY)
        await wait_until(lambda: dropped() == before + 1, description="the one who does not take it to be cut")
        assert not another.at_eof()

    on_port(1, test)


def test_who_takes_a_long_answer_is_not_silent(on_port: Runs) -> None:
    async def test(port: Port) -> None:
        reader, writer = await port.client()
        writer.write(LAST.replace(b"/", b"/halves", 1))
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(LARGE)
        await port.asked.wait()
        came = [await port.silent() for _ in range(4)]
        assert await is_cut(came[0])
        port.answer_now.set()
        assert await reader.read() == b"the end"

    on_port(1, test)


def test_nor_is_who_begins_to_ask_for_more_meanwhile(on_port: Runs) -> None:
    async def test(port: Port) -> None:
        reader, writer = await port.client()
        writer.write(GET.replace(b"/", b"/later", 1))
        await port.asked.wait()
        writer.write(LAST[:10])
        came = [await port.silent() for _ in range(4)]
        assert await is_cut(came[0])
        port.answer_now.set()
        assert b'"later"' in await reader.readuntil(b'"later"')

    on_port(1, test)


def test_places_are_given_back_by_who_goes(on_port: Runs) -> None:
    async def test(port: Port) -> None:
        before = dropped()
        for _ in range(20):
            reader, writer = await port.silent()
            writer.write(b"neither TLS nor HTTP\r\n\r\n")
            await is_cut((reader, writer))
            for connection in (await port.silent(), await port.client()):
                connection[1].transport.abort()
            assert b'"asked"' in await port.ask()
        assert dropped() == before

    on_port(8, test)


def test_without_a_file_for_another_connection_a_silent_one_makes_room(on_port: Runs) -> None:
    async def test(port: Port) -> None:
        before = dropped()
        silent = [await port.silent() for _ in range(4)]
        await wait_until(lambda: port.kept == 4, description="all of them to be taken")
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as client:
            client.setblocking(False)
            filling: list[int] = []
            highest = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
                with contextlib.suppress(OSError):
                    while True:
                        filling.append(os.dup(client.fileno()))
                await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port.number))
                assert await is_cut(silent[0])
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                for each in filling:
                    os.close(each)
        assert dropped() > before
        assert not silent[-1][0].at_eof()
        assert b'"asked"' in await port.ask()

    on_port(100, test)


def test_who_has_a_whole_network_of_addresses_has_one_share() -> None:
    kept = SilentConnections(5)
    proxy = [Silent("203.0.113.9", kept) for _ in range(2)]
    neighbour = Silent("fe80::1%eth0", kept)
    flood = [Silent(f"2001:db8:0:1::{number:x}", kept) for number in range(1, 20)]
    assert [each.is_dropped for each in (*proxy, neighbour)] == [False] * 3
    assert [each.is_dropped for each in flood] == [True] * 17 + [False] * 2
    for each in (*proxy, neighbour, *flood[-2:]):
        each.goes()
    assert kept._count == 0


async def test_a_stop_cuts_who_shakes_no_hands(tmp_path: Path) -> None:
    async with AsyncExitStack() as clients:
        async with port_for(4, Authority(tmp_path)) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port.number)
            clients.callback(writer.close)
            assert b'"asked"' in await port.ask()
        async with asyncio.timeout(entrance.HANDSHAKE_S / 2):
            assert await is_cut((reader, writer))
