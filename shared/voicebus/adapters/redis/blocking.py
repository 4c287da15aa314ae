"""Blocking reads: each has a connection for itself while it waits, kept for the next one."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import hiredis
import redis.asyncio as aioredis
from redis import exceptions as vendor

from voicebus.adapters.redis.wire import Wire, open_wire

Command = Sequence[str | int]


class BlockingReads:
    """Runs `XREAD` and `XREADGROUP` on connections of `client`, as many as are waited for at once.

    How long a read may take is its caller's to say; what is run after one is given up after `timeout_s`.
    """

    def __init__(self, client: "aioredis.Redis", *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._pool: Any = client.connection_pool
        self._callbacks: Any = client.response_callbacks
        self._idle: list[_Reader] = []
        self._readers: list[_Reader] = []

    async def read(self, command: Command, *, then: Command | None = None) -> tuple[Any, asyncio.Future[Any] | None]:
        """Send a read and wait for its reply. In the moment in which it brings something, what is to be run `then` is
        sent.

        The reply, and what brings the other one; None where that was not sent.

        Raises:
            RedisError, OSError: the read was refused, or the connection broke.
        """
        packed = _packed(command)
        reader = self._idle.pop() if self._idle else self._another()
        try:
            reply, other = await reader.ask(packed, None if then is None else _packed(then))
        finally:
            self._idle.append(reader)
        return self._callbacks[str(command[0])](reply), other

    async def hung(self, command: Command) -> None:
        """A read was given up: its connection has been closed."""

    async def aclose(self) -> None:
        """Close all connections; who waits for a reply is told so."""
        for reader in self._readers:
            await reader.aclose()

    def _another(self) -> "_Reader":
        reader = _Reader(self._pool.make_connection(), self._timeout_s)
        self._readers.append(reader)
        return reader


class _Reader:
    """One connection, asked by one at a time."""

    def __init__(self, connection: Any, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._wire: Wire | None = None
        # One for each command that was sent: what is asked, and what was run after that and what was asked before.
        self._replies: deque[asyncio.Future[Any]] = deque()
        self._asked: asyncio.Future[Any] | None = None
        # What is to be sent once what is asked has brought something, and the reply to that.
        self._then: bytes | None = None
        self._other: asyncio.Future[Any] | None = None

    async def ask(self, packed: bytes, then: bytes | None) -> tuple[Any, asyncio.Future[Any] | None]:
        """As `BlockingReads.read`. Whoever is cancelled meanwhile leaves no connection behind.

        Raises:
            RedisError, OSError: the read was refused, or the connection broke.
        """
        wire = self._wire
        if wire is None or not wire.is_open:
            wire = await self._open()
        asked = self._asked = asyncio.get_running_loop().create_future()
        self._then, self._other = then, None
        self._replies.append(asked)
        wire.write(packed)
        try:
            reply = await asked
        except BaseException as error:
            if not isinstance(error, vendor.ResponseError):
                # To its end, so that the server gives no entry to a reader that has gone.
                self._lost(vendor.ConnectionError("its reader has gone"))
                await wire.aclose()
            raise
        finally:
            self._asked = self._then = None
        return reply, self._other

    async def aclose(self) -> None:
        if self._wire is not None:
            self._lost(vendor.ConnectionError("it was closed"))
            await self._wire.aclose()

    async def _open(self) -> Wire:
        if self._wire is not None:
            await self._wire.aclose()
        # Dialled anew, not where it was before: behind sentinels the master may be another.
        self._wire = await open_wire(self._connection, self._received, self._lost)
        return self._wire

    def _received(self, reply: Any) -> None:
        if not self._replies:
            raise vendor.InvalidResponse("a reply without a command")
        waiting = self._replies.popleft()
        then = self._then if waiting is self._asked and not waiting.done() else None
        if then is not None and self._wire is not None and reply and not isinstance(reply, Exception):
            self._other = self._run(self._wire, then)
        if isinstance(reply, Exception):
            _refuse(waiting, reply)
        elif not waiting.done():
            waiting.set_result(reply)

    def _run(self, wire: Wire, packed: bytes) -> asyncio.Future[Any]:
        """Send a command and return what brings its reply. A network that has swallowed it breaks the wire: no other
        read need come after it, whose own limit would tell.
        """
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Any] = loop.create_future()
        limit = loop.call_later(self._timeout_s, wire.fail, vendor.TimeoutError("no reply"))
        reply.add_done_callback(lambda _: limit.cancel())
        self._replies.append(reply)
        wire.write(packed)
        return reply

    def _lost(self, broken: Exception) -> None:
        while self._replies:
            _refuse(self._replies.popleft(), broken)


def _refuse(reply: asyncio.Future[Any], error: Exception) -> None:
    if not reply.done():
        reply.set_exception(error)
        reply.exception()  # who does not need it any more does not fetch it


def _packed(command: Command) -> bytes:
    packed: bytes = hiredis.pack_command(tuple(command))  # type: ignore[arg-type] # of any length
    return packed
