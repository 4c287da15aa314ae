"""Redis as it is run in production, of real servers: a cluster of three masters, and a master with a replica and three
sentinels.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from support.servers import RedisServer, free_port

_PORTS_ABOVE = 10_000  # where a cluster's nodes talk to each other
_SLOTS = 16_384
_TIMEOUT_S = 30.0


def bus_port() -> int:
    """A free port of which the one 10000 above is one, too: a cluster's node needs both."""
    return free_port(_PORTS_ABOVE)


def _until(holds: Any, what: str) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        with contextlib.suppress(redis.exceptions.RedisError):
            if holds():
                return
        assert time.monotonic() < deadline, f"{what} did not happen within {_TIMEOUT_S:g} s"
        time.sleep(0.05)


def _node(arguments: Sequence[str]) -> RedisServer:
    return RedisServer(bus_port(), persistent=True, arguments=("--cluster-enabled", "yes", *arguments))


def _joined(stack: contextlib.ExitStack, masters: int, arguments: Sequence[str]) -> list[RedisServer]:
    """The servers of a cluster that is complete; they end with `stack`."""
    servers = [stack.enter_context(_node(arguments)) for _ in range(masters)]
    nodes = [stack.enter_context(redis.Redis(port=server.port)) for server in servers]
    for number, node in enumerate(nodes):
        first, last = _SLOTS * number // masters, _SLOTS * (number + 1) // masters - 1
        node.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for server in servers[1:]:
        nodes[0].execute_command("CLUSTER", "MEET", "127.0.0.1", server.port)

    def complete() -> bool:
        return all(
            "cluster_state:ok" in str(info) and f"cluster_size:{masters}" in str(info)
            for info in (node.execute_command("CLUSTER", "INFO") for node in nodes)
        )

    _until(complete, "the cluster's first agreement")
    return servers


@contextmanager
def redis_cluster(masters: int = 3) -> Iterator[str]:
    """The address of a cluster of so many masters, each with a part of the slots."""
    with contextlib.ExitStack() as stack:
        yield address_of(_joined(stack, masters, ()))


@contextmanager
def patient_cluster(masters: int = 3) -> Iterator[Sequence[RedisServer]]:
    """A cluster of so many masters, which wait a minute before they say that one which does not answer is down."""
    with contextlib.ExitStack() as stack:
        yield _joined(stack, masters, ("--cluster-node-timeout", "60000"))


def address_of(cluster: Sequence[RedisServer]) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in cluster)


@contextmanager
def joining(cluster: Sequence[RedisServer]) -> Iterator[RedisServer]:
    """One master more, which has no slots yet and which clients have not heard of."""
    with _node(("--cluster-node-timeout", "60000")) as server, redis.Redis(port=server.port) as node:
        node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", len(cluster) + 1)
        node.execute_command("CLUSTER", "MEET", "127.0.0.1", cluster[0].port)
        _until(lambda: "cluster_state:ok" in str(node.execute_command("CLUSTER", "INFO")), "its joining the cluster")
        yield server


@contextmanager
def giving_away(cluster: Sequence[RedisServer], key: str, target: RedisServer) -> Iterator[None]:
    """Have the slot of `key` on its way from its master to another one, with what is in it at the end of the block."""
    with contextlib.ExitStack() as stack:
        nodes: dict[int, Any] = {
            server.port: stack.enter_context(redis.Redis(port=server.port, decode_responses=True))
            for server in (*cluster, target)
        }
        taking = nodes[target.port]
        slot = int(taking.execute_command("CLUSTER", "KEYSLOT", key))
        rows = taking.execute_command("CLUSTER", "SLOTS")
        giving = nodes[next(row[2][1] for row in rows if row[0] <= slot <= row[1])]
        own, others = (node.execute_command("CLUSTER", "MYID") for node in (taking, giving))
        taking.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", others)
        giving.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", own)
        yield
        while keys := giving.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            giving.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for node in (taking, giving, *nodes.values()):
            node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", own)


