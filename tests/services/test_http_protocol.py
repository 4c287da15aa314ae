"""How much of a request is read, and how long it is waited for, by ports that anybody reaches."""

import asyncio
import contextlib
import gc
import http.client
import json
import socket
import struct
import time
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request

from support.tls import Authority
from support.waiting import wait_until
from voicebus_services import http_protocol
from voicebus_services.http import serving
from voicebus_services.http_protocol import MAX_AHEAD, MAX_FIELDS, MAX_HEAD
from voicebus_services.tls import Certificate

GET = b"GET / HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    app = FastAPI()

    @app.api_route("/", methods=["GET", "POST"])
    async def count(request: Request) -> int:
        return len(request.headers) + len(await request.body())

    async with serving(app, host="127.0.0.1", port=0) as server:
        yield server.port


async def answer(port: int, *pieces: bytes) -> bytes:
    """All that comes until the port closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await reader.read()
    except ConnectionError:
        return b"HTTP/1.1 431 "  # it was closed before all of this was sent
    finally:
        writer.close()


@pytest.mark.parametrize(
    "head",
    [
        GET + b"".join(b"X-%d: a\r\n" % number for number in range(MAX_FIELDS)) + b"\r\n",
        GET + b"X-Long: " + b"a" * MAX_HEAD + b"\r\n\r\n",
        b"GET /?" + b"a" * MAX_HEAD + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        GET + b"X-Endless: " + b"a" * (3 * MAX_HEAD),
        GET + b"Upgrade: websocket\r\nConnection: Upgrade\r\nX-Long: " + b"a" * MAX_HEAD + b"\r\n\r\n",
    ],
)
async def test_a_head_beyond_the_bounds_is_refused_and_its_connection_closed(port: int, head: bytes) -> None:
    assert (await answer(port, head)).startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


@pytest.mark.parametrize(
    ("begin", "status", "code"),
    [
        (GET + b"X-Endless: ", 431, "head_too_large"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n", 408, "request_timeout"),
        (b"no HTTP\r\n", 400, "invalid_request"),
    ],
)
@pytest.mark.parametrize("encrypted", [False, True])
async def test_who_sends_all_before_it_reads_hears_why_it_was_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: bytes, status: int, code: str, encrypted: bool
) -> None:
    monkeypatch.setattr(http_protocol, "WHOLE_WITHIN_S", 0.05 if status == 408 else 30.0)
    monkeypatch.setattr(http_protocol, "LINGER_S", 60.0)
    authority = Authority(tmp_path)
    pair = authority.issue()
    certificate = Certificate(pair.certificate, pair.key) if encrypted else None
    loop = asyncio.get_running_loop()

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    def talk(port: int) -> tuple[int, Any]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as client:
            client.connect()
            assert client.sock is not None
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
            if encrypted:
                client.sock = authority.trusting().wrap_socket(client.sock, server_hostname="127.0.0.1")
            client.sock.sendall(begin)
            time.sleep(0.2 if status == 408 else 0)
            for _ in range(64):
                client.sock.sendall(b"a" * 64 * 1024)
            answer = http.client.HTTPResponse(client.sock)
            answer.begin()
            return answer.status, json.loads(answer.read())

    async with serving(waits, host="127.0.0.1", port=0, certificate=certificate) as server:  # type: ignore[arg-type]
        told, problem = await loop.run_in_executor(None, talk, server.port)
    assert (told, problem["status"], problem["code"]) == (status, status, code)


async def refused(port: int) -> asyncio.StreamWriter:
    """A peer that was refused, and goes on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET + b"X-Endless: " + b"a" * MAX_HEAD)
    assert b"431" in await reader.readline()
    return writer


async def goes_on(writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            writer.write(b"a" * 1024)
            await writer.drain()
            await asyncio.sleep(0.01)
    finally:
        writer.close()


async def test_a_refused_peer_that_does_not_end_is_cut(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "LINGER_S", 0.05)
    with pytest.raises(ConnectionError):
        await goes_on(await refused(port))


async def test_of_many_refused_peers_that_do_not_end_the_first_ones_are_cut(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "LINGER_S", 3600.0)
    first = await refused(port)
    others = [await refused(port) for _ in range(http_protocol.MAX_LINGERING)]
    with pytest.raises(ConnectionError):
        await goes_on(first)
    for each in others:
        each.write(b"a")
        await each.drain()
        each.close()


async def test_a_head_within_the_bounds_is_read_whole(port: int) -> None:
    fields = b"".join(b"X-%d: a\r\n" % number for number in range(MAX_FIELDS - 2))
    said = await answer(port, GET, fields, b"Connection: close\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.endswith(str(MAX_FIELDS).encode())


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", b"HTTP/1.1 408 "),
        (GET, b"HTTP/1.1 408 "),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab", b"HTTP/1.1 408 "),
    ],
)
async def test_a_request_that_does_not_arrive_is_not_waited_for_and_answered_once(
    port: int, monkeypatch: pytest.MonkeyPatch, sent: bytes, said: bytes
) -> None:
    monkeypatch.setattr(http_protocol, "WHOLE_WITHIN_S", 0.05)
    told = await answer(port, sent)
    assert told.startswith(said)
    assert told.count(b"HTTP/1.1 ") == 1


