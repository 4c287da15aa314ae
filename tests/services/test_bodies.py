"""Bodies that are too long, or that nobody wants: whoever sends one hears why."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from fastapi import FastAPI, Request
from prometheus_client import REGISTRY
from starlette.types import Message, Receive, Scope, Send

from support.waiting import wait_until
from voicebus.adapters.sockets.unfinished import LARGE, Unfinished
from voicebus_services.bodies import MAX_BODY, BoundedBodies
from voicebus_services.http import ProblemError, answer_with_problems, serving

LIMIT = 64 * 1024
# More than the kernel takes of what nobody reads.
SIZE = 24 * 1024 * 1024
PART = b"a" * 65536
ANNOUNCED = f"Content-Length: {SIZE}\r\n"
IN_PARTS = "Transfer-Encoding: chunked\r\n"


@asynccontextmanager
async def taking_notes(limit: int, unfinished: Unfinished) -> AsyncIterator[int]:
    app = FastAPI()
    answer_with_problems(app)
    app.add_middleware(BoundedBodies, limit=limit, unfinished=unfinished)

    @app.post("/notes")
    async def notes(request: Request) -> int:
        return len(await request.body())

    @app.post("/closed")
    async def closed() -> None:
        raise ProblemError(401, "credentials", "nobody is let in")

    async with serving(app, host="127.0.0.1", port=0) as server:
        yield server.port


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with taking_notes(LIMIT, Unfinished()) as number:
        yield number


class Client:
    """One that sends all it has before it reads, as most libraries do."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._came = b""
        self.head = ""
        """Of the last answer, in lower case."""

    def asks(self, path: str, fields: str) -> None:
        self._socket.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())

    def sends(self, size: int, fields: str) -> None:
        for _ in range(size // len(PART)):
            self._socket.sendall(PART if fields != IN_PARTS else b"10000\r\n" + PART + b"\r\n")
        if fields == IN_PARTS:
            self._socket.sendall(b"0\r\n\r\n")

    def begins(self) -> None:
        """One part that is too long, of those that are not announced."""
        self._socket.sendall(b"10001\r\n" + PART + b"a\r\n")

    def hears(self) -> tuple[int, Any]:
        """The status of the next answer, and what it says."""
        head = self._until(lambda: b"\r\n\r\n" in self._came, lambda: self._came.index(b"\r\n\r\n") + 4).decode()
        self.head = head.lower()
        size = int(self.head.split("content-length: ")[1].split("\r\n")[0])
        return int(head.split(" ")[1]), json.loads(self._until(lambda: len(self._came) >= size, lambda: size))

    def is_at_the_end(self) -> bool:
        return not self._came and not self._socket.recv(1)

    def _until(self, is_there: Callable[[], bool], size: Callable[[], int]) -> bytes:
        while not is_there():
            part = self._socket.recv(65536)
            assert part, "the connection has ended"
            self._came += part
        found, self._came = self._came[: size()], self._came[size() :]
        return found


@contextmanager
def connected(port: int) -> Iterator[Client]:
    # Less than a request may take to arrive.
    with socket.create_connection(("127.0.0.1", port), timeout=25) as one:
        yield Client(one)


@pytest.mark.parametrize("fields", [ANNOUNCED, IN_PARTS], ids=["announced", "in parts"])
@pytest.mark.parametrize(("path", "status"), [("/notes", 413), ("/closed", 401)])
async def test_who_sends_all_before_it_reads_hears_why_it_is_refused(
    port: int, fields: str, path: str, status: int
) -> None:
    expected = 413 if fields == ANNOUNCED else status

    def ask() -> None:
        with connected(port) as client:
            client.asks(path, f"{fields}Connection: close\r\n")
            client.sends(SIZE, fields)
            assert client.hears()[0] == expected
            assert client.is_at_the_end()

    await asyncio.to_thread(ask)


async def test_the_connection_of_who_sent_too_much_goes_on(port: int) -> None:
    def ask() -> None:
        with connected(port) as client:
            client.asks("/notes", IN_PARTS)
            client.sends(SIZE, IN_PARTS)
            client.asks("/notes", "Content-Length: 65536\r\n")
            client.sends(LIMIT, "")
            assert client.hears()[0] == 413
            assert client.hears() == (200, LIMIT)

    await asyncio.to_thread(ask)


@pytest.mark.parametrize("fields", [ANNOUNCED, IN_PARTS], ids=["announced", "in parts"])
async def test_who_reads_meanwhile_is_told_before_it_has_sent_all(port: int, fields: str) -> None:
    def ask() -> None:
        with connected(port) as client:
            client.asks("/notes", f"{fields}Connection: close\r\n")
            if fields == IN_PARTS:
                client.begins()
            assert client.hears()[0] == 413

    await asyncio.to_thread(ask)


async def test_who_waits_to_be_told_to_go_on_is_waited_for_by_nobody(port: int) -> None:
    def ask() -> None:
        with connected(port) as client:
            client.asks("/notes", f"{ANNOUNCED}Expect: 100-continue\r\nConnection: close\r\n")
            assert client.hears()[0] == 413
            assert client.is_at_the_end()

    await asyncio.to_thread(ask)


def met() -> float:
    return REGISTRY.get_sample_value("voicebus_limits_reached_total", {"limit": "unfinished_messages"}) or 0.0


async def test_where_too_much_has_come_of_all_bodies_the_first_is_refused_with_503_and_others_go_on() -> None:
    before, unfinished = met(), Unfinished(room=4 * LARGE)
    async with taking_notes(MAX_BODY, unfinished) as port:
        with connected(port) as first, connected(port) as second:

            def begin(client: Client, size: int, came: int) -> None:
                client.asks("/notes", f"Content-Length: {size}\r\n")
                client.sends(came, "")

            def go_on(client: Client) -> tuple[int, Any]:
                client.sends(LARGE, "")
                return client.hears()

            await asyncio.to_thread(begin, first, 4 * LARGE, 3 * LARGE)
            await wait_until(lambda: unfinished.size == 3 * LARGE, description="most of the first body")
            await asyncio.to_thread(begin, second, 3 * LARGE, 2 * LARGE)
            status, said = await asyncio.to_thread(first.hears)
            assert (status, said["code"]) == (503, "too_much_at_once")
            assert "retry-after: 1\r\n" in first.head
            assert await asyncio.to_thread(go_on, second) == (200, 3 * LARGE)
            # The rest of what was refused is read away, and its connection takes the next request.
            await asyncio.to_thread(first.sends, LARGE, "")
            await asyncio.to_thread(begin, first, LARGE, 0)
            assert await asyncio.to_thread(go_on, first) == (200, LARGE)
    assert (unfinished.size, met()) == (0, before + 1)


async def test_a_body_of_which_no_more_comes_counts_no_longer() -> None:
    unfinished = Unfinished()
    async with taking_notes(MAX_BODY, unfinished) as number:
        with connected(number) as client:
            client.asks("/notes", f"Content-Length: {2 * LARGE}\r\n")
            client.sends(LARGE, "")
            await wait_until(lambda: unfinished.size == LARGE, description="half of the body")
        await wait_until(lambda: unfinished.size == 0, description="the end of its connection")


class Other:
    """One whose message took what there was."""

    def give_up(self) -> None:
        raise AssertionError("it began last")


@pytest.mark.parametrize("status", [413, 503])
async def test_nothing_of_a_refused_body_is_kept_while_the_rest_of_it_is_awaited(status: int) -> None:
    unfinished, gone = Unfinished(room=2 * LARGE), 0

    class Part(bytes):
        def __del__(self) -> None:
            nonlocal gone
            gone += 1

    parts = [Part(LARGE), Part(LARGE)]
    sent: list[Message] = []

    async def receive() -> Message:
        if not parts:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": parts.pop(), "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()

    limit = LARGE if status == 413 else MAX_BODY
    scope = {"type": "http", "headers": [(b"transfer-encoding", b"chunked")]}
    bounded = asyncio.create_task(BoundedBodies(app, limit=limit, unfinished=unfinished)(scope, receive, send))
    try:
        if status == 503:
            await wait_until(lambda: unfinished.size == 2 * LARGE, description="both parts")
            unfinished.hold(Other(), LARGE)
        await wait_until(lambda: gone == 2, description="both parts to be forgotten")
        assert sent[0]["status"] == status
    finally:
        bounded.cancel()
        await asyncio.gather(bounded, return_exceptions=True)
