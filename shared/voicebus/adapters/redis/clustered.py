"""redis-py's client of a Redis Cluster, which knows where reads of streams belong without asking a server."""

from typing import Any, Final

from redis.asyncio.cluster import RedisCluster

_READS: Final = frozenset({"XREAD", "XREADGROUP"})


class StreamCluster(RedisCluster):
    """A `RedisCluster` that finds the streams of `XREAD` and `XREADGROUP` itself.

    redis-py asks one server for the keys of such a command (`COMMAND GETKEYS`), before each, and always the same one:
    once that one is gone nothing is read any more, as what fails there has no slots looked up anew.
    """

    async def _determine_slot(self, command: Any, *args: Any) -> int:
        if command in _READS and "STREAMS" in args:
            return int(self.keyslot(args[args.index("STREAMS") + 1]))
        return int(await super()._determine_slot(command, *args))
