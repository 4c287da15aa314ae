"""How a worker process joins the bus and leaves it: the one order of start and stop for every kind of worker.

Joined means: connected, of one mind about the configuration, beating. Leaving means: answers sent, groups left, and
only then the heartbeat ended, so that nothing is taken from a worker that still finishes it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.config import keep_pinned, pin_config
from voicebus.adapters.redis.consumer import RedisStreamConsumer
from voicebus.adapters.redis.heartbeat import Heartbeat, new_incarnation
from voicebus.adapters.redis.new_calls import NewCalls
from voicebus.adapters.redis.outbox import Outbox
from voicebus.adapters.redis.replication import MasterWatch, Replicas
from voicebus.contracts.streams import CALL_TTL_S, WORKERS_GROUP, Keys
from voicebus.errors import BusError
from voicebus.telemetry import zeroed
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

FLUSH_S: Final = 5.0


class Membership:
    """A worker on the bus. `id` names this incarnation of its process."""

    def __init__(
        self,
        bus: RedisConnection,
        keys: Keys,
        clock: RedisClock,
        outbox: Outbox,
        group: asyncio.TaskGroup,
        worker: str,
        masters: MasterWatch,
        heartbeat: Heartbeat,
    ) -> None:
        self.id = worker
        self.heartbeat = heartbeat
        self.masters = masters
        self.replicas: Replicas = Replicas(bus, masters, ttl_s=CALL_TTL_S)
        self.bus = bus
        self.keys = keys
        self.clock = clock
        self.outbox = outbox
        self._group = group
        self._background: list[asyncio.Task[None]] = []
        self._members: list[RedisStreamConsumer] = []

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run `work` beside the worker's own, until it leaves."""
        self._background.append(self._group.create_task(work, name=name))

    def consume(
        self, streams: Mapping[str, str], *, tools: Callable[[], Mapping[str, str]] | None = None
    ) -> Sequence[RedisStreamConsumer]:
        """Become a consumer of these streams, each with the queue that names its dead letters.

        Where they are queues of tool calls, `tools` gives those, by name with their versions, of which every call is
        started at once: they are claimed as they are delivered.
        """
        joined = [
            RedisStreamConsumer(
                self.bus, self.keys, stream=stream, group=WORKERS_GROUP, consumer=self.id, dead_queue=queue,
                calls=None if tools is None else NewCalls(self.bus, self.keys, queue, self.id, tools),
                tells_dead=self.tells_dead,
            )
            for stream, queue in streams.items()
        ]  # fmt: skip
        self._members += joined
        return joined

    async def tells_dead(self, heartbeat: str) -> bool:
        """Whether one that does not count any more tells that its process is dead.

        Raises:
            BusError: Redis cannot be reached.
        """
        return await self.heartbeat.tells_dead(self.bus, heartbeat)

    async def leave(self) -> None:
        """Send what waits, leave the groups, end what was spawned."""
        await self.outbox.drain(FLUSH_S)
        try:
            async with asyncio.timeout(FLUSH_S):
                for member in self._members:
                    await member.leave()
        except (BusError, TimeoutError) as error:
            log.debug("groups not left, other workers will tidy up", error=str(error))
        for task in self._background:
            task.cancel()


@asynccontextmanager
async def joined(
    url: str,
    keys: Keys,
    *,
    service: str,
    describe: Callable[[], Mapping[str, str]],
    lost: Callable[[], None] = lambda: None,
) -> AsyncIterator[Membership]:
    """Join the bus for the length of the block. `describe` gives the heartbeat's fields, in a thread of its own; `lost`
    hears that Redis had lost the heartbeat, and so perhaps all that this worker has written.

    Raises:
        BusError: Redis cannot be reached.
        SettingsError: the installation is configured otherwise.
    """
    worker = new_incarnation()
    zeroed.of_worker(service)
    async with await connect(url) as bus:
        await pin_config(bus, keys)
        clock = RedisClock(bus)
        await clock.synchronise()
        heartbeat = Heartbeat(url, keys.worker(worker), describe, lost=lost, jumped=clock.doubt)
        outbox = Outbox(bus, clock, service=service)
        try:
            await heartbeat.start()
            async with asyncio.TaskGroup() as group:
                masters = MasterWatch(bus, service=service)
                await masters.begin()
                masters.on_change(lambda _: clock.doubt())
                masters.on_change(lambda _: heartbeat.contact.broke())
                masters.on_change(outbox.resend)
                membership = Membership(bus, keys, clock, outbox, group, worker, masters, heartbeat)
                membership.spawn(masters.run(), name="masters")
                membership.spawn(outbox.run(), name="outbox")
                membership.spawn(clock.keep(), name="clock")
                membership.spawn(keep_pinned(bus, keys), name="configuration")
                yield membership
                await membership.leave()
        except BaseExceptionGroup as failures:  # a group of tasks wraps whatever its block raises
            if len(failures.exceptions) > 1:
                raise
            raise failures.exceptions[0] from failures.exceptions[0].__cause__  # what the block raised, as it was
        finally:
            await heartbeat.stop()
