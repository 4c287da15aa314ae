"""One member of a consumer group on one stream (contract sections 1 and 8).

One stream only, because no blocking read may name two hash tags; a worker of several queues has several members.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.dead_letters import write_dead_letter
from voicebus.adapters.redis.heartbeat import living, sends_heartbeats
from voicebus.adapters.redis.new_calls import Claims, NewCalls
from voicebus.adapters.redis.scripts import HANDOVER, REAP
from voicebus.adapters.redis.trimming import pairs, trim
from voicebus.contracts.streams import Keys
from voicebus.errors import BusError
from voicebus.ports import Delivery
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

# A dead consumer's entry must have rested this long, so that of two claimers only the quicker gets it.
CLAIM_DEAD_MS: Final = 250

# Consumers without heartbeats (the basic level) are given this long for one entry.
CLAIM_IDLE_MS: Final = 30_000

# A consumer without heartbeats that took nothing for this long is removed; it comes back with its next read.
REAP_IDLE_MS: Final = 3_600_000

# So many are looked at, at a time, where none has rested; they are a consumer's oldest.
_RESTING: Final = 100

# More than a member can have been sent between two failures: its loop reads at most its concurrency.
_OWN: Final = 10_000

_NONE: Final[Claims] = {}


async def _always(_: str) -> bool:
    return True


class RedisStreamConsumer:
    """Implements `voicebus.ports.StreamConsumer`. `consumer` is a worker's id; its heartbeat must beat already.

    `calls` claims what is new in a queue of tool calls as it comes. `tells_dead` says of a heartbeat that does not
    count any more whether its process is dead; by default each such process is.
    """

    def __init__(
        self,
        bus: RedisConnection,
        keys: Keys,
        *,
        stream: str,
        group: str,
        consumer: str,
        dead_queue: str,
        calls: NewCalls | None = None,
        tells_dead: Callable[[str], Awaitable[bool]] = _always,
    ) -> None:
        self._tells_dead = tells_dead
        self._calls = calls
        # The last id that was read. Not the greatest: a master that took over may give lower ones.
        self._last = "0-0"
        self.stream = stream
        self._bus = bus
        self._keys = keys
        self._group = group
        self._consumer = consumer
        self._dead = keys.dead(dead_queue)
        # Bounded by the reader's concurrency.
        self._acknowledging: list[tuple[str, asyncio.Future[None]]] = []

    def __repr__(self) -> str:
        return f"<RedisStreamConsumer {self._consumer} of {self._group} on {self.stream}>"

    async def read(self, *, count: int, block_ms: int) -> Sequence[Delivery]:
        """New entries, at most `count`; empty after `block_ms` (0: at once). Creates the group where it is missing."""
        command: list[str | int] = ["XREADGROUP", "GROUP", self._group, self._consumer, "COUNT", count]
        names = ["STREAMS", self.stream, ">"]
        claimed = _NONE
        try:
            if block_ms and self._calls is not None:
                blocking = [*command, "BLOCK", block_ms, *names]
                reply, claimed = await self._calls.read(blocking, group=self._group, after=self._last)
            elif block_ms:
                reply = await self._bus.read_blocking(*command, "BLOCK", block_ms, *names)
            else:
                reply = await self._bus.call(*command, *names)
        except BusError as error:
            if not _no_group(error):
                raise
            await self._create_group()
            return []
        found: list[Delivery] = []
        for _, entries in reply or ():
            self._last = entries[-1][0]
            found += self._deliveries(entries, claimed)
        return found

    async def read_own(self) -> Sequence[Delivery]:
        """What was delivered to this member and is not acknowledged: also what it never got to see."""
        command = ("XREADGROUP", "GROUP", self._group, self._consumer, "COUNT", _OWN, "STREAMS", self.stream, "0")
        try:
            reply = await self._bus.call(*command)
        except BusError as error:
            if not _no_group(error):
                raise
            return []
        return [delivery for _, entries in reply or () for delivery in self._deliveries(entries)]

    async def acknowledge(self, delivery: Delivery) -> None:
        """Those of one turn of the event loop are acknowledged by one command."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        if not self._acknowledging:
            loop.call_soon(self._acknowledge)
        self._acknowledging.append((delivery.entry_id, done))
        await done

    def _acknowledge(self) -> None:
        batch, self._acknowledging = self._acknowledging, []

        def settle(command: asyncio.Future[Any]) -> None:
            error = command.exception()
            for _, done in batch:
                if done.done():  # who waited was cancelled
                    continue
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)

        ids = (entry_id for entry_id, _ in batch)
        self._bus.submit("XACK", self.stream, self._group, *ids).add_done_callback(settle)

    async def dead_letter(
        self, delivery: Delivery, *, reason: str, error: str, kept: Mapping[str, str] | None = None
    ) -> None:
        """Copy the entry to the dead letters with its reason and what else is `kept`, then acknowledge it."""
        await write_dead_letter(
            self._bus, self._dead, delivery.fields, stream=self.stream, entry_id=delivery.entry_id,
            deliveries=delivery.deliveries, reason=reason, error=error, kept=kept,
        )  # fmt: skip
        await self.acknowledge(delivery)

    async def claim_abandoned(self, *, count: int) -> Sequence[Delivery]:
        """Take over entries of dead consumers, at once, and of consumers without heartbeats, after 30 s."""
        others = [other for other in await self._others() if int(other["pending"]) > 0]
        heartbeats = [self._keys.worker(other["name"]) for other in others]
        beats = await living(self._bus, heartbeats)
        # Asked behind the answers, which may have come from a server that has just woken up.
        dead = [
            other["name"]
            for other, heartbeat, alive in zip(others, heartbeats, beats, strict=True)
            if not alive and await self._tells_dead(heartbeat)
        ]
        taken: list[Delivery] = []
        for name in dead:
            if len(taken) < count:
                taken += await self._take(name, count - len(taken))
        return taken

    async def tidy(self) -> None:
        """Remove what every group has acknowledged, and consumers that are dead and hold nothing."""
        try:
            await trim(self._bus, self.stream)
            others = [other for other in await self._others() if int(other["pending"]) == 0]
            beats = await living(self._bus, [self._keys.worker(other["name"]) for other in others])
            for other, alive in zip(others, beats, strict=True):
                rested = sends_heartbeats(other["name"]) or int(other["idle"]) > REAP_IDLE_MS
                if not alive and rested:
                    await self._bus.script(REAP, [self.stream], self._group, other["name"])
        except BusError as error:
            if not _no_group(error):
                raise

    async def leave(self) -> None:
        """Leave the group, unless something is still pending."""
        try:
            await self._bus.script(REAP, [self.stream], self._group, self._consumer)
        except BusError as error:
            if not _no_group(error):
                raise

    async def _create_group(self) -> None:
        # At 0: what was written before the first worker came must be delivered, and `lag` stays known.
        try:
            await self._bus.call("XGROUP", "CREATE", self.stream, self._group, "0", "MKSTREAM")
        except BusError as error:
            if "BUSYGROUP" not in str(error):
                raise
        else:
            log.info("consumer group created", stream=self.stream, group=self._group)

    async def _others(self) -> list[dict[str, Any]]:
        try:
            consumers = await self._bus.call("XINFO", "CONSUMERS", self.stream, self._group)
        except BusError as error:
            if _no_group(error):
                return []
            raise
        return [named for named in map(pairs, consumers) if named["name"] != self._consumer]

    async def _take(self, other: str, count: int) -> list[Delivery]:
        cause: Literal["dead", "idle"] = "dead" if sends_heartbeats(other) else "idle"
        rest = CLAIM_DEAD_MS if cause == "dead" else CLAIM_IDLE_MS
        pending = await self._bus.call(
            "XPENDING", self.stream, self._group, "IDLE", rest, "-", "+", count, other, parse_detail=True
        )
        delivered = {row["message_id"]: int(row["times_delivered"]) for row in pending}
        if not delivered:
            await self._rest(other)
            return []
        entries = await self._bus.call("XCLAIM", self.stream, self._group, self._consumer, rest, *delivered)
        taken = [
            Delivery(self.stream, one.entry_id, one.fields, delivered[one.entry_id] + 1, previous=other, cause=cause)
            for one in self._deliveries(entries)
        ]
        if taken:
            log.info("entries taken over", stream=self.stream, entries=len(taken), previous=other, cause=cause)
        return taken

    async def _rest(self, other: str) -> None:
        """Have those entries rest from now on that were delivered later than now: the server's clock was set back."""
        pending = await self._bus.call(
            "XPENDING", self.stream, self._group, "-", "+", _RESTING, other, parse_detail=True
        )
        for row in pending:
            if not int(row["time_since_delivered"]):
                await self._bus.script(HANDOVER, [self.stream], self._group, row["message_id"], other, other)

    def _deliveries(self, entries: Iterable[Any], claimed: Claims = _NONE) -> list[Delivery]:
        # An entry that was deleted while pending comes without fields; there is nothing left to do for it.
        return [
            Delivery(self.stream, entry_id, fields, 1, claimed_at=claimed.get(entry_id))
            for entry_id, fields in entries
            if fields
        ]


def _no_group(error: BusError) -> bool:
    text = str(error)
    return "NOGROUP" in text or "no such key" in text
