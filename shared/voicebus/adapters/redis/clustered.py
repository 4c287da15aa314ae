"""redis-py's client of a Redis Cluster, which knows where commands belong without asking a server."""

from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import RedisError

from voicebus.adapters.redis.blocking import Command

_READS: Final = frozenset({"XREAD", "XREADGROUP"})
_READING_SCRIPTS: Final = frozenset({"EVAL_RO", "EVALSHA_RO"})
_SCRIPTS: Final = _READING_SCRIPTS | {"EVAL", "EVALSHA"}
# Those whose first argument says what is to be done.
_OF_SEVERAL: Final = frozenset({"XGROUP", "XINFO"})


def key_of(command: Sequence[Any]) -> str:
    """The first key of a command, "" where it has none; of commands of operators it may be another argument."""
    name, *arguments = command
    if name in _READS:
        return str(arguments[arguments.index("STREAMS") + 1])
    if name in _SCRIPTS:
        return str(arguments[2]) if int(arguments[1]) > 0 else ""
    place = int(name in _OF_SEVERAL)
    return str(arguments[place]) if len(arguments) > place else ""


class StreamCluster(RedisCluster):
    """A `RedisCluster` that finds the streams of `XREAD` and `XREADGROUP` itself, and the keys of scripts that read.

    redis-py asks one server for the keys of such a command (`COMMAND GETKEYS`), before each, and always the same one:
    once that one is gone nothing is read any more, as what fails there has no slots looked up anew.
    """

    async def _determine_slot(self, command: Any, *args: Any) -> int:
        if command in _READS or command in _READING_SCRIPTS:
            return int(self.keyslot(key_of((command, *args))))
        return int(await super()._determine_slot(command, *args))

    def master_of(self, key: str) -> str:
        """The name of the node that has this key, as far as is known now; "" where it is not."""
        try:
            node = self.get_node_from_key(key)
        except (RedisError, UnicodeEncodeError):  # nobody knows who has its slot now, or it is no key at all
            return ""
        return "" if node is None else str(node.name)


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
