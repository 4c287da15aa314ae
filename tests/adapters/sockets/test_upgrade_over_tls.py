"""The one public port over TLS: what `test_uvicorn_upgrade.py` shows of the hand-over holds there as well."""

import asyncio
import contextlib
import gc
import os
import socket
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx2
import pytest
import uvloop
import websockets
from websockets.typing import Subprotocol

from support.echo_port import HANDSHAKE, Echo, drop_deaf_peer, port
from support.tls import Authority
from support.waiting import wait_until
from voicebus.adapters.sockets import Socket, uvicorn_upgrade
from voicebus.adapters.sockets.dialling import connect
from voicebus.adapters.sockets.uvicorn_upgrade import Accept, Refuse, Upgrade


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


BOTH_LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
NewLoop = Callable[[], asyncio.AbstractEventLoop]


@BOTH_LOOPS
def test_http_and_websockets_share_the_port(authority: Authority, new_loop: NewLoop) -> None:
    upgrades: list[Upgrade] = []

    def accept(upgrade: Upgrade) -> Accept:
        upgrades.append(upgrade)
        return Accept(Echo(), subprotocol="realtime")

    async def main() -> None:
        async with port(accept, authority.issue()) as number:
            trusted = authority.trusting()
            async with httpx2.AsyncClient(verify=trusted, trust_env=False) as client:
                assert (await client.get(f"https://localhost:{number}/")).json() == "http"
            address = f"wss://localhost:{number}/any?agent=x"
            async with websockets.connect(address, ssl=trusted, subprotocols=[Subprotocol("realtime")]) as socket:
                assert socket.subprotocol == "realtime"
                await socket.send("hello")
                assert await socket.recv() == "hello"
                await socket.send(b"\x00\x01" * 100_000)
                assert await socket.recv() == b"\x00\x01" * 100_000
            ours = Echo()
            ours.text = ours.texts.append  # type: ignore[method-assign,assignment]
            link = await connect(address, ours, headers={}, timeout_s=5, tls=trusted)
            link.send_text(b"x" * 1_000_000)
            await wait_until(lambda: ours.texts, description="the echo")
            assert ours.texts == [b"x" * 1_000_000]
            link.close()
            await link.wait_closed()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    assert [(upgrade.path, upgrade.peer) for upgrade in upgrades] == [("/any", "127.0.0.1")] * 2


async def test_an_upgrade_may_be_refused_with_an_http_answer(authority: Authority) -> None:
    async with port(lambda _: Refuse(503, b"full", {"Retry-After": "5"}), authority.issue()) as number:
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with websockets.connect(f"wss://localhost:{number}/", ssl=authority.trusting()):
                pass
    assert refused.value.response.headers["Retry-After"] == "5"
    assert refused.value.response.body == b"full"


@BOTH_LOOPS
def test_a_connection_that_is_over_leaves_nothing_for_the_collector(authority: Authority, new_loop: NewLoop) -> None:
    def protocols() -> list[weakref.ref[object]]:
        return [weakref.ref(found) for found in gc.get_objects() if type(found) is uvicorn_upgrade._UpgradedProtocol]

    async def main() -> None:
        async with port(lambda _: Accept(Echo()), authority.issue()) as number:
            async with websockets.connect(f"wss://localhost:{number}/", ssl=authority.trusting()) as client:
                await client.send("hello")
                await client.recv()
                (mine,) = [found for found in protocols() if found not in before]
            await wait_until(lambda: mine() is None, description="the protocol to be gone")

    gc.collect()
    before = protocols()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
    finally:
        gc.enable()


@BOTH_LOOPS
def test_large_messages_sent_in_one_turn_of_the_loop_arrive_whole(authority: Authority, new_loop: NewLoop) -> None:
    # More than the kernel takes at once, so that most of it waits in the transport.
    sizes = [(bytes([97 + n % 26]), 9_000 + n * 1_000) for n in range(100)]

    class Burst(Echo):
        def opened(self, socket: Socket) -> None:
            for letter, size in sizes:
                socket.send_binary(letter * size)

    async def main() -> None:
        async with (
            port(lambda _: Accept(Burst()), authority.issue()) as number,
            websockets.connect(f"wss://localhost:{number}/", ssl=authority.trusting()) as client,
        ):
            for letter, size in sizes:
                assert await client.recv() == letter * size

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


@BOTH_LOOPS
def test_a_peer_that_was_refused_is_cut_though_it_does_not_end_its_side(
    authority: Authority, new_loop: NewLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_upgrade, "CLOSE_TIMEOUT_S", 0.05)

    async def main() -> None:
        async with port(lambda _: Refuse(503, b"full"), authority.issue()) as number:
            plain = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", number))
            staying = await asyncio.to_thread(authority.trusting().wrap_socket, plain, server_hostname="localhost")
            with staying:
                staying.sendall(HANDSHAKE)
                assert await asyncio.to_thread(staying.recv, 9) == b"HTTP/1.1 "
                # Past TLS, which would answer the end: records, until the connection is gone. Without a cut: 30 s.
                with socket.socket(fileno=os.dup(staying.fileno())) as records, contextlib.suppress(ConnectionError):
                    records.settimeout(20)
                    while await asyncio.to_thread(records.recv, 65536):
                        pass

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


@BOTH_LOOPS
@pytest.mark.parametrize("tls", [False, True])
def test_what_a_peer_takes_of_one_large_message_is_seen_before_it_has_all_of_it(
    authority: Authority, new_loop: NewLoop, tls: bool
) -> None:
    echo = Echo()

    async def main() -> None:
        async with port(lambda _: Accept(echo), authority.issue() if tls else None) as number:
            peer = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", number))
            if tls:
                peer = await asyncio.to_thread(authority.trusting().wrap_socket, peer, server_hostname="localhost")
            with peer:
                peer.sendall(HANDSHAKE)
                sent = await wait_until(lambda: echo.socket, description="the upgrade")
                assert sent is not None
                sent.send_text(b"x" * 30_000_000)
                for _ in range(3):
                    before = sent.taken
                    await asyncio.to_thread(takes, peer, 3_000_000)
                    await wait_until(partial(has_taken_more, sent, before), description="the news of it")

    def has_taken_more(sent: Socket, before: int) -> bool:
        return sent.taken != before

    def takes(peer: socket.socket, size: int) -> None:
        while size > 0:
            size -= len(peer.recv(size))

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


@BOTH_LOOPS
def test_a_peer_that_does_not_read_is_dropped_at_the_limit(authority: Authority, new_loop: NewLoop) -> None:
    echo = Echo()

    async def main() -> None:
        async with port(lambda _: Accept(echo), authority.issue()) as number:
            plain = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", number))
            deaf = await asyncio.to_thread(authority.trusting().wrap_socket, plain, server_hostname="localhost")
            with deaf:
                await drop_deaf_peer(echo, deaf)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    assert echo.ended == (1006, "")