async def test_behind_an_answer_that_has_begun_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "WHOLE_WITHIN_S", 0.05)

    async def early(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"so far", "more_body": True})
        await receive()
        await receive()

    async with serving(early, host="127.0.0.1", port=0) as server:  # type: ignore[arg-type]
        told = await answer(server.port, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
    assert told.startswith(b"HTTP/1.1 200 ")
    assert told.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("begun", [False, True])
async def test_nothing_is_said_of_a_request_that_is_not_read_since_others_wait_for_their_answers(
    monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    monkeypatch.setattr(http_protocol, "WHOLE_WITHIN_S", 0.05)
    asked, end_now, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        asked.set()
        if not begun:
            await end_now.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
        await send({"type": "http.response.body", "body": b"so far", "more_body": begun})
        if begun:
            await end_now.wait()
            await send({"type": "http.response.body", "body": b""})

    async with serving(slow, host="127.0.0.1", port=0) as server:  # type: ignore[arg-type]
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        # The second one stops the reading, with a third that has begun.
        writer.write(GET + b"\r\n" + GET + b"\r\n" + GET)
        await asked.wait()
        writer.write(b"Connection: close\r\n\r\n")
        loop.call_later(10 * http_protocol.WHOLE_WITHIN_S, end_now.set)
        told = await reader.read()
        writer.close()
    assert told.count(b"HTTP/1.1 200 ") == told.count(b"HTTP/1.1 ") == 3


async def test_who_was_answered_before_all_had_come_is_waited_for_as_any_other() -> None:
    async def early(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"no"})

    async with serving(early, host="127.0.0.1", port=0, timeout_keep_alive=0.1) as server:  # type: ignore[arg-type]
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
        await reader.readuntil(b"\r\n\r\nno")
        writer.write(b"abcde")
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()


async def test_of_a_connection_that_breaks_between_requests_nothing_is_kept() -> None:
    app = FastAPI()
    async with serving(app, host="127.0.0.1", port=0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET + b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        (served,) = (weakref.ref(connection) for connection in server.server_state.connections)
        # It ends with a reset, as where its client is killed.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        await wait_until(lambda: not server.server_state.connections, description="the port has heard of it")
        await asyncio.sleep(0)
        gc.collect()
        assert served() is None


async def test_requests_ahead_of_their_answers_are_bounded(port: int) -> None:
    request, last = GET + b"\r\n", GET + b"Connection: close\r\n\r\n"
    assert (await answer(port, request * MAX_AHEAD + last)).count(b"HTTP/1.1 200 ") == MAX_AHEAD + 1
    assert (await answer(port, request * 1000 + last)).count(b"HTTP/1.1 200 ") <= MAX_AHEAD + 1


async def test_an_answer_may_take_as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "WHOLE_WITHIN_S", 0.05)
    app = FastAPI()

    @app.get("/")
    async def slow() -> str:
        await asyncio.sleep(0.3)
        return "there"

    async with serving(app, host="127.0.0.1", port=0) as server:
        said = await answer(server.port, GET + b"Connection: close\r\n\r\n")
    assert said.endswith(b'"there"')


async def test_requests_share_a_connection_and_each_has_its_time(port: int) -> None:
    request, last = GET + b"\r\n", GET + b"Connection: close\r\n\r\n"
    assert (await answer(port, request + request[:10], request[10:], last)).count(b"HTTP/1.1 200 ") == 3


@pytest.mark.parametrize("size", [0, 1000, 300_000, 3_000_000])
async def test_a_body_is_no_part_of_its_head(port: int, size: int) -> None:
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % size
    last = post + b"Connection: close\r\n\r\n" + b"a" * size
    said = await answer(port, post + b"\r\n" + b"a" * size + last[:20], last[20:])
    assert said.count(b"HTTP/1.1 200 ") == 2
