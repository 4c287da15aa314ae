"""redis-py's client of a Redis Cluster, which knows where commands belong without asking a server."""

from typing import Any, Final

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

    async def read(self, command: Command, *, then: Command | None = None) -> tuple[Any, None]:
        """Send a read and wait for its reply. What is to be run `then` is not sent.

        Raises:
            RedisError, OSError: the read was refused, or the connection broke.
        """
        return await self._client.execute_command(*command), None

    async def aclose(self) -> None:
        """Nothing: the client closes its connections itself."""
