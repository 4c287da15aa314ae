"""A gateway's side of the bus: what its sessions record, ask for and hear through Redis, and the tasks for that."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from voicebus.adapters.redis.backlog import Backlog
from voicebus.adapters.redis.checking import RedisGuardrailDispatch
from voicebus.adapters.redis.circuits import CircuitWatch
from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.commanding import RedisCommands
from voicebus.adapters.redis.dispatch import RedisToolDispatch
from voicebus.adapters.redis.guardrail_circuit import GuardrailCircuit
from voicebus.adapters.redis.inbox import RedisInbox
from voicebus.adapters.redis.journal import RedisJournal
from voicebus.adapters.redis.journal_queue import KEEP_S
from voicebus.adapters.redis.outbox import Outbox
from voicebus.adapters.redis.refusals import OpenCircuits
from voicebus.adapters.redis.replication import MasterWatch
from voicebus.adapters.redis.unserved import UnservedCalls
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import Outcome
from voicebus.errors import StaleOwnerError
from voicebus.runtime.surroundings import Bus
from voicebus.telemetry.logging import get_logger

_SERVICE = "gateway"
_FLUSH_S = 5.0

# What a worker says of a call that it has worked on to its end; a cancelled one is answered behind its cancel.
_DONE = (Outcome.OK, Outcome.ERROR, Outcome.UNKNOWN)

log = get_logger(__name__)


class BusSide:
    """Made of what is open already; `begin` it, and run its `work`.

    `lost` hears of each session that another gateway owns now, `wanted` of one that another gateway asks for (see
    `RedisInbox`), `reached` whether the last read reached Redis. `tells_dead` says of a heartbeat that does not count
    any more whether its process is dead. `guardrail_timeout_s` is the limit of a check.
    """

    def __init__(
        self,
        redis: RedisConnection,
        clock: RedisClock,
        keys: Keys,
        gateway: str,
        *,
        guardrail_timeout_s: float,
        lost: Callable[[StaleOwnerError], None],
        wanted: Callable[[Entry], asyncio.Future[None]],
        reached: Callable[[bool], None],
        tells_dead: Callable[[str], Awaitable[bool]],
    ) -> None:
        def taken(entry: Entry) -> None:
            lost(StaleOwnerError(entry.session, epoch=entry.epoch - 1, current=entry.epoch))

        def answered(entry: Entry) -> None:
            call = self._unserved.ended(entry.session, str(entry.data.get("call_id")))
            if call is not None:
                self._backlog.ended(call, entry.data)
            elif entry.data.get("outcome") in _DONE:
                log.info(
                    "a result came that nobody waits for: its call has ended, or was never made", session=entry.session,
                    call=entry.data.get("call_id"), outcome=entry.data["outcome"], worker=entry.data.get("worker"),
                )  # fmt: skip

        def deaf(why: str | None) -> None:
            self._unserved.deaf(why)

        self._clock = clock
        self.outbox = Outbox(redis, clock, service=_SERVICE)
        self.commands = RedisCommands(redis, self.outbox, clock, keys, gateway)
        self.journal = RedisJournal(redis, clock, keys, owner=gateway, on_stale=lost)
        self._judging = GuardrailCircuit(guardrail_timeout_s, clock.monotonic)
        self.inbox = RedisInbox(
            redis, keys, gateway, commands=self.commands, on_taken=taken, on_resend=self.journal.resend,
            on_verdict=self._judging.answered, on_yield=wanted, on_reachable=reached, on_refused=deaf,
            on_result=answered,
        )  # fmt: skip
        self._unserved = UnservedCalls(redis, keys, clock, self.inbox.bring, tells_dead=tells_dead)
        self.masters = MasterWatch(redis, service=_SERVICE)
        self.circuits = CircuitWatch(redis, keys, clock)
        self._backlog = Backlog(redis, keys, clock)
        self._tools = RedisToolDispatch(
            redis, self.outbox, clock, keys, reply_to=self.inbox.stream,
            refusing=[self._unserved, OpenCircuits(self.circuits, clock), self._backlog], answer=self.inbox.bring,
            after=self.journal.after, following=self._unserved,
        )  # fmt: skip
        self._checks = RedisGuardrailDispatch(
            self.outbox, clock, keys, reply_to=self.inbox.stream, circuit=self._judging
        )
        self.ports = Bus(clock, self._tools, self._checks, self.journal, self.inbox)

    async def begin(self) -> None:
        """Look which servers are the masters; what is done once others are is in the order of its being needed."""
        await self.masters.begin()
        self.masters.on_change(lambda _: self._clock.doubt())
        self.masters.on_change(self.journal.restore)
        self.masters.on_change(self.outbox.resend)
        self.masters.on_change(lambda _: self.inbox.rewind())

    def emptied(self) -> None:
        """Redis does not know this gateway any more: it may not know its sessions either."""
        self.journal.restore(time.monotonic() - KEEP_S)

    async def aclose(self, timeout_s: float) -> None:
        """Ask for nothing more, and write what is left; while `work` runs still. What was said has `timeout_s`."""
        await self._tools.aclose(_FLUSH_S)
        await self.outbox.drain(_FLUSH_S)
        await self.journal.drain(timeout_s)

    def work(self) -> Mapping[str, Coroutine[Any, Any, None]]:
        """What is to run as long as the gateway does, by name."""
        return {
            "inbox": self.inbox.run(),
            "journal": self.journal.run(),
            "outbox": self.outbox.run(),
            "clock": self._clock.keep(),
            "masters": self.masters.run(),
            "circuits": self.circuits.run(),
            "backlog": self._backlog.run(),
            "judging": self._judging.run(self._checks.probe),
            "unserved": self._unserved.run(),
        }
