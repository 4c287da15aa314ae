"""The one public port: uvicorn for HTTP, picows for WebSockets.

When a test here fails after an upgrade of uvicorn or picows, the file to mend is
shared/voicebus/adapters/sockets/uvicorn_upgrade.py (the hand-over) or picows_socket.py (frames and buffers).
"""

import asyncio
import contextlib
import socket
import tracemalloc
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
import uvloop
import websockets
from fastapi import FastAPI
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from support.echo_port import HANDSHAKE, Echo, drop_deaf_peer, port
from support.waiting import wait_until
from voicebus.adapters.sockets import MAX_MESSAGE, Socket, uvicorn_upgrade
from voicebus.adapters.sockets.dialling import connect
from voicebus.adapters.sockets.uvicorn_upgrade import Accept, Refuse, Upgrade, upgrade_hook
from voicebus_services.http import serving

REALTIME = Subprotocol("realtime")
MASK = b"\x00\x00\x00\x00"


def test_the_versions_whose_internals_are_used_are_the_pinned_ones() -> None:
    assert version("picows").startswith("2.3."), "check the hand-over in adapters/sockets/uvicorn_upgrade.py"


async def test_http_and_websockets_share_one_port() -> None:
    echo = Echo()
    async with port(lambda _: Accept(echo)) as number:
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
        async with websockets.connect(f"ws://127.0.0.1:{number}/any") as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            await client.send(b"\x00\x01")
            assert await client.recv() == b"\x00\x01"
        await wait_until(lambda: echo.ended, description="the close")
        assert echo.ended == (1000, "")


async def test_the_acceptor_sees_path_query_headers_and_peer() -> None:
    seen: list[Upgrade] = []

    def accept(upgrade: Upgrade) -> Accept:
        seen.append(upgrade)
        return Accept(Echo(), subprotocol="realtime")

    async with port(accept) as number:
        address = f"ws://127.0.0.1:{number}/v1/x?agent=a%20b&raw="
        async with websockets.connect(
            address,
            additional_headers={"Authorization": "Bearer k"},
            subprotocols=[Subprotocol("realtime"), Subprotocol("k.1")],
        ) as client:
            assert client.subprotocol == "realtime"
    (upgrade,) = seen
    assert (upgrade.path, upgrade.query, upgrade.peer) == ("/v1/x", {"agent": "a b", "raw": ""}, "127.0.0.1")
    assert upgrade.headers["authorization"] == "Bearer k"
    assert upgrade.subprotocols == ("realtime", "k.1")


async def test_an_upgrade_may_be_refused_with_an_http_answer() -> None:
    async with port(lambda _: Refuse(503, b"full", {"Retry-After": "5"})) as number:
        with pytest.raises(InvalidStatus) as refused:
            async with websockets.connect(f"ws://127.0.0.1:{number}/"):
                pass
    assert refused.value.response.status_code == 503
    assert refused.value.response.headers["Retry-After"] == "5"
    assert refused.value.response.body == b"full"


async def test_a_decision_that_takes_time_holds_up_nobody_else_and_nothing_said_meanwhile_is_lost() -> None:
    decided, slow, fast = asyncio.Event(), Echo(), Echo()

    async def later() -> Accept:
        await decided.wait()
        return Accept(slow)

    def accept(upgrade: Upgrade) -> Any:
        return later() if upgrade.path == "/slow" else Accept(fast)

    async with port(accept) as number:
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        writer.write(HANDSHAKE.replace(b"GET / ", b"GET /slow "))
        async with websockets.connect(f"ws://127.0.0.1:{number}/") as client:
            await client.send("hello")
            assert await client.recv() == "hello"
        # An eager client's first message, before it was let in.
        writer.write(b"\x81\x81" + MASK + b"x")
        assert slow.socket is None
        decided.set()
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        assert await reader.readexactly(3) == b"\x81\x01x"
        writer.close()


