"""One connection that all commands of a process share: they leave as they come, and their replies come in order.

redis-py makes the connection, authenticates and finds the master; what its clients do around each command (a
connection taken and given back, and a wait for the reply before the next is sent) costs several times the command.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import hiredis
import redis.asyncio as aioredis
from redis import exceptions as vendor

from voicebus.adapters.redis.replies import Refuse, Reply
from voicebus.adapters.redis.wire import Wire, open_wire

_MAX_BYTES: Final = 65_536
_WATCH_S: Final = 1.0


class _Command:
    """One command on its way to its reply."""

    __slots__ = ("name", "options", "packed", "reply", "sent_at")

    def __init__(self, packed: bytes, name: str, options: dict[str, Any], reply: Reply) -> None:
        self.packed = packed
        self.name = name
        self.options = options
        self.reply = reply
        self.sent_at = 0.0


class MultiplexedConnection:
    """Sends commands through one connection of `client`, which is made anew after a loss.

    What was under way on a connection that broke fails, as nobody knows whether it was run; what had not been sent
    goes over the next one. A reply that takes longer than `timeout_s` breaks the connection. `refuse` hands the
    vendor's error to whoever waits for a reply; `on_lost` hears of each connection that broke.
    """

    def __init__(
        self,
        client: "aioredis.Redis",
        refuse: Refuse,
        *,
        connect_timeout_s: float,
        timeout_s: float,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._refuse = refuse
        self._on_lost = on_lost
        pool: Any = client.connection_pool
        self._connection: Any = pool.make_connection()
        self._callbacks: Any = client.response_callbacks
        self._connect_timeout_s = connect_timeout_s
        self._timeout_s = timeout_s
        # Bounded by the callers: each waits for its own replies.
        self._queued: deque[_Command] = deque()
        self._sent: deque[_Command] = deque()
        self._deferred: deque[Callable[[], None]] = deque()
        self._wire: Wire | None = None
        self._opening: asyncio.Task[None] | None = None
        self._sending: asyncio.Handle | None = None
        self._watching: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._queued) + len(self._sent)

    def submit(self, command: Sequence[Any], options: dict[str, Any], reply: Reply) -> None:
        """Queue one command; never blocks."""
        name = str(command[0])
        try:
            packed = hiredis.pack_command((*name.split(), *command[1:]) if " " in name else tuple(command))
        except UnicodeEncodeError:  # lone surrogates, which no UTF-8 has
            packed = hiredis.pack_command(tuple(_encodable(part) for part in command))
        self._queued.append(_Command(packed, name, options, reply))
        self._awake()

    def defer(self, work: Callable[[], None]) -> None:
        """Have `work` done just before the next commands leave, in a later turn of the event loop: it submits more."""
        self._deferred.append(work)
        self._awake()

    async def aclose(self, error: Exception) -> None:
        """Close the connection; commands without a reply fail with `error`."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._sending is not None:
            self._sending.cancel()
        if self._watching is not None:
            self._watching.cancel()
        self._do_deferred()
        self._fail(self._sent, error)
        self._fail(self._queued, error)
        if self._wire is not None:
            await self._wire.aclose()

    # --- sending ------------------------------------------------------------------------------------

    def _awake(self) -> None:
        if self._wire is not None and self._wire.is_open:
            if self._sending is None:
                # In the next turn of the loop, with all that is submitted until then.
                self._sending = asyncio.get_running_loop().call_soon(self._send)
        elif self._opening is None:
            self._opening = asyncio.create_task(self._open(), name="redis-connecting")

    def _send(self) -> None:
        self._sending = None
        wire = self._wire
        if wire is None or not wire.is_open:  # it broke in this very turn, and the next one sends
            return
        try:
            self._do_deferred()
        except Exception as odd:  # noqa: BLE001 - what waits must not wait for ever
            wire.fail(odd)
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._queued and wire.is_open and not wire.paused:
            chunks, size = [], 0
            while self._queued and size < _MAX_BYTES:
                command = self._queued.popleft()
                command.sent_at = now
                self._sent.append(command)
                chunks.append(command.packed)
                size += len(command.packed)
            wire.write(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        if self._watching is None and self._sent:
            self._watching = loop.call_later(_WATCH_S, self._watch)

    def _do_deferred(self) -> None:
        while self._deferred:
            self._deferred.popleft()()

    def _watch(self) -> None:
        """A limit against a server that hangs; asked once a second, which is as exact as that needs to be."""
        self._watching = None
        wire = self._wire
        if not self._sent or wire is None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() - self._sent[0].sent_at > self._timeout_s:
            wire.fail(vendor.TimeoutError("no reply"))
        else:
            self._watching = loop.call_later(_WATCH_S, self._watch)

    # --- the connection -----------------------------------------------------------------------------

    async def _open(self) -> None:
        """Connect; where that cannot be done all that waits fails."""
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._connect()
        except Exception as refused:  # noqa: BLE001 - handed to whoever waits
            self._do_deferred()
            self._fail(self._queued, refused)
            return
        finally:
            self._opening = None
        self._send()

    async def _connect(self) -> None:
        if self._wire is not None:
            await self._wire.aclose()
            self._wire = None
        self._wire = await open_wire(self._connection, self._received, self._lost)
        self._wire.on_resumed = self._send

    def _received(self, reply: Any) -> None:
        if not self._sent:
            raise vendor.InvalidResponse("a reply without a command")
        command = self._sent.popleft()
        waiting = command.reply
        if isinstance(reply, Exception):
            self._refuse(waiting, reply)
            return
        parse = self._callbacks.get(command.name)
        if parse is not None:
            try:
                reply = parse(reply, **command.options)
            except Exception as odd:  # noqa: BLE001 - one odd reply must not cost the others theirs
                self._refuse(waiting, odd)
                return
        if not waiting.done():  # else its caller was cancelled
            waiting.set_result(reply)

    def _lost(self, broken: Exception) -> None:
        self._fail(self._sent, broken)
        if self._queued or self._deferred:
            self._awake()
        self._on_lost()

    def _fail(self, commands: deque[_Command], error: Exception) -> None:
        while commands:
            self._refuse(commands.popleft().reply, error)


def _encodable(part: Any) -> Any:
    return part.encode("utf-8", "replace") if isinstance(part, str) else part
