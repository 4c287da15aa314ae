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

_MAX_BYTES: Final = 65_536


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
    vendor's error to whoever waits for a reply.
    """

    def __init__(self, client: "aioredis.Redis", refuse: Refuse, *, connect_timeout_s: float, timeout_s: float) -> None:
        self._refuse = refuse
        self._pool: Any = client.connection_pool
        self._callbacks: Any = client.response_callbacks
        self._connect_timeout_s = connect_timeout_s
        self._timeout_s = timeout_s
        # Bounded by the callers: each waits for its own replies.
        self._queued: deque[_Command] = deque()
        self._sent: deque[_Command] = deque()
        self._deferred: deque[Callable[[], None]] = deque()
        self._wake = asyncio.Event()
        self._connection: Any = None
        self._task: asyncio.Task[None] | None = None

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

    def _awake(self) -> None:
        self._wake.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="redis-commands")

    def _do_deferred(self) -> None:
        while self._deferred:
            self._deferred.popleft()()

    async def aclose(self, error: Exception) -> None:
        """Close the connection; commands without a reply fail with `error`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._do_deferred()
        self._fail(self._sent, error)
        self._fail(self._queued, error)
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
            await self._pool.release(self._connection)
            self._connection = None

    async def _run(self) -> None:
        while True:
            await self._something_queued()
            try:
                async with asyncio.timeout(self._connect_timeout_s):
                    await self._connect()
            except Exception as refused:  # noqa: BLE001 - handed to whoever waits
                self._do_deferred()
                self._fail(self._queued, refused)
                continue
            broken = await self._exchange()
            await self._connection.disconnect(nowait=True)
            self._fail(self._sent, broken)

    async def _connect(self) -> None:
        if self._connection is None:
            self._connection = await self._pool.get_connection()
        else:
            await self._connection.connect()

    async def _exchange(self) -> Exception:
        """Send and receive until the connection breaks; returns why it did."""
        tasks = [
            asyncio.create_task(work, name=f"redis-{name}")
            for name, work in (("send", self._send()), ("receive", self._receive()), ("watch", self._watch()))
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        broken = next(error for task in done if (error := task.exception()) is not None)
        if not isinstance(broken, Exception):
            raise broken
        return broken

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._something_queued()
            self._do_deferred()
            chunks, size, now = [], 0, loop.time()
            while self._queued and size < _MAX_BYTES:
                command = self._queued.popleft()
                command.sent_at = now
                self._sent.append(command)
                chunks.append(command.packed)
                size += len(command.packed)
            if chunks:
                await self._connection.send_packed_command(b"".join(chunks), check_health=False)

    async def _something_queued(self) -> None:
        if not self._queued and not self._deferred:
            self._wake.clear()
            await self._wake.wait()

    async def _receive(self) -> None:
        connection, callbacks, sent = self._connection, self._callbacks, self._sent
        while True:
            reply: Any = None
            error: Exception | None = None
            try:
                reply = await connection.read_response(disconnect_on_error=False)
            except vendor.ResponseError as refused:
                error = refused
            if not sent:
                raise vendor.InvalidResponse("a reply without a command")
            command = sent.popleft()
            if error is None and (parse := callbacks.get(command.name)) is not None:
                try:
                    reply = parse(reply, **command.options)
                except Exception as odd:  # noqa: BLE001 - one odd reply must not cost the others theirs
                    error = odd
            if error is not None:
                self._refuse(command.reply, error)
            elif not command.reply.done():  # else its caller was cancelled
                command.reply.set_result(reply)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            # Asked once a second, which is as exact as a limit against a server that hangs needs to be.
            await asyncio.sleep(1.0)
            if self._sent and loop.time() - self._sent[0].sent_at > self._timeout_s:
                raise vendor.TimeoutError("no reply")

    def _fail(self, commands: deque[_Command], error: Exception) -> None:
        while commands:
            self._refuse(commands.popleft().reply, error)


def _encodable(part: Any) -> Any:
    return part.encode("utf-8", "replace") if isinstance(part, str) else part