async def test_who_accepted_is_told_where_the_connection_does_not_come_about() -> None:
    unused = asyncio.Event()

    async def later() -> Accept:
        await asyncio.sleep(0)
        return Accept(Echo(), unused=unused.set)

    async with port(lambda _: later()) as number:
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        # A handshake without a key is refused by picows, after the decision.
        writer.write(HANDSHAKE.replace(b"Sec-WebSocket-Key", b"X-Key"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")
        assert unused.is_set()
        writer.close()


@pytest.mark.parametrize("version", [b"Version: 8", b"Version: 12", b"Other: 13"])
async def test_a_version_that_is_not_spoken_is_answered_with_the_one_that_is(version: bytes) -> None:
    async with port(lambda _: Accept(Echo())) as number:
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        writer.write(HANDSHAKE.replace(b"Version: 13", version))
        said = await reader.read()
        writer.close()
    assert said.startswith(b"HTTP/1.1 426 ")
    assert b"\r\nsec-websocket-version: 13\r\n" in said.lower()


async def test_a_decision_that_fails_is_answered_and_costs_its_own_connection_only() -> None:
    async def failing() -> Accept:
        raise RuntimeError("asked to")

    def accept(upgrade: Upgrade) -> Any:
        return failing() if upgrade.path == "/bad" else Accept(Echo())

    async with port(accept) as number:
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        writer.write(HANDSHAKE.replace(b"GET / ", b"GET /bad "))
        assert (await reader.read()).startswith(b"HTTP/1.1 500 ")
        writer.close()
        async with websockets.connect(f"ws://127.0.0.1:{number}/") as client:
            await client.send("hello")
            assert await client.recv() == "hello"


async def test_what_is_not_decided_at_the_end_is_told_to_try_again() -> None:
    asked = asyncio.Event()

    async def never() -> Accept:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError("it was decided")

    async with port(lambda _: never()) as number:
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        writer.write(HANDSHAKE)
        await asked.wait()
    told = await reader.read()
    assert told.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in told.lower()
    writer.close()


async def test_a_decision_under_way_is_waited_for_at_the_end_and_who_comes_then_is_told_to_try_again() -> None:
    asked, decided = asyncio.Event(), asyncio.Event()

    async def later() -> Refuse:
        asked.set()
        await decided.wait()
        return Refuse(429, b"too often")

    hook = upgrade_hook(lambda _: later())
    async with serving(FastAPI(), host="127.0.0.1", port=0, ws=hook) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HANDSHAKE)
        await asked.wait()
        closing = asyncio.create_task(hook.aclose())
        await asyncio.sleep(0)
        late_reader, late_writer = await asyncio.open_connection("127.0.0.1", server.port)
        late_writer.write(HANDSHAKE)
        assert (await late_reader.read()).startswith(b"HTTP/1.1 503 ")
        decided.set()
        await closing
        assert (await reader.read()).startswith(b"HTTP/1.1 429 ")
        for each in (writer, late_writer):
            each.close()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_who_hears_no_more_as_the_socket_opens_hears_nothing_until_it_goes_on(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    class Shy(Echo):
        def opened(self, socket: Socket) -> None:
            super().opened(socket)
            socket.pause_reading()

    async def scenario() -> None:
        shy = Shy()
        async with port(lambda _: Accept(shy)) as number, websockets.connect(f"ws://127.0.0.1:{number}/") as client:
            await client.send("hello")
            # That is answered, by the same loop, after it would have been heard.
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
            assert shy.socket is not None
            assert not shy.texts
            shy.socket.resume_reading()
            assert await client.recv() == "hello"

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())


async def test_a_browser_may_name_several_connection_options() -> None:
    async with port(lambda _: Accept(Echo())) as number:
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        writer.write(
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 101")
        writer.close()


async def test_a_request_larger_than_the_read_buffer_is_refused_not_crashed() -> None:
    async with port(lambda _: Accept(Echo())) as number:
        with pytest.raises((InvalidStatus, OSError, EOFError, websockets.InvalidHandshake)):
            async with websockets.connect(f"ws://127.0.0.1:{number}/", additional_headers={"X-Long": "x" * 20_000}):
                pass


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_large_messages_sent_in_one_turn_of_the_loop_arrive_whole(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    # More than the kernel takes at once, so that most of it waits in the transport.
    sizes = [(bytes([97 + n % 26]), 9_000 + n * 1_000) for n in range(100)]

    class Burst(Echo):
        def opened(self, socket: Socket) -> None:
            for letter, size in sizes:
                socket.send_binary(letter * size)

    async def receive() -> None:
        async with (
            port(lambda _: Accept(Burst())) as number,
            websockets.connect(f"ws://127.0.0.1:{number}/") as client,
        ):
            for letter, size in sizes:
                assert await client.recv() == letter * size

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(receive())


async def test_fragments_are_put_together() -> None:
    async with port(lambda _: Accept(Echo())) as number, websockets.connect(f"ws://127.0.0.1:{number}/") as client:
        await client.send(["one ", "two ", "three"])
        assert await client.recv() == "one two three"
        await client.send([b"1", b"2"])
        assert await client.recv() == b"12"


@pytest.mark.parametrize("fragmented", [False, True])
async def test_a_message_up_to_the_limit_is_taken_and_one_above_it_closes_with_1009(fragmented: bool) -> None:
    echo = Echo()
    half = "x" * (MAX_MESSAGE // 2)
    async with (
        port(lambda _: Accept(echo)) as number,
        websockets.connect(f"ws://127.0.0.1:{number}/", max_size=None, compression=None) as client,
    ):
        echo.text = lambda message: echo.texts.append(message[:1])  # type: ignore[method-assign]
        await client.send([half, half] if fragmented else half + half)
        await wait_until(lambda: echo.texts, description="the message at the limit")
        with contextlib.suppress(ConnectionClosed):
            await client.send([half, half, "y"] if fragmented else half + half + "y")
        await client.wait_closed()
        assert client.close_code == 1009
        assert len(echo.texts) == 1


@pytest.mark.parametrize("answer", [b"", b"\x88\x82" + MASK + (1000).to_bytes(2, "big")])
async def test_a_message_that_is_too_large_is_told_as_such_whatever_the_peer_answers(answer: bytes) -> None:
    echo = Echo()
    async with port(lambda _: Accept(echo)) as number:
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x81\xff" + (MAX_MESSAGE + 1).to_bytes(8, "big") + MASK)
        opcode, _ = await reader.readexactly(2)
        assert opcode == 0x88
        writer.write(answer)
        writer.close()
        await wait_until(lambda: echo.ended, description="the end")
    assert echo.ended is not None
    assert echo.ended[0] == 1009


async def test_a_listener_that_raises_closes_its_own_connection_only() -> None:
    async with port(lambda _: Accept(Echo())) as number:
        address = f"ws://127.0.0.1:{number}/"
        async with websockets.connect(address) as good, websockets.connect(address) as bad:
            await bad.send("raise")
            with pytest.raises(ConnectionClosed) as closed:
                await bad.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1011
            await good.send("still here")
            assert await good.recv() == "still here"


async def test_a_peer_that_does_not_read_is_dropped_at_the_limit() -> None:
    echo = Echo()
    async with port(lambda _: Accept(echo)) as number:
        with socket.create_connection(("127.0.0.1", number)) as deaf:
            await drop_deaf_peer(echo, deaf)
    assert echo.ended == (1006, "")


async def test_both_sides_of_our_own_speak_to_each_other_and_tell_the_close_code() -> None:
    server, client = Echo(), Echo()
    client.text = client.texts.append  # type: ignore[method-assign,assignment]
    async with port(lambda _: Accept(server)) as number:
        link = await connect(f"ws://127.0.0.1:{number}/", client, headers={}, timeout_s=5)
        link.send_text(b"x" * 100_000)
        await wait_until(lambda: client.texts, description="the echo")
        assert client.texts == [b"x" * 100_000]
        assert server.socket is not None
        server.socket.close(4409, "taken over")
        await link.wait_closed()
        await server.socket.wait_closed()
    assert client.ended == (4409, "taken over")
    assert server.ended == (4409, "")


async def test_of_a_large_message_nothing_is_kept_by_the_side_that_masks_it() -> None:
    large = "".join(map(chr, range(32, 127))) * 100_000
    heard: list[bool] = []

    async def hear(server: ServerConnection) -> None:
        async for message in server:
            heard.append(message == large)  # noqa: PERF401 - looked at while it goes on

    async with serve(hear, "127.0.0.1", 0, max_size=None) as server:
        number = next(iter(server.sockets)).getsockname()[1]
        link = await connect(f"ws://127.0.0.1:{number}/", Echo(), headers={}, timeout_s=5)
        tracemalloc.start()
        try:
            link.send_text(large.encode())
            link.send_text(b"small")
            await wait_until(lambda: len(heard) == 2, description="both messages")
            assert heard == [True, False]
            await wait_until(lambda: tracemalloc.get_traced_memory()[0] < 1024 * 1024, description="its memory")
        finally:
            tracemalloc.stop()
            link.close()
            await link.wait_closed()


async def test_what_was_paused_is_heard_after_resuming() -> None:
    echo = Echo()
    async with port(lambda _: Accept(echo)) as number, websockets.connect(f"ws://127.0.0.1:{number}/") as client:
        paused = await wait_until(lambda: echo.socket, description="the upgrade")
        assert paused is not None
        paused.pause_reading()
        await client.send("later")
        paused.resume_reading()
        assert await client.recv() == "later"


@pytest.mark.parametrize(
    "frames",
    [
        b"\x80\x81" + MASK + b"x",  # a continuation of nothing
        b"\x01\x81" + MASK + b"x" + b"\x81\x81" + MASK + b"y",  # a new message before the last one is whole
    ],
)
async def test_a_fragment_out_of_place_closes_with_1002(frames: bytes) -> None:
    assert await answer_to(frames) == 1002


@pytest.mark.parametrize("first", [0xC1, 0xA1, 0x91, 0xC2, 0x41])
async def test_a_frame_of_an_extension_that_was_not_agreed_on_is_no_message_and_closes_with_1002(first: int) -> None:
    echo = Echo()
    assert await answer_to(bytes([first, 0x81]) + MASK + b"x", echo) == 1002
    assert echo.texts == []


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535])
async def test_a_close_with_a_code_that_none_may_have_is_answered_with_1002_and_is_a_loss(code: int) -> None:
    echo = Echo()
    assert await answer_to(b"\x88\x82" + MASK + code.to_bytes(2, "big"), echo) == 1002
    assert echo.ended == (1006, "")


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1014, 3000, 4000, 4999])
async def test_a_close_is_answered_with_its_own_code(code: int) -> None:
    echo = Echo()
    assert await answer_to(b"\x88\x84" + MASK + code.to_bytes(2, "big") + b"so", echo) == code
    assert echo.ended == (code, "so")


async def answer_to(frames: bytes, echo: Echo | None = None) -> int:
    """The code of the close that answers these frames; returns when the listener has heard of its end."""
    heard = echo or Echo()
    async with port(lambda _: Accept(heard)) as number:
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(frames)
        opcode, length = await reader.readexactly(2)
        assert opcode == 0x88
        code = int.from_bytes((await reader.readexactly(length))[:2], "big")
        writer.close()
        await wait_until(lambda: heard.ended, description="the end")
    return code


async def test_a_peer_that_answers_no_ping_is_dropped_and_one_that_does_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn_upgrade, "PING_INTERVAL_S", 0.1)
    dead, alive = Echo(), Echo()
    waiting = [dead, alive]
    async with port(lambda _: Accept(waiting.pop(0))) as number:
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        async with websockets.connect(f"ws://127.0.0.1:{number}/") as client:
            await wait_until(lambda: dead.ended, description="the dead peer's end")
            await client.send("hello")
            assert await client.recv() == "hello"
        assert b"\x89" in await reader.read(100)
        writer.close()
    assert dead.ended == (1006, "")
