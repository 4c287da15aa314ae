"""Blocking reads: each has a connection for itself while it waits, kept for the next one."""

import asyncio
from typing import Any

import hiredis
import redis.asyncio as aioredis
from redis import exceptions as vendor

from voicebus.adapters.redis.wire import Wire, open_wire


class BlockingReads:
    """Runs `XREAD` and `XREADGROUP` on connections of `client`, as many as are waited for at once."""

    def __init__(self, client: "aioredis.Redis") -> None:
        self._pool: Any = client.connection_pool
        self._callbacks: Any = client.response_callbacks
        self._idle: list[_Reader] = []
        self._readers: list[_Reader] = []

    async def read(self, *command: str | int) -> Any:
        """Send one command and wait for its reply.

        Raises:
            RedisError, OSError: refused, or the connection broke.
        """
        packed = hiredis.pack_command(command)  # type: ignore[arg-type] # of any length
        reader = self._idle.pop() if self._idle else self._another()
        try:
            reply = await reader.ask(packed)
        finally:
            self._idle.append(reader)
        return self._callbacks[str(command[0])](reply)

    async def aclose(self) -> None:
        """Close all connections; who waits for a reply is told so."""
        for reader in self._readers:
            await reader.aclose()

    def _another(self) -> "_Reader":
        reader = _Reader(self._pool.make_connection())
        self._readers.append(reader)
        return reader


class _Reader:
    """One connection, asked for one reply at a time."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._wire: Wire | None = None
        self._reply: asyncio.Future[Any] | None = None

    async def ask(self, packed: bytes) -> Any:
        """Send a command and return its reply. Whoever is cancelled meanwhile leaves no connection behind.

        Raises:
            RedisError, OSError: refused, or the connection broke.
        """
        wire = self._wire
        if wire is None or not wire.is_open:
            wire = await self._open()
        reply = self._reply = asyncio.get_running_loop().create_future()
        wire.write(packed)
        try:
            return await reply
        except vendor.ResponseError:
            raise
        except BaseException:
            # To its end, so that the server gives no entry to a reader that has gone.
            await wire.aclose()
            raise
        finally:
            self._reply = None

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
        waiting = self._reply
        if waiting is None or waiting.done():
            raise vendor.InvalidResponse("a reply without a command")
        if isinstance(reply, Exception):
            waiting.set_exception(reply)
        else:
            waiting.set_result(reply)

    def _lost(self, broken: Exception) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(broken)
