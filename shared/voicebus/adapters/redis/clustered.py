"""redis-py's client of a Redis Cluster, which knows where commands belong without asking a server."""

from collections.abc import Sequence
from typing import Any, Final

from redis import exceptions as vendor
from redis.asyncio.cluster import RedisCluster

from voicebus.adapters.redis.blocking import Command

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

    async def read(self, command: Command, *behind: Command) -> Sequence[Any]:
        """Send a read and what is to be run `behind` it, once it has returned, and wait for the replies.

        Of those behind it an error stands for each that was refused, or not sent.

        Raises:
            RedisError, OSError: the read was refused, or the connection broke.
        """
        # Of a pipeline that fails redis-py does not learn that its slots have moved; of a command by itself it does.
        alone, self._alone = self._alone, True
        if alone or not behind:
            reply = await self._client.execute_command(*command)
            self._alone = False
            return reply, *[vendor.RedisError("not sent") for _ in behind]
        async with self._client.pipeline(transaction=False) as pipeline:
            for one in (command, *behind):
                pipeline.execute_command(*one)
            replies: Sequence[Any] = await pipeline.execute(raise_on_error=False)
        if isinstance(replies[0], Exception):
            raise replies[0]
        self._alone = False
        return replies

    async def aclose(self) -> None:
        """Nothing: the client closes its connections itself."""
