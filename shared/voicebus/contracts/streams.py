"""Every Redis key of the contract, and nothing else knows one.

The braces are literal: they are Redis Cluster hash tags, so that the keys which one script touches share a slot
(contract section 1). Retention is written beside each key.
"""

from collections.abc import Container
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from zlib import crc32

from voicebus.errors import ContractError

ARCHIVER_GROUP: Final = "archiver"
WORKERS_GROUP: Final = "workers"

SESSION_TTL_S: Final = 24 * 3600
# From a session's start: as long as one that runs for a day, and is known for a day after its end.
INDEX_KEPT_S: Final = 2 * SESSION_TTL_S
CALL_TTL_S: Final = 24 * 3600
# What of a result's JSON goes through an inbox; a larger one stays in the call's record, and is fetched from there.
INLINE_RESULT_BYTES: Final = 32 * 1024
ANSWER_TTL_S: Final = 24 * 3600
HEARTBEAT_TTL_S: Final = 5
GATEWAYS_TTL_S: Final = 60
DEAD_LETTERS_MAXLEN: Final = 100_000
INBOX_TTL_S: Final = 24 * 3600
CONTROL_TTL_S: Final = 24 * 3600
REGISTRATION_KEPT_S: Final = 24 * 3600
CIRCUITS_TTL_S: Final = 3600

# A dead-letter key is named by queue; these belong to the guardrail workers, the archiver and the gateways.
GUARDRAILS_QUEUE: Final = "guardrails"
EVENTS_QUEUE: Final = "events"
INBOX_QUEUE: Final = "inbox"
RESERVED_QUEUES: Final = frozenset({GUARDRAILS_QUEUE, EVENTS_QUEUE, INBOX_QUEUE})

# A queue's name stands in braces in its keys, and before a slash in the ids of its dead letters.
QUEUE_NAME: Final = r"[A-Za-z0-9_.-]{1,64}"


