"""Blocking reads: each has a connection for itself while it waits, kept for the next one."""

import asyncio
from collections.abc import Sequence
from typing import Any

import hiredis
import redis.asyncio as aioredis
from redis import exceptions as vendor

from voicebus.adapters.redis.wire import Wire, open_wire

Command = Sequence[str | int]


class BlockingReads:
    """Runs `XREAD` and `XREADGROUP` on connections of `client`, as many as are waited for at once."""

    def __init__(self, client: "aioredis.Redis") -> None:
        self._pool: Any = client.connection_pool
        self._callbacks: Any = client.response_callbacks
        self._idle: list[_Reader] = []
        self._readers: list[_Reader] = []

    async def read(self, command: Command, *behind: Command) -> tuple[Any, ...]:
        """Send a read and what is to be run `behind` it, once it has returned, and wait for the replies.

        Of those behind it an error stands for each that was refused.

        Raises:
            RedisError, OSError: the read was refused, or the connection broke.
        """
        packed = b"".join(_packed(one) for one in (command, *behind))
        reader = self._idle.pop() if self._idle else self._another()
        try:
            reply, *others = await reader.ask(packed, 1 + len(behind))
        finally:
            self._idle.append(reader)
        if isinstance(reply, Exception):
            raise reply
        return self._callbacks[str(command[0])](reply), *others

    async def aclose(self) -> None:
        """Close all connections; who waits for a reply is told so."""
        for reader in self._readers:
            await reader.aclose()

    def _another(self) -> "_Reader":
        reader = _Reader(self._pool.make_connection())
        self._readers.append(reader)
        return reader


class _Reader:
    """One connection, asked by one at a time."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._wire: Wire | None = None
        self._replies: list[Any] = []
        self._missing = 0
        self._asked: asyncio.Future[None] | None = None

    async def ask(self, packed: bytes, count: int) -> list[Any]:
        """Send so many commands and return their replies, errors of Redis among them. Whoever is cancelled meanwhile
        leaves no connection behind.

        Raises:
            RedisError, OSError: the connection broke.
        """
        wire = self._wire
        if wire is None or not wire.is_open:
            wire = await self._open()
        self._replies, self._missing = [], count
        asked = self._asked = asyncio.get_running_loop().create_future()
        wire.write(packed)
        try:
            await asked
        except BaseException:
            # To its end, so that the server gives no entry to a reader that has gone.
            await wire.aclose()
            raise
        finally:
            self._asked = None
        return self._replies

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
        asked = self._asked
        if asked is None or asked.done():
            raise vendor.InvalidResponse("a reply without a command")
        self._replies.append(reply)
        self._missing -= 1
        if not self._missing:
            asked.set_result(None)

    def _lost(self, broken: Exception) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(broken)


def _packed(command: Command) -> bytes:
    packed: bytes = hiredis.pack_command(tuple(command))  # type: ignore[arg-type] # of any length
    return packed
