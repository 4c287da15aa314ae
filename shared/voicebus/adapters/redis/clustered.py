"""redis-py's client of a Redis Cluster, which knows where commands belong without asking a server."""

import asyncio
from typing import Any, Final

from redis.asyncio.cluster import RedisCluster

from voicebus.adapters.redis.blocking import Command, refuse

_READS: Final = frozenset({"XREAD", "XREADGROUP"})
_SCRIPTS: Final = frozenset({"EVAL_RO", "EVALSHA_RO"})


class StreamCluster(RedisCluster):
    """A `RedisCluster` that finds the streams of `XREAD` and `XREADGROUP` itself, and the keys of scripts that read.

    redis-py asks one server for the keys of such a command (`COMMAND GETKEYS`), before each, and always the same one:
    once that one is gone nothing is read any more, as what fails there has no slots looked up anew.
    """

    async def _determine_slot(self, command: Any, *args: Any) -> int:
        if command in _READS and "STREAMS" in args:
            return int(self.keyslot(args[args.index("STREAMS") + 1]))
        if command in _SCRIPTS and int(args[1]) > 0:
            return int(self.keyslot(args[2]))
        return int(await super()._determine_slot(command, *args))


class ClusterReads:
    """Runs `XREAD` and `XREADGROUP` on connections of `client`, as `BlockingReads` does on those to one server."""

    def __init__(self, client: RedisCluster) -> None:
        self._client: Any = client
        self._alone = True

    async def read(self, command: Command) -> Any:
        """Send a read and wait for its reply.

        Raises:
            RedisError, OSError: the read was refused, or the connection broke.
        """
        reply = await self._client.execute_command(*command)
        self._alone = False
        return reply

    async def read_and_run(
        self, command: Command, behind: Command, *, at_once: bool
    ) -> tuple[Any, asyncio.Future[Any] | None]:
        """Send a read, and with it a command that is run behind it; as `BlockingReads.read_and_run`.

        What is not sent `at_once` is not sent at all.

        Raises:
            RedisError, OSError: the read was refused, or the connection broke.
        """
        # Of a pipeline that fails redis-py does not learn that its slots have moved; of a command by itself it does.
        alone, self._alone = self._alone, True
        if alone or not at_once:
            return await self.read(command), None
        async with self._client.pipeline(transaction=False) as pipeline:
            for one in (command, behind):
                pipeline.execute_command(*one)
            reply, other = await pipeline.execute(raise_on_error=False)
        if isinstance(reply, Exception):
            raise reply
        self._alone = False
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        refuse(done, other) if isinstance(other, Exception) else done.set_result(other)
        return reply, done

    async def aclose(self) -> None:
        """Nothing: the client closes its connections itself."""
