"""The bytes of one connection to Redis, from its handshake on: replies are handed on in the turn in which they come.

redis-py finds the server, connects, secures and authenticates. What its connection does for each command and reply
after that (several tasks' turns, and a reader that is asked anew for each) costs as much as the command.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import hiredis
from redis import exceptions as vendor
from redis.asyncio.connection import DefaultParser

_MISSING: Final = object()
_SAME_AS_CLIENTS: Final[dict[str, Any]] = {"encoding": "utf-8", "errors": "replace"}


class Wire(asyncio.Protocol):
    """What is open of `connection`, which redis-py has connected; made by `open_wire`.

    `on_reply` gets each reply in order, errors of Redis as exceptions. `on_lost` hears once why nothing comes any more;
    it is not called by `aclose`. Neither may raise.
    """

    def __init__(self, connection: Any, on_reply: Callable[[Any], None], on_lost: Callable[[Exception], None]) -> None:
        self._connection = connection
        self._on_reply = on_reply
        self._on_lost: Callable[[Exception], None] | None = on_lost
        self._reader = hiredis.Reader(
            protocolError=vendor.InvalidResponse, replyError=DefaultParser.parse_error, notEnoughData=_MISSING,
            **_SAME_AS_CLIENTS,
        )  # fmt: skip
        self._gone = asyncio.Event()
        self._transport: asyncio.Transport = connection._writer.transport  # noqa: SLF001 - nothing public leads to it
        self._transport.set_protocol(self)
        self.paused: bool = False
        """Whether so much waits to be sent that more had better wait, too; `on_resumed` is called once it is not."""
        self.on_resumed: Callable[[], None] | None = None

    @property
    def is_open(self) -> bool:
        return self._on_lost is not None

    def write(self, data: bytes) -> None:
        """Send these bytes; what cannot be sent any more breaks the wire."""
        try:
            self._transport.write(data)
        except (OSError, RuntimeError) as error:  # uvloop refuses to write to what is closing
            self.fail(vendor.ConnectionError(str(error)))

    def fail(self, error: Exception) -> None:
        """Break the wire, because of `error`."""
        on_lost, self._on_lost = self._on_lost, None
        # What has not been sent must not wait for a server that may never read it.
        self._transport.abort()
        if on_lost is not None:
            on_lost(error)

    async def aclose(self) -> None:
        """Close the connection to its end; redis-py may connect it anew."""
        self._on_lost = None
        self._transport.abort()
        await self._gone.wait()
        await self._connection.disconnect(nowait=True)

    # --- asyncio.Protocol ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            broken = self._hand_on()
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            broken = error
        if broken is not None:
            self.fail(broken)

    def _hand_on(self) -> Exception | None:
        """Hand on all replies that have come whole; returns why there can be none after them."""
        gets, on_reply = self._reader.gets, self._on_reply
        while self._on_lost is not None and (reply := gets()) is not _MISSING:
            # A server that does not serve (it loads its data, it has too many clients) says so in such a reply.
            if isinstance(reply, vendor.ConnectionError):
                return reply
            on_reply(reply)
            if isinstance(reply, vendor.ReadOnlyError):
                # It was the master. Where sentinels or a name lead to the master, that is another one now.
                return vendor.ConnectionError("it is a replica now")
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()
        self.fail(vendor.ConnectionError("Connection closed by server." if exc is None else str(exc)))

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.on_resumed is not None:
            self.on_resumed()


async def open_wire(connection: Any, on_reply: Callable[[Any], None], on_lost: Callable[[Exception], None]) -> Wire:
    """Connect, where that is not done yet, and take the connection's bytes over.

    Raises:
        RedisError, OSError: it cannot be connected.
    """
    try:
        await connection.connect()
        usable = not await connection.can_read()
    except BaseException:
        # redis-py takes a connection for usable that was given up in the middle of its handshake.
        await connection.disconnect(nowait=True)
        raise
    if not usable:  # nothing was asked: it is closed, and only its former reader has heard of that
        await connection.disconnect(nowait=True)
        raise vendor.ConnectionError("Connection closed by server.")
    return Wire(connection, on_reply, on_lost)
