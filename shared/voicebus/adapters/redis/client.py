"""The one way to Redis: addresses, connections, pipelining, and vendor errors made ours.

`connect` opens two clients: one for commands, one for blocking reads, which need their own pool and longer timeouts.
Nothing is retried underneath: whoever sends something knows whether sending it twice is harmless.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self

from redis import exceptions as vendor
from redis.asyncio.cluster import PipelineCommand, RedisCluster

from voicebus.adapters.redis.address import OptionError
from voicebus.adapters.redis.blocking import BlockingReads
from voicebus.adapters.redis.clustered import ClusterReads, StreamCluster
from voicebus.adapters.redis.multiplexing import MultiplexedConnection
from voicebus.adapters.redis.opening import CONNECT_TIMEOUT_S, Client, open_client
from voicebus.adapters.redis.pipelines import Pipelines
from voicebus.adapters.redis.replies import Replies, Reply
from voicebus.adapters.redis.script_batches import ScriptBatches
from voicebus.adapters.redis.scripts import Script
from voicebus.errors import BusError, SettingsError

COMMAND_TIMEOUT_S: Final = 5.0

# The longest BLOCK that a reader may ask for; the timeout is a good deal longer, or it would cut the read short.
MAX_BLOCK_MS: Final = 5_000
BLOCKING_TIMEOUT_S: Final = MAX_BLOCK_MS / 1000 + 5.0

# Of what `INFO` tells: all of it takes redis-py 0.4 ms to read, each second in each process, these two 0.1 ms.
_IDENTITY: Final = ("server", "replication")

# redis-py's own `socket_timeout` is off (5 s by default, which cuts longer blocking reads): it sends under
# `asyncio.wait_for`, which on Python 3.11 can swallow a cancellation, so that a task that should end reads on.

_VENDOR: Final = (vendor.RedisError, vendor.RedisClusterException, OSError, EOFError)


class RedisConnection:
    """An open way to Redis.

    Commands leave in the order in which they were given, those of one turn of the event loop together. Use as an async
    context manager, or call `aclose`.
    """

    def __init__(self, commands: Client, blocking: Client, *, address: str, sentinels: Sequence[Client] = ()) -> None:
        self.address = address
        self._clients = (commands, blocking, *sentinels)
        self._commands = commands
        self._way: Pipelines | MultiplexedConnection
        self._reads: ClusterReads | BlockingReads
        self._broken = asyncio.Event()
        if isinstance(commands, StreamCluster):
            self._way = Pipelines(commands, self._refuse, timeout_s=COMMAND_TIMEOUT_S)
            self._reads = ClusterReads(blocking)
        else:
            self._way = MultiplexedConnection(
                commands, self._refuse, connect_timeout_s=CONNECT_TIMEOUT_S, timeout_s=COMMAND_TIMEOUT_S,
                on_lost=self._broken.set,
            )  # fmt: skip
            self._reads = BlockingReads(blocking, timeout_s=COMMAND_TIMEOUT_S)
        # Whether one script may name keys of several hash tags. Some servers refuse that though they are asked as one.
        self.joins_tags: bool = not isinstance(commands, StreamCluster)
        self._batches = ScriptBatches(self._submit_for, self._defer, self._run_script)
        self._confirming: MultiplexedConnection | None = None
        # Scripts that a server has been given after a read: from then on their digest will do there.
        self._known: set[tuple[str, str]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<RedisConnection {self.address} open={len(self._way)} closed={self._closed}>"

    def submit(self, *command: str | int, **options: Any) -> asyncio.Future[Any]:
        """Queue one command; the future brings its reply or a `BusError`. `options` go to redis-py's reply parser."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._closed:
            self._refuse(reply, self._closed_error())
        else:
            self._way.submit(command, options, reply)
        return reply

    def submit_all(self, commands: Sequence[Sequence[str | int]]) -> asyncio.Future[list[Any]]:
        """Queue several commands, for less than each by itself; the future brings all replies in order.

        In the place of one that was refused or did not reach Redis is a `BusError`.
        """
        replies = Replies(len(commands))
        for command, reply in zip(commands, replies.parts, strict=True):
            self._submit_for(command, reply)
        return replies.all

    def _submit_for(self, command: Sequence[str | int], reply: Reply) -> None:
        if self._closed:
            self._refuse(reply, self._closed_error())
        else:
            self._way.submit(command, {}, reply)

    def _defer(self, work: Callable[[], None]) -> None:
        if self._closed:  # nothing leaves any more; what is submitted then is refused
            asyncio.get_running_loop().call_soon(work)
        else:
            self._way.defer(work)

    def _refuse(self, reply: Reply, error: Exception) -> None:
        if not reply.done():  # else its caller was cancelled
            reply.set_exception(bus_error(error, self.address))
            reply.exception()  # who was cancelled while waiting does not fetch it; that is no oversight

    async def call(self, *command: str | int, **options: Any) -> Any:
        """Run one command.

        Raises:
            BusError: refused, or Redis cannot be reached; the command may or may not have been run.
        """
        return await self.submit(*command, **options)

    def script(self, script: Script, keys: list[str], *arguments: str | int) -> Awaitable[Any]:
        """Run a script, which is sent in full only where the server does not know it yet; to be awaited.

        Raises:
            BusError: refused, or Redis cannot be reached; the script may or may not have been run.
        """
        if script.together:
            return self._batches.submit(script, keys, arguments)
        return self._run_script(script, keys, arguments)

    async def _run_script(self, script: Script, keys: list[str], arguments: Sequence[str | int]) -> Any:
        try:
            return await self.submit(script.by_digest, script.sha, len(keys), *keys, *arguments)
        except BusError as error:
            if not is_unknown_script(error):
                raise
            return await self.submit(script.in_full, script.text, len(keys), *keys, *arguments)

    async def scripts(self, script: Script, calls: Sequence[tuple[list[str], Sequence[str | int]]]) -> list[Any]:
        """Run a script with each of several keys and arguments, in one pipeline and without a task for each.

        The replies, a `BusError` in the place of each that was refused or did not reach Redis (see `script`).
        """
        sent = [self.submit(script.by_digest, script.sha, len(keys), *keys, *arguments) for keys, arguments in calls]
        replies = [await _outcome(reply) for reply in sent]
        for place, (keys, arguments) in enumerate(calls):
            if is_unknown_script(replies[place]):
                replies[place] = await _outcome(self.submit(script.in_full, script.text, len(keys), *keys, *arguments))
        return replies

    async def read_blocking(self, *command: str | int) -> Any:
        """Run one blocking read (`XREAD`, `XREADGROUP`) on a connection of its own.

        Raises:
            BusError: refused, or Redis cannot be reached.
        """
        if self._closed:  # else it would be opened again, for a reader that has not heard of the end
            raise self._closed_error()
        reply, _ = await self._read(command, None)
        return reply

    async def read_then_run(
        self, command: Sequence[str | int], script: Script, keys: list[str], *arguments: str | int
    ) -> tuple[Any, asyncio.Future[Any] | None]:
        """Run one blocking read, and `script` in the moment in which it has brought something.

        The reply to the read, and what brings that to the script, or an error where it was not run, as where it is not
        known yet; None where the read has brought nothing.

        Raises:
            BusError: the read was refused, or Redis cannot be reached.
        """
        if self._closed:
            raise self._closed_error()
        known = self.server_of(keys[0]), script.sha
        how, text = (script.by_digest, script.sha) if known in self._known else (script.in_full, script.text)
        then = (how, text, len(keys), *keys, *arguments)
        reply, of_script = await self._read(command, then)
        if of_script is None and reply:  # the reads of a cluster cannot send it themselves
            of_script = self.submit(*then)
        if of_script is not None:
            of_script.add_done_callback(lambda done: self._learnt(known, done))
        return reply, of_script

    async def _read(
        self, command: Sequence[str | int], then: Sequence[str | int] | None
    ) -> tuple[Any, asyncio.Future[Any] | None]:
        with translated(self.address):
            try:
                async with asyncio.timeout(BLOCKING_TIMEOUT_S):
                    return await self._reads.read(command, then=then)
            except TimeoutError:
                await self._reads.hung(command)
                raise

    def _learnt(self, known: tuple[str, str], done: asyncio.Future[Any]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._known.discard(known)
        else:
            self._known.add(known)

    async def broke(self, within_s: float) -> bool:
        """Whether the connection for commands breaks within this time, or has since this was last asked.

        That to a cluster never does: there are many, which redis-py keeps.
        """
        try:
            async with asyncio.timeout(within_s):
                await self._broken.wait()
        except TimeoutError:
            return False
        self._broken.clear()
        return True

    async def masters(self) -> Mapping[str, Mapping[str, Any]]:
        """What `INFO` says of each server that takes writes and of its replicas, by the name that `server_of` gives it.

        Raises:
            BusError: one of them cannot be reached.
        """
        if not isinstance(self._commands, StreamCluster):
            return {"": await self.call("INFO", *_IDENTITY)}
        command = ("INFO", *_IDENTITY)
        with translated(self.address):
            try:
                async with asyncio.timeout(COMMAND_TIMEOUT_S):
                    reply = await self._commands.execute_command(*command, target_nodes=RedisCluster.PRIMARIES)
            except TimeoutError:
                await self._commands.look_again(command)
                raise
        return {node.name: reply for node in self._commands.get_primaries()} if "run_id" in reply else reply

    def server_of(self, key: str) -> str:
        """The name of the server that has this key, as far as is known now."""
        return self._commands.master_of(key) if isinstance(self._commands, StreamCluster) else ""

    def lane(self, key: str) -> str:
        """The way that commands about this key take now: what takes another one does not wait for them.

        Who waits for the replies to several commands before it sends the next, as an outbox does, waits by lane. It
        changes where the key gets another master, once no command about it is under way.
        """
        return self._way.lane(key) if isinstance(self._way, Pipelines) else ""

    async def confirm(self, key: str, *, ttl_s: int, timeout_ms: int) -> int:
        """How many replicas have, within `timeout_ms`, all that was written in the slot of `key`; renews its `ttl_s`.

        Raises:
            BusError: Redis cannot be reached.
        """
        # WAIT speaks of its own connection's writes, and holds that one up: so a write on a connection apart, which
        # comes after what is to be confirmed.
        write, wait = ("EXPIRE", key, ttl_s), ("WAIT", 1, timeout_ms)
        if not isinstance(self._commands, StreamCluster):
            if self._confirming is None:
                self._confirming = MultiplexedConnection(
                    self._commands, self._refuse, connect_timeout_s=CONNECT_TIMEOUT_S, timeout_s=COMMAND_TIMEOUT_S
                )
            replies: list[asyncio.Future[Any]] = []
            for command in (write, wait):
                replies.append(asyncio.get_running_loop().create_future())
                self._confirming.submit(command, {}, replies[-1])
            _, count = await asyncio.gather(*replies)
            return int(count)
        node: Any = self._commands.get_node_from_key(key)
        sent = [PipelineCommand(number, *command) for number, command in enumerate((write, wait))]
        with translated(self.address):
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                await node.execute_pipeline(sent)
            for one in sent:
                if isinstance(one.result, Exception):
                    raise one.result
        confirmed: Any = sent[1].result
        return int(confirmed)

    async def scan(self, pattern: str) -> AsyncIterator[str]:
        """Every key that fits, of all nodes; for commands of operators, as it looks at all keys there are.

        Raises:
            BusError: Redis cannot be reached.
        """
        with translated(self.address):
            async for key in self._commands.scan_iter(match=pattern, count=1000):
                yield key

    async def aclose(self) -> None:
        """Close the connections; commands still waiting fail with `BusError`."""
        self._closed = True
        await self._way.aclose(self._closed_error())
        if self._confirming is not None:
            await self._confirming.aclose(self._closed_error())
        await self._reads.aclose()
        for client in self._clients:
            await client.aclose()

    def _closed_error(self) -> BusError:
        return BusError(f"the connection to Redis at {self.address} was closed")


async def _outcome(reply: asyncio.Future[Any]) -> Any:
    """The reply, or the `BusError` instead."""
    try:
        return await reply
    except BusError as error:
        return error


async def connect(url: str) -> RedisConnection:
    """Open a connection and see that Redis answers.

    Schemes: `redis://`, `unix://`, `redis+sentinel://HOST:PORT,…/MASTER[/DB]`, `redis+cluster://HOST:PORT,…`, and with
    `rediss` for `redis` the same over TLS (`?ssl_ca_certs=FILE` names the certificates that are trusted, and
    `?ssl_cert_reqs=none` trusts anybody). User and password stand before the hosts, percent-encoded.

    Raises:
        SettingsError: the address is malformed.
        BusError: unreachable, or the password was refused.
    """
    address = _redacted(url)
    with _opening(address):
        (commands, first), (blocking, second) = open_client(url), open_client(url)
    connection = RedisConnection(commands, blocking, address=address, sentinels=[*first, *second])
    try:
        with translated(address):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await connection.call("PING")
    except BaseException:  # also where it is cancelled: what was opened is closed
        await connection.aclose()
        raise
    return connection


@contextmanager
def _opening(address: str) -> Iterator[None]:
    try:
        yield
    except OptionError as error:
        raise SettingsError(f"VOICEBUS_REDIS_URL: {address}: {error}") from None
    except (ValueError, vendor.RedisClusterException):
        # The parser's own text may quote a piece of the password.
        raise SettingsError(
            f"VOICEBUS_REDIS_URL: {address} is no Redis address; redis://HOST:PORT/DB, rediss://, unix://PATH,"
            " redis+sentinel://HOST:PORT,…/MASTER and redis+cluster://HOST:PORT,… (or rediss+…) are allowed"
            " (write special characters in a password as %XX)"
        ) from None


def _redacted(url: str) -> str:
    """The address for messages: without user, password and query."""
    scheme, separator, rest = url.partition("://")
    head, _, query = rest.partition("?")
    if not separator or "@" in query:  # a part of the password might be taken for something else
        return "it"
    return f"{scheme}://{head.rpartition('@')[2]}"


@contextmanager
def translated(address: str) -> Iterator[None]:
    """Vendor exceptions become `BusError`."""
    try:
        yield
    except Exception as error:  # `bus_error` knows which are of Redis, and hands others back as they are
        ours = bus_error(error, address)
        if ours is error:
            raise
        raise ours from error


def is_final(error: BusError) -> bool:
    """Whether Redis would refuse the same command again: a key of another type, or one that this user may not touch."""
    return str(error.__cause__).startswith(("WRONGTYPE", "NOPERM"))


def is_cross_slot(error: BusError) -> bool:
    """Whether Redis refused a script because of the hash tags of its keys."""
    return "CROSSSLOT" in str(error.__cause__)


def is_unknown_script(reply: object) -> bool:
    """Whether a script was not run, as the server does not know it (yet, or any more)."""
    return isinstance(reply, BusError) and isinstance(reply.__cause__, vendor.NoScriptError)


def bus_error(error: Exception, address: str) -> Exception:
    """The `BusError` for a vendor exception, with a sentence that says what to do and never names the password."""
    # uvloop says RuntimeError where asyncio says OSError when a socket was closed under a write.
    if not isinstance(error, _VENDOR) and not (isinstance(error, RuntimeError) and "closed" in str(error)):
        return error
    ours = BusError(_sentence(error, address))
    ours.__cause__ = error
    return ours


def _sentence(error: Exception, address: str) -> str:
    text = str(error)
    if isinstance(error, vendor.AuthenticationError) or re.search(r"NOAUTH|WRONGPASS|Authentication required", text):
        missing = "NOAUTH" in text or "Authentication required" in text
        what = "wants a password" if missing else "refused the user or password"
        return f"Redis at {address} {what}; correct VOICEBUS_REDIS_URL"
    if isinstance(error, vendor.NoPermissionError):
        return f"Redis at {address} does not permit this to the user of VOICEBUS_REDIS_URL: {text}"
    if isinstance(error, vendor.BusyLoadingError):
        return f"Redis at {address} is still loading its data; try again shortly"
    if isinstance(error, vendor.ReadOnlyError):
        return f"Redis at {address} is a read-only replica; VOICEBUS_REDIS_URL must name the master"
    if isinstance(error, vendor.OutOfMemoryError):
        return f"Redis at {address} is full and takes nothing more; raise its maxmemory or give it more"
    if isinstance(error, vendor.TimeoutError | TimeoutError):
        return f"Redis at {address} did not answer in time"
    if isinstance(error, vendor.ResponseError):
        return f"Redis at {address} refused a command: {text}"
    why = re.sub(r"^Error \S+ connecting to [^ ]+\.\s*", "", text) or type(error).__name__
    return f"Redis at {address} cannot be reached ({why.rstrip('.')}); start it or correct VOICEBUS_REDIS_URL"
