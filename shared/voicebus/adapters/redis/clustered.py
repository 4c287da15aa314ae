"""redis-py's client of a Redis Cluster, which knows where commands belong without asking a server."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio.cluster import ClusterNode, PipelineCommand, RedisCluster
from redis.cluster import PRIMARY
from redis.exceptions import RedisClusterException, RedisError

from voicebus.adapters.redis.blocking import Command

_READS: Final = frozenset({"XREAD", "XREADGROUP"})
_READING_SCRIPTS: Final = frozenset({"EVAL_RO", "EVALSHA_RO"})
_SCRIPTS: Final = _READING_SCRIPTS | {"EVAL", "EVALSHA"}
# Those whose first argument says what is to be done.
_OF_SEVERAL: Final = frozenset({"XGROUP", "XINFO"})
_OF_NODES: Final = frozenset({"INFO", "PING", "TIME"})

_ASKING: Final = "ASKING"

# How long the nodes may take to say who has what.
_LOOK_S: Final = 2.0


def key_of(command: Sequence[Any]) -> str:
    """The first key of a command, "" where it has none; of commands of operators it may be another argument."""
    name, *arguments = command
    if name in _READS:
        return str(arguments[arguments.index("STREAMS") + 1])
    if name in _SCRIPTS:
        return str(arguments[2]) if int(arguments[1]) > 0 else ""
    place = int(name in _OF_SEVERAL)
    return str(arguments[place]) if len(arguments) > place and name not in _OF_NODES else ""


class StreamCluster(RedisCluster):
    """A `RedisCluster` that finds the streams of `XREAD` and `XREADGROUP` itself, and the keys of scripts that read.

    redis-py asks one server for the keys of such a command (`COMMAND GETKEYS`), before each, and always the same one:
    once that one is gone nothing is read any more, as what fails there has no slots looked up anew.

    And it follows slots while they are moved, also to a node that it has not heard of before.
    """

    async def _determine_slot(self, command: Any, *args: Any) -> int:
        if command in _READS or command in _READING_SCRIPTS:
            return int(self.keyslot(key_of((command, *args))))
        return int(await super()._determine_slot(command, *args))

    def get_node(self, host: Any = None, port: Any = None, node_name: Any = None) -> Any:
        """As redis-py's; asked by name alone, it is the node that one which gives a slot away has named for a key."""
        node: Any = super().get_node(host=host, port=port, node_name=node_name)
        if node_name is None:
            return node
        if node is None:
            host, _, port = str(node_name).rpartition(":")
            node = ClusterNode(host, int(port), PRIMARY, **self.nodes_manager.connection_kwargs)
            self.nodes_manager.set_nodes(self.nodes_manager.nodes_cache, {node.name: node})
        return _Receiving(node)

    def master_of(self, key: str) -> str:
        """The name of the node that has this key, as far as is known now; "" where it is not."""
        try:
            node = self.get_node_from_key(key)
        except (RedisError, UnicodeEncodeError):  # nobody knows who has its slot now, or it is no key at all
            return ""
        return "" if node is None else str(node.name)

    async def look_again(self, command: Sequence[Any]) -> None:
        """After a command that brought no reply: ask who has what now, the node of that command last.

        redis-py learns of a fail-over by what nodes refuse. One that hangs refuses nothing, and would be asked for as
        long as it does, whoever has taken its place.
        """
        key, default = key_of(command), self.get_default_node()
        failed = self.master_of(key) if key else "" if default is None else default.name
        self.nodes_manager.move_node_to_end_of_cached_nodes(failed)
        try:
            async with asyncio.timeout(_LOOK_S):
                await self.nodes_manager.initialize(last_failed_node_name=failed)
        except (RedisError, RedisClusterException, OSError):  # nobody tells, and all stays as it was
            return


class _Receiving:
    """A node that is given a slot just now, and takes a command about it behind `ASKING` on the same connection.

    redis-py sends the two as two commands: where a node has several connections, they go different ways.
    """

    def __init__(self, node: Any) -> None:
        self._node = node

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    async def execute_command(self, *command: Any, asking: bool = False, **options: Any) -> Any:
        if command == (_ASKING,):
            return None
        sent = [PipelineCommand(0, _ASKING), PipelineCommand(1, *command, **options)]
        await self._node.execute_pipeline(sent)
        reply = sent[1].result
        if isinstance(reply, Exception):
            raise reply
        return reply


class ClusterReads:
    """Runs `XREAD` and `XREADGROUP` on connections of `client`, as `BlockingReads` does on those to one server."""

    def __init__(self, client: StreamCluster) -> None:
        self._client = client

    async def read(self, command: Command, *, then: Command | None = None) -> tuple[Any, None]:
        """Send a read and wait for its reply. What is to be run `then` is not sent.

        Raises:
            RedisError, OSError: the read was refused, or the connection broke.
        """
        return await self._client.execute_command(*command), None

    async def hung(self, command: Command) -> None:
        """A read was given up."""
        await self._client.look_again(command)

    async def aclose(self) -> None:
        """Nothing: the client closes its connections itself."""
