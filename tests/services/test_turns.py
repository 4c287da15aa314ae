"""Many who come in one moment take turns, so that nobody else waits for all of them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from support.tls import Authority
from voicebus_services.http import serving
from voicebus_services.tls import Certificate
from voicebus_services.turns import AT_ONCE, Turns

MANY = 10 * AT_ONCE
GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class TurnsOfTheLoop:
    """Counts what is done `now` in each turn of the loop."""

    def __init__(self) -> None:
        self._turn = 0
        self._done: Counter[int] = Counter()
        self._on()

    def now(self) -> None:
        self._done[self._turn] += 1

    @property
    def most(self) -> int:
        return max(self._done.values())

    @property
    def all(self) -> int:
        return self._done.total()

    def _on(self) -> None:
        self._turn += 1
        self._timer = asyncio.get_running_loop().call_soon(self._on)

    def stop(self) -> None:
        self._timer.cancel()


@pytest.fixture
async def loop_turns() -> AsyncIterator[TurnsOfTheLoop]:
    turns = TurnsOfTheLoop()
    yield turns
    turns.stop()


async def test_those_who_come_at_once_go_in_order_and_a_few_in_each_turn(loop_turns: TurnsOfTheLoop) -> None:
    turns, gone = Turns(), list[int]()

    async def goes(number: int) -> None:
        await turns.mine()
        loop_turns.now()
        gone.append(number)

    for _ in range(2):
        await asyncio.gather(*(goes(number) for number in range(MANY)))
    assert gone == [*range(MANY), *range(MANY)]
    assert loop_turns.most <= AT_ONCE


async def test_who_leaves_takes_nobodys_turn() -> None:
    turns = Turns(1)
    await turns.mine()
    waiting = [asyncio.create_task(turns.mine()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    waiting[1].cancel()
    await asyncio.wait_for(waiting[2], 10)
    # As if nobody had ever waited.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.wait_for(turns.mine(), 10)


def on_uvloop(test: Callable[[], Any]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test())


async def ask(port: int, authority: Authority | None, go: asyncio.Event) -> bytes:
    """What a client is told that connects, and begins with the others."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await go.wait()
    if authority is not None:
        await writer.start_tls(authority.trusting(), server_hostname="127.0.0.1")
    writer.write(GET)
    try:
        return await reader.read()
    finally:
        writer.close()


async def ask_at_once(port: int, authority: Authority | None = None) -> set[bytes]:
    """The status lines that many get who begin in one moment, and have connected before."""
    go = asyncio.Event()
    asking = [asyncio.create_task(ask(port, authority, go)) for _ in range(MANY)]
    await asyncio.sleep(0.5)
    go.set()
    return {answer[:12] for answer in await asyncio.gather(*asking)}


def test_requests_that_come_at_once_are_begun_a_few_in_each_turn() -> None:
    async def scenario() -> None:
        begun = TurnsOfTheLoop()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            begun.now()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

        async with serving(app, host="127.0.0.1", port=0) as server:  # type: ignore[arg-type]
            assert await ask_at_once(server.port) == {b"HTTP/1.1 200"}
        begun.stop()
        assert begun.all == MANY
        assert begun.most <= AT_ONCE

    on_uvloop(scenario)


def test_handshakes_that_come_at_once_are_begun_a_few_in_each_turn(tmp_path: Path) -> None:
    async def scenario() -> None:
        begun = TurnsOfTheLoop()
        authority = Authority(tmp_path)

        class Counted(Certificate):
            @property
            def context(self) -> Any:
                begun.now()
                return self._context

            @context.setter
            def context(self, context: Any) -> None:
                self._context = context

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

        pair = authority.issue()
        certificate = Counted(pair.certificate, pair.key)
        async with serving(app, host="127.0.0.1", port=0, certificate=certificate) as server:  # type: ignore[arg-type]
            assert await ask_at_once(server.port, authority) == {b"HTTP/1.1 200"}
        begun.stop()
        assert begun.all == MANY
        assert begun.most <= AT_ONCE

    on_uvloop(scenario)