@dataclass(frozen=True, slots=True)
class Replicated:
    """A cluster whose masters have a replica each."""

    masters: Sequence[RedisServer]
    replicas: Sequence[RedisServer]

    @property
    def url(self) -> str:
        return address_of((*self.masters, *self.replicas))

    def in_step(self) -> None:
        """Wait until each replica has what its master has."""
        for master, replica in zip(self.masters, self.replicas, strict=True):
            with redis.Redis(port=master.port) as one, redis.Redis(port=replica.port) as other:
                written = one.info("replication")["master_repl_offset"]
                _until(
                    lambda other=other, written=written: other.info("replication")["slave_repl_offset"] >= written,
                    "the replica's being in step",
                )

    def fail_over(self, key: str, *, hangs: bool = False) -> None:
        """Kill the master that has `key`, or have it hang; its replica takes its place within a few seconds."""
        with redis.Redis(port=self.masters[0].port) as node:
            slot = int(node.execute_command("CLUSTER", "KEYSLOT", key))
        number = next(n for n in range(len(self.masters)) if slot < _SLOTS * (n + 1) // len(self.masters))
        if hangs:
            self.masters[number].pause()
        else:
            self.masters[number].kill()

        def holds() -> bool:
            with redis.Redis(port=self.replicas[number].port) as replica:
                return bool(replica.info("replication")["role"] == "master")

        _until(holds, "the fail-over")


@contextmanager
def replicated_cluster(masters: int = 3) -> Iterator[Replicated]:
    """A cluster of so many masters, each with a part of the slots and a replica."""
    arguments = ("--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0")
    with contextlib.ExitStack() as stack:
        servers = _joined(stack, masters, arguments)
        replicas = [stack.enter_context(_node(arguments)) for _ in range(masters)]
        first = stack.enter_context(redis.Redis(port=servers[0].port))
        for replica in replicas:
            first.execute_command("CLUSTER", "MEET", "127.0.0.1", replica.port)
        for master, replica in zip(servers, replicas, strict=True):
            with redis.Redis(port=master.port, decode_responses=True) as node:
                name = node.execute_command("CLUSTER", "MYID")
            with redis.Redis(port=replica.port, decode_responses=True) as node:
                _until(lambda node=node, name=name: node.execute_command("CLUSTER", "REPLICATE", name), "the replica")
                _until(
                    lambda node=node: node.info("replication").get("master_link_status") == "up",
                    "the replica's first synchronisation",
                )

        def known() -> bool:
            for server in (*servers, *replicas):
                with redis.Redis(port=server.port, decode_responses=True) as node:
                    if str(node.execute_command("CLUSTER", "NODES")).count("slave") < masters:
                        return False
                    # A replica that has not heard of its master's slots would take over only those that hold a key.
                    told = str(node.execute_command("CLUSTER", "INFO"))
                    if "cluster_state:ok" not in told or f"cluster_slots_assigned:{_SLOTS}" not in told:
                        return False
            return True

        _until(known, "the cluster's agreement on its replicas")
        yield Replicated(servers, replicas)


class SentinelServer(RedisServer):
    """A sentinel that watches the master at `master_port` under the name `mymaster`."""

    def __init__(self, master_port: int, *, quorum: int = 2) -> None:
        super().__init__()
        self._config: Path = self.folder / "sentinel.conf"
        self._config.write_text(
            f"port {self.port}\n"
            f"sentinel monitor mymaster 127.0.0.1 {master_port} {quorum}\n"
            "sentinel down-after-milliseconds mymaster 1500\n"
            "sentinel failover-timeout mymaster 6000\n"
        )

    def _command(self) -> Sequence[str]:
        return [super()._command()[0], str(self._config), "--sentinel"]


@dataclass(frozen=True, slots=True)
class Guarded:
    """A master, its replica and three sentinels. `url` asks the sentinels."""

    master: RedisServer
    replica: RedisServer
    sentinels: Sequence[SentinelServer]

    @property
    def url(self) -> str:
        return "redis+sentinel://" + ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels) + "/mymaster"

    def in_step(self) -> None:
        """Wait until the replica has what the master has, and every sentinel knows of all others."""

        def holds() -> bool:
            with redis.Redis(port=self.replica.port) as replica:
                up = replica.info("replication").get("master_link_status") == "up"
            known = []
            for one in self.sentinels:
                with redis.Redis(port=one.port, decode_responses=True) as sentinel:
                    row: Any = sentinel.execute_command("SENTINEL", "MASTER", "mymaster")
                    state = row if isinstance(row, dict) else dict(zip(row[::2], row[1::2], strict=True))
                    known.append(
                        int(state.get("num-slaves", 0)) >= 1
                        and int(state.get("num-other-sentinels", 0)) == len(self.sentinels) - 1
                    )
            return up and all(known)

        _until(holds, "the replica's first synchronisation")

    def fail_over(self) -> None:
        """Kill the master; the replica takes its place within a few seconds."""
        self.master.kill()

        def holds() -> bool:
            with redis.Redis(port=self.replica.port) as replica:
                return bool(replica.info("replication")["role"] == "master")

        _until(holds, "the fail-over")


@contextmanager
def guarded_redis() -> Iterator[Guarded]:
    quick = ("--repl-diskless-sync-delay", "0")
    with (
        RedisServer(arguments=quick) as master,
        RedisServer(arguments=(*quick, "--replicaof", f"127.0.0.1 {master.port}")) as replica,
        SentinelServer(master.port) as first,
        SentinelServer(master.port) as second,
        SentinelServer(master.port) as third,
    ):
        guarded = Guarded(master, replica, [first, second, third])
        guarded.in_step()
        yield guarded
