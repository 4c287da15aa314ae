"""The at-least-once loop over streams: read what there is room for, work, acknowledge after the effect.

It knows no Redis and no message: members of consumer groups bring deliveries, a handler does the work. What a handler
raises decides what happens to the entry:

    returns         acknowledged, unless it says by True that it is already
    ContractError   dead-lettered with its reason
    BusError        tried again until the bus is back; says nothing about the entry
    anything else   logged and tried again, after `max_deliveries` in all dead-lettered
    LeftError       left as it is: it is another consumer's now
    cancelled       left pending, for another worker to take over
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar, TypeVarTuple

from msgspec.structs import replace

from voicebus.contracts.envelope import Entry
from voicebus.errors import BusError, ContractError
from voicebus.ports import Clock, Delivery, StreamConsumer, Turn
from voicebus.runtime.retrying import retry_delay
from voicebus.runtime.slots import Slots
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger
from voicebus.telemetry.tracing import exemplar

log: Final = get_logger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Handler = Callable[[Entry, Delivery], Awaitable[bool | None]]
GivenUp = Callable[[Delivery, str, str], Awaitable[Mapping[str, str]]]

MAX_DELIVERIES: Final = 5
# The server gives entries to a reader for as long, though its process may be frozen or its machine gone by then.
BLOCK_MS: Final = 500
CLAIM_EVERY_S: Final = 0.25
TIDY_EVERY_S: Final = 5.0

# Of so few entries the first commands leave before the next read does: within so many turns of the event loop.
_FEW: Final = 4
_TURNS: Final = 3

# A claim that takes longer is waited for behind the next read. Who makes it says in time that a bus which hangs makes
# none: with all slots taken there may be no next read.
_CLAIMED_S: Final = 1.0

# How long what was read counts as worked on: what is in hand after that waits for something of its own.
_PORTION_S: Final = 0.01


class LeftError(Exception):
    """A handler has given its entry to another consumer, which sees to it from now on."""


async def until_reached(attempt: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
    """Do `attempt` until it does not raise `BusError`; doing it twice must be harmless."""
    failures = 0
    while True:
        try:
            return await attempt(*arguments)
        except BusError as error:
            if failures == 0:
                log.warning("waiting for the bus", error=str(error))
            await asyncio.sleep(retry_delay(failures))
            failures += 1


class ConsumerLoop:
    """Runs `handle` for every entry of `members`, at most `concurrency` at once.

    `on_reachable` hears whether the last read reached the bus, for readiness. `service` is the metrics' label.
    `given_up(delivery, reason, error)` hears of an entry, readable or not, before it goes to the dead letters, and
    returns what is to be kept with it; what it raises is logged. `turn` gives an entry that needs more than a slot its
    turn at that; while it waits for it, it takes no slot, and up to `concurrency` may. Of a `portion` no more is read
    for some 10 ms, unless some of it is done sooner; None: all that there is room for is read.
    """

    def __init__(
        self,
        members: Sequence[StreamConsumer],
        handle: Handler,
        *,
        clock: Clock,
        service: str,
        concurrency: int,
        on_reachable: Callable[[bool], None] | None = None,
        given_up: GivenUp | None = None,
        max_deliveries: int = MAX_DELIVERIES,
        turn: Callable[[Delivery], Turn | None] | None = None,
        portion: int | None = None,
    ) -> None:
        self._turn = turn
        self._waiting = 0
        self._given_up = given_up
        self._max_deliveries = max_deliveries
        self._members = members
        self._handle = handle
        self._clock = clock
        self._service = service
        self._concurrency = concurrency
        self._on_reachable = on_reachable
        self._slots = Slots(concurrency)
        self._queued = metrics.MESSAGE_QUEUE.labels(service=service)
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._portion = 2 * concurrency if portion is None else portion
        # Those that were taken lately and are in hand; at least a portion of them only while `_settling` is set.
        self._lately: set[tuple[str, str]] = set()
        # Those that are worked on without a slot.
        self._aside: set[tuple[str, str]] = set()
        self._settling: asyncio.TimerHandle | None = None
        self._room = asyncio.Event()
        self._room.set()

    @property
    def in_hand(self) -> int:
        """Entries that were read and are not done."""
        return len(self._tasks)

    async def run(self, stop: asyncio.Event, *, drain_timeout: float) -> None:
        """Work until `stop` is set, then finish what is in hand within `drain_timeout` (s); the rest stays pending.

        Raises:
            ExceptionGroup: the loop itself is broken; never for what a handler raises.
        """
        try:
            async with asyncio.TaskGroup() as group:
                background = [
                    group.create_task(work, name=f"{name} {member!r}")
                    for member in self._members
                    for name, work in (
                        ("read", self._read(member)),
                        ("claim", self._claim(member)),
                        ("tidy", self._tidy(member)),
                    )
                ]
                await stop.wait()
                for task in background:
                    task.cancel()
            await self._drain(drain_timeout)
        finally:
            await self._abandon()
            if self._settling is not None:
                self._settling.cancel()
                self._settling = None

    async def recover(self) -> None:
        """Take what became this consumer's without its having read it.

        Raises:
            BusError: the bus cannot be reached.
        """
        for member in self._members:
            await self._recover(member)

    def set_aside(self, delivery: Delivery) -> None:
        """Give the slot of an entry that is worked on to another. Whoever does this has to bound how many those are."""
        key = (delivery.stream, delivery.entry_id)
        if key in self._tasks and key not in self._aside:
            self._aside.add(key)
            self._slots.give()
            self._see_to_room()

    # --- background ---------------------------------------------------------------------------------

    async def _read(self, member: StreamConsumer) -> None:
        failures = 0
        while True:
            await self._room.wait()
            try:
                if failures:
                    await self._recover(member)
                deliveries = await self._next(member)
            except BusError as error:
                if failures == 0:
                    metrics.REDIS_DISRUPTIONS.labels(service=self._service).inc()
                    log.warning("reading waits for the bus", member=repr(member), error=str(error))
                self._reachable(False)
                await asyncio.sleep(retry_delay(failures))
                failures += 1
                continue
            for delivery in deliveries:
                self._take(member, delivery)
            if len(deliveries) <= _FEW:
                # Reading again costs as much as claiming does, and nobody waits for it.
                if claims := [one.claimed_at for one in deliveries if one.claimed_at is not None]:
                    await asyncio.wait(claims, timeout=_CLAIMED_S)
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
            failures = 0
            self._reachable(True)

    async def _recover(self, member: StreamConsumer) -> None:
        """Take what was delivered on a connection that broke before we heard of it; nobody else would."""
        for delivery in await member.read_own():
            self._take(member, delivery)

    async def _next(self, member: StreamConsumer) -> Sequence[Delivery]:
        free = max(1, self._readable)  # what was recovered just now may have taken the room; 0 would mean no limit
        if len(self._members) == 1:
            return await member.read(count=free, block_ms=BLOCK_MS)
        # With several streams a blocked read must not promise the same room to all of them: first what is there,
        # then wait for a single entry, which at worst waits here for a slot.
        return await member.read(count=free, block_ms=0) or await member.read(count=1, block_ms=BLOCK_MS)

    async def _claim(self, member: StreamConsumer) -> None:
        failed = False
        while True:
            more = False
            if (room := self._free) > 0:
                try:
                    if failed:
                        await self._recover(member)
                    deliveries = await member.claim_abandoned(count=room)
                except BusError as error:
                    failed = True
                    log.debug("no claims while the bus is away", error=str(error))
                else:
                    failed = False
                    for delivery in deliveries:
                        metrics.MESSAGES_CLAIMED.labels(service=self._service, cause=delivery.cause).inc()
                        self._take(member, delivery)
                    more = len(deliveries) >= room
            await asyncio.sleep(_PORTION_S if more else CLAIM_EVERY_S)
            if more:
                await self._room.wait()

    async def _tidy(self, member: StreamConsumer) -> None:
        while True:
            try:
                await member.tidy()
            except BusError as error:
                log.debug("not tidied while the bus is away", error=str(error))
            await asyncio.sleep(TIDY_EVERY_S)

    # --- entries ------------------------------------------------------------------------------------

    @property
    def _free(self) -> int:
        here = len(self._tasks) - len(self._aside)
        return max(0, min(self._concurrency - (here - self._waiting), 2 * self._concurrency - here))

    @property
    def _readable(self) -> int:
        return min(self._free, self._portion - len(self._lately))

    def _take(self, member: StreamConsumer, delivery: Delivery) -> None:
        key = (delivery.stream, delivery.entry_id)
        if key in self._tasks:
            return
        # By the loop itself: `asyncio.create_task` makes a name up first, and it is done with every entry.
        loop, name = asyncio.get_running_loop(), f"entry {delivery.stream}/{delivery.entry_id}"
        task = loop.create_task(self._work(member, delivery), name=name)
        self._tasks[key] = task
        self._lately.add(key)
        if self._settling is None and len(self._lately) >= self._portion:
            self._settling = loop.call_later(_PORTION_S, self._settled)
        task.add_done_callback(lambda _: self._done(key))
        if self._readable <= 0:
            self._room.clear()

    def _done(self, key: tuple[str, str]) -> None:
        del self._tasks[key]
        self._lately.discard(key)
        self._see_to_room()

    def _settled(self) -> None:
        self._settling = None
        self._lately.clear()
        self._see_to_room()

    def _see_to_room(self) -> None:
        if not self._room.is_set() and self._readable > 0:
            self._room.set()

    async def _work(self, member: StreamConsumer, delivery: Delivery) -> None:
        if delivery.deliveries > 1:
            metrics.MESSAGES_REDELIVERED.labels(service=self._service).inc()
        turn = None if self._turn is None else self._turn(delivery)
        try:
            if turn is not None:
                await self._wait(turn)
            if not self._slots.take_now():
                await self._slots.take()
            try:
                queued_ms = self._clock.at_ms() - int(delivery.entry_id.partition("-")[0])
                self._queued.observe(max(0, queued_ms) / 1000, exemplar(delivery.fields.get("traceparent")))
                await self._see_to(member, delivery)
            finally:
                key = (delivery.stream, delivery.entry_id)
                if key in self._aside:
                    self._aside.discard(key)
                else:
                    self._slots.give()
        finally:
            if turn is not None:
                turn.end()

    async def _wait(self, turn: Turn) -> None:
        self._waiting += 1
        self._see_to_room()
        try:
            await turn.wait()
        finally:
            self._waiting -= 1
            if self._free == 0:
                self._room.clear()

    async def _see_to(self, member: StreamConsumer, delivery: Delivery) -> None:
        try:
            done = await self._handled(delivery)
        except LeftError:
            return
        if done is True:
            return
        if done is False:
            await until_reached(member.acknowledge, delivery)
            return
        reason, error = done
        kept = await self._give_up(delivery, reason, error)
        await until_reached(lambda: member.dead_letter(delivery, reason=reason, error=error, kept=kept))
        metrics.MESSAGES_DEADLETTERED.labels(service=self._service, reason=reason).inc()
        log.warning("entry dead-lettered", stream=delivery.stream, entry=delivery.entry_id, reason=reason, error=error)

    async def _give_up(self, delivery: Delivery, reason: str, error: str) -> Mapping[str, str]:
        """Tell whoever waits for this entry that nothing will come of it; what is to be kept with its dead letter."""
        if self._given_up is None:
            return {}
        try:
            return await until_reached(self._given_up, delivery, reason, error)
        except Exception:  # the letter is written all the same
            log.exception("nobody was told of a dead letter", stream=delivery.stream, entry=delivery.entry_id)
            return {}

    async def _handled(self, delivery: Delivery) -> tuple[str, str] | bool:
        """Run the handler to an end: whether the entry is acknowledged by now, or the reason and error to bury it."""
        if delivery.deliveries > self._max_deliveries:
            return "too_many_deliveries", f"delivered {delivery.deliveries} times without an end"
        try:
            entry = Entry.parse(delivery.fields)
        except ContractError as error:
            return error.reason, str(error)
        deliveries = delivery.deliveries
        while True:
            try:
                return bool(await until_reached(self._handle, entry, delivery))
            except LeftError:
                raise
            except ContractError as error:
                return error.reason, str(error)
            except Exception as error:  # whatever a handler raises: an entry is tried again, then set aside
                log.exception("handler failed", type=entry.type, session=entry.session, deliveries=deliveries)
                if deliveries >= self._max_deliveries:
                    return "handler_failed", f"{type(error).__name__}: {error}"
                await asyncio.sleep(retry_delay(deliveries - delivery.deliveries))
                deliveries += 1
                delivery = replace(delivery, claimed_at=None)  # it may be another worker's by now
                metrics.MESSAGES_REDELIVERED.labels(service=self._service).inc()

    # --- the end ------------------------------------------------------------------------------------

    async def _drain(self, timeout_s: float) -> None:
        if timeout_s <= 0:
            # A limit that is over when it begins may cancel what comes after its block, before Python 3.13.
            self._leave()
            return
        try:
            async with asyncio.timeout(timeout_s):
                # A read may have been cut off just as its entries came; the bus need not know of that at once, so
                # that it is asked again after each wait.
                while await self._recovered() and self._tasks:
                    log.info("finishing what is in hand", entries=len(self._tasks))
                    await asyncio.wait(self._tasks.values())
        except TimeoutError:
            self._leave()

    def _leave(self) -> None:
        if self._tasks:
            log.warning("entries left to other workers", entries=len(self._tasks))

    async def _recovered(self) -> bool:
        try:
            for member in self._members:
                await self._recover(member)
        except BusError as error:
            log.warning("entries that just came are left to other workers", error=str(error))
            if self._tasks:
                await asyncio.wait(self._tasks.values())
            return False
        return True

    async def _abandon(self) -> None:
        left = list(self._tasks.values())
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _reachable(self, reached: bool) -> None:
        if self._on_reachable is not None:
            self._on_reachable(reached)