def unreserved(queue: str) -> str:
    """`queue`, which may be a tool queue's name.

    Raises:
        ValueError: it is one of the `RESERVED_QUEUES`.
    """
    if queue in RESERVED_QUEUES:
        raise ValueError(f"a name other than {', '.join(sorted(RESERVED_QUEUES))} is allowed")
    return queue


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one installation: a prefix and two shard counts, which `config` pins cluster-wide."""

    prefix: str = "vb"
    event_shards: int = 16
    guardrail_shards: int = 4

    @property
    def config(self) -> str:
        """Hash: event_shards, guardrail_shards, registered event groups. Kept for ever."""
        return f"{self.prefix}:config"

    def event_shard(self, session: str) -> int:
        """The shard of a session's events and state, fixed at creation."""
        return crc32(session.encode()) % self.event_shards

    def guardrail_shard(self, session: str) -> int:
        return crc32(session.encode()) % self.guardrail_shards

    def events(self, shard: int) -> str:
        """Stream of recorded events; trimmed below the archived watermark."""
        return f"{self.prefix}:events:{{{shard}}}"

    def session_state(self, session: str) -> str:
        """Hash; `SESSION_TTL_S` after the last write."""
        return f"{self.prefix}:session:{{{self.event_shard(session)}}}:{session}:state"

    def session_items(self, session: str) -> str:
        """Hash item id -> JSON; lives as long as the state."""
        return f"{self.prefix}:session:{{{self.event_shard(session)}}}:{session}:items"

    def session_calls(self, session: str) -> str:
        """Hash call id -> JSON of pending and answered calls; lives as long as the state."""
        return f"{self.prefix}:session:{{{self.event_shard(session)}}}:{session}:calls"

    def session_end(self, session: str) -> str:
        """String: there once the session has ended, for workers, who may not read its state; lives as long as that."""
        return f"{self.prefix}:session:{{{self.event_shard(session)}}}:{session}:ended"

    def sessions(self, shard: int, tenant: str) -> str:
        """Sorted set: a tenant's sessions of one shard by when they began (ms); each leaves after `INDEX_KEPT_S`.

        Written in the scripts that write the state, so that whoever lists sessions need not search for keys.
        """
        return f"{self.prefix}:sessions:{{{shard}}}:{tenant}"

    def tools(self, queue: str) -> str:
        """Stream of tool calls, group `workers`; acknowledged entries are trimmed, undelivered ones never.

        What no worker took within 10 min after its deadline goes to the dead letters.
        """
        return f"{self.prefix}:tools:{{{queue}}}"

    def call(self, queue: str, session: str, call_id: str) -> str:
        """Hash: claim and result of one call; `CALL_TTL_S`."""
        return f"{self.calls(queue)}{session}:{call_id}"

    def calls(self, queue: str) -> str:
        """What the records of a queue's calls begin with."""
        return f"{self.prefix}:call:{{{queue}}}:"

    def is_record_of(self, key: str, session: str, call_id: str) -> bool:
        """Whether `key` is the record of this call, in whatever queue."""
        before, after = f"{self.prefix}:call:{{", f"}}:{session}:{call_id}"
        return key.startswith(before) and key.endswith(after) and "}" not in key[len(before) : -len(after)]

    @property
    def every_call(self) -> str:
        """The pattern of the records of all calls."""
        return f"{self.prefix}:call:{{*}}:*"

    def session_of_call(self, key: str, sessions: Container[str]) -> str | None:
        """Which of `sessions` this record of a call is of; None of none of them. Ids may have colons themselves."""
        if not key.startswith(f"{self.prefix}:call:{{"):
            return None
        parts = key.partition("}:")[2].split(":")
        names = (":".join(parts[:count]) for count in range(1, len(parts)))
        return next((name for name in names if name in sessions), None)

    def dead(self, queue: str) -> str:
        """Stream of dead letters; about `DEAD_LETTERS_MAXLEN` entries."""
        return f"{self.prefix}:dead:{{{queue}}}"

    def guardrails(self, shard: int) -> str:
        """Stream of guardrail checks, group `workers`; trimmed as `tools` is."""
        return f"{self.prefix}:guardrails:{{{shard}}}"

    def answer(self, digest: str) -> str:
        """String: a request in hand, or its answer, encrypted; `ANSWER_TTL_S`. The digest is of an idempotency key."""
        return f"{self.prefix}:answer:{{{digest}}}"

    def inbox(self, gateway: str) -> str:
        """Stream of replies and commands for one gateway; `INBOX_TTL_S` after the last write."""
        return f"{self.inboxes}{{{gateway}}}"

    @property
    def inboxes(self) -> str:
        """What all inboxes begin with."""
        return f"{self.prefix}:inbox:"

    def require_reply_to(self, reply_to: str) -> None:
        """Keep answers out of our other streams: `reply_to` may be any key but one of ours that is no inbox.

        Raises:
            ContractError: it is one.
        """
        if reply_to.startswith(f"{self.prefix}:") and not reply_to.startswith(self.inboxes):
            raise ContractError(f"reply_to {reply_to[:200]!r} is a key of ours and no inbox", reason="malformed")

    def access(self, tenant: str, what: str) -> str:
        """What a tenant and its keys use, by the tenant's digest: counted sessions (sorted sets), connections and
        HTTP requests (hashes); a minute after the last change.
        """
        return f"{self.prefix}:access:{{{sha256(tenant.encode()).hexdigest()[:16]}}}:{what}"

    def client_secret(self, digest: str) -> str:
        """String: what a browser's short-lived secret opens, by the secret's digest; gone when it expires."""
        return f"{self.prefix}:secret:{{{digest}}}"

    def gateway(self, gateway: str) -> str:
        """Hash: a gateway's heartbeat; `HEARTBEAT_TTL_S`."""
        return f"{self.prefix}:gateway:{{{gateway}}}"

    def gateway_calls(self, gateway: str) -> str:
        """Set: the calls (WebRTC) that a gateway is on, for those that go on when it dies; `SESSION_TTL_S` after the
        last change.
        """
        return f"{self.prefix}:gateway:{{{gateway}}}:calls"

    @property
    def gateways(self) -> str:
        """Sorted set: gateway id -> ms of its last sign of life; `GATEWAYS_TTL_S` after the last of them."""
        return f"{self.prefix}:gateways"

    def control(self, worker: str) -> str:
        """Stream of cancels for one worker, read without a group; `CONTROL_TTL_S` after the last write."""
        return f"{self.prefix}:control:{{{worker}}}"

    def worker(self, worker: str) -> str:
        """Hash: a worker's heartbeat; `HEARTBEAT_TTL_S`."""
        return f"{self.prefix}:worker:{{{worker}}}"

    @property
    def registry_tools(self) -> str:
        """Hash: tool name -> JSON of its registration; a tool goes `REGISTRATION_KEPT_S` after its last worker."""
        return f"{self.prefix}:registry:tools"

    @property
    def circuits(self) -> str:
        """Hash: tool name -> JSON of its open circuit; `CIRCUITS_TTL_S` after the last one was opened."""
        return f"{self.prefix}:circuits"

    def archiver_lease(self, shard: int) -> str:
        """String: which archiver reads this shard; expires with its holder."""
        return f"{self.prefix}:archiver:{{{shard}}}:lease"

    @property
    def archivers(self) -> str:
        """Sorted set: archiver id -> ms of its last sign of life; expires soon after the last of them."""
        return f"{self.prefix}:archivers"
