"""Which service touches which keys of the contract, and with which commands: what a user of Redis (ACL) is made of.

The rows are those of `streams.Keys`. `READ` and `WRITE` are Redis's own distinction; what does both needs both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from voicebus.contracts.streams import EVENTS_QUEUE, GUARDRAILS_QUEUE

READ: Final = "R"
WRITE: Final = "W"
BOTH: Final = "RW"

COMMANDS: Final = (
    # Of the connection, and of a client of a cluster.
    *("ping", "hello", "auth", "select", "quit", "reset", "echo"),
    *("command", "cluster|slots", "cluster|shards", "cluster|nodes", "readonly", "readwrite", "info", "time", "wait"),
    *("eval", "evalsha", "eval_ro", "evalsha_ro", "script|load", "script|exists"),
    *("exists", "del", "expire", "pexpire", "ttl", "pttl", "type", "get", "set", "memory|usage"),
    *("hget", "hset", "hsetnx", "hmget", "hgetall", "hdel", "hkeys", "hvals", "hexists", "hlen", "hincrby"),
    *("sadd", "srem", "smembers", "zadd", "zrem", "zrange", "zrevrange", "zcard", "zscore", "zcount"),
    *("zrangebyscore", "zrevrangebyscore", "zremrangebyscore", "zremrangebyrank"),
    *("xadd", "xack", "xdel", "xlen", "xrange", "xrevrange", "xread", "xreadgroup", "xpending", "xclaim", "xautoclaim"),
    *("xtrim", "xgroup", "xinfo"),
)
"""What the services and their scripts run; none of them looks at all keys, sees other clients or changes the server."""

COUNTING: Final = (
    *(
        "ping",
        "hello",
        "auth",
        "select",
        "command",
        "cluster|slots",
        "cluster|shards",
        "cluster|nodes",
        "readonly",
        "info",
    ),
    *("xlen", "xpending", "xinfo|groups", "xinfo|stream"),
)
"""What an autoscaler runs."""

# What clients say of themselves, which has other names in each version; but not what reaches other clients.
_CLIENT: Final = (
    *("+client", "-client|kill", "-client|list", "-client|pause", "-client|unpause", "-client|unblock"),
    "-client|no-evict",
)


@dataclass(frozen=True, slots=True)
class Access:
    """One service's: glob patterns of keys with what may be done, and commands."""

    keys: Sequence[tuple[str, str]]
    commands: Sequence[str] = COMMANDS

    def rules(self) -> list[str]:
        """As ACL rules of Redis 7."""
        patterns = [f"~{pattern}" if right == BOTH else f"%{right}~{pattern}" for right, pattern in self.keys]
        return [*patterns, "resetchannels", "-@all", *_CLIENT, *(f"+{command}" for command in self.commands)]


def accesses(prefix: str = "vb", *, queues: Sequence[str] = ()) -> Mapping[str, Access]:
    """Each service's, by its command; `autoscaler` counts, `operator` is for `voicebus sessions` and the like.

    Each of `queues` has a tool worker of its own besides (`tool-worker-QUEUE`), which touches no other queue.
    """

    def keys(*rows: tuple[str, str]) -> list[tuple[str, str]]:
        return [(right, f"{prefix}:{pattern}") for right, pattern in rows]

    def tool_worker(queue: str) -> Access:
        return Access(
            keys(
                (BOTH, "config"),
                (BOTH, f"tools:{{{queue}}}"),
                (BOTH, f"call:{{{queue}}}:*"),
                (BOTH, f"dead:{{{queue}}}"),
                (READ, "session:{*}:*:ended"),
                (BOTH, "inbox:{*}"),
                (BOTH, "control:{*}"),
                (BOTH, "worker:{*}"),
                (BOTH, "registry:tools"),
                (BOTH, "circuits"),
            )
        )

    return {
        "gateway": Access(
            keys(
                (BOTH, "config"),
                (BOTH, "events:{*}"),
                (BOTH, "session:{*}:*"),
                (BOTH, "sessions:{*}:*"),
                (BOTH, "tools:{*}"),
                (BOTH, "call:{*}:*"),
                (BOTH, "dead:{*}"),
                (BOTH, "guardrails:{*}"),
                (BOTH, "answer:{*}"),
                (BOTH, "inbox:{*}"),
                (BOTH, "access:{*}:*"),
                (BOTH, "secret:{*}"),
                (BOTH, "gateway:{*}"),
                (BOTH, "gateway:{*}:calls"),
                (BOTH, "gateways"),
                (BOTH, "control:{*}"),
                (READ, "worker:{*}"),
                (BOTH, "registry:tools"),
                (BOTH, "circuits"),
            )
        ),
        "tool-worker": tool_worker("*"),
        **{f"tool-worker-{queue}": tool_worker(queue) for queue in queues},
        "guardrail-worker": Access(
            keys(
                (BOTH, "config"),
                (BOTH, "guardrails:{*}"),
                (BOTH, f"dead:{{{GUARDRAILS_QUEUE}}}"),
                (BOTH, "inbox:{*}"),
                (BOTH, "worker:{*}"),
            )
        ),
        "transcript-archiver": Access(
            keys(
                (BOTH, "config"),
                (BOTH, "events:{*}"),
                (BOTH, "session:{*}:*"),
                (BOTH, "sessions:{*}:*"),
                (BOTH, f"dead:{{{EVENTS_QUEUE}}}"),
                (BOTH, "archiver:{*}:lease"),
                (BOTH, "archivers"),
                (BOTH, "access:{*}:*"),
                (READ, "gateway:{*}"),
                (BOTH, "inbox:{*}"),
            )
        ),
        "autoscaler": Access(keys((READ, "tools:{*}"), (READ, "guardrails:{*}")), COUNTING),
        "operator": Access(keys((BOTH, "*")), (*COMMANDS, "scan")),
    }
