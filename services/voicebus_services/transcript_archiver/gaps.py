"""Events that never arrived: asked of the session's owner, then looked for in what Redis keeps of the session, else
recorded as a `transcript_gap` (contract section 8).

Each archiver looks after the sessions of its shards. What is being looked into stands in the database, so that whoever
takes a shard over goes on with it.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from ulid_transform import ulid_now

from voicebus.adapters.database.gaps import Range
from voicebus.adapters.database.lines import RecordedEvent
from voicebus.adapters.database.store import TranscriptStore
from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.dispatch import new_entry
from voicebus.adapters.redis.heartbeat import living
from voicebus.adapters.redis.records import RedisRecords
from voicebus.contracts.commands import RESEND, SESSION_COMMAND, SessionCommand
from voicebus.contracts.envelope import Entry
from voicebus.contracts.journal import EventType
from voicebus.contracts.streams import INBOX_TTL_S, Keys
from voicebus.errors import BusError, ContractError, StoreError
from voicebus.ports import Clock, SessionRef
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger
from voicebus_services.transcript_archiver.singly import Singly

log: Final = get_logger(__name__)

EVERY_S: Final = 0.5
WAIT_S: Final = 2.0
"""How long what is missing may be on its way: after it was noticed, and again after its owner was asked."""

_RANGES_ASKED: Final = 20
_REFUSED_KEPT: Final = 10_000


class Gaps:
    """Run `run` as a task. `shards` are those that this archiver looks after now."""

    def __init__(
        self,
        store: TranscriptStore,
        bus: RedisConnection,
        keys: Keys,
        clock: Clock,
        shards: Callable[[], Collection[int]],
    ) -> None:
        self._store = store
        self._bus = bus
        self._keys = keys
        self._clock = clock
        self._shards = shards
        self._records = RedisRecords(bus, keys)
        # When (monotonic, s) a gap was noticed, and when its owner was asked.
        self._noticed: dict[str, float] = {}
        self._asked: dict[str, float] = {}
        self._refused: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._singly = Singly("the gaps of a session cannot be looked into")

    def refused(self, session: str, seq: int) -> None:
        """This event is among the dead letters: to have it sent again would bring the same one."""
        self._refused[session, seq] = None
        if len(self._refused) > _REFUSED_KEPT:
            self._refused.popitem(last=False)

    async def run(self) -> None:
        """Look after them until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.look()
            except (BusError, StoreError) as error:
                log.info("gaps are looked into later", error=str(error))
            except Exception:  # one odd gap must not end the care of all
                log.exception("gaps are not looked into")

    async def look(self) -> None:
        """Go one step with each gap.

        Raises:
            BusError, StoreError: Redis or the database cannot be reached.
        """
        shards = self._shards()
        ours = [one for one in await self._store.with_gaps() if self._keys.event_shard(one) in shards]
        for known in (self._noticed, self._asked):
            for session in known.keys() - set(ours):
                del known[session]
        await self._singly.look(ours, self._step)

    async def _step(self, session: str) -> None:
        since = self._asked.get(session) or self._noticed.setdefault(session, time.monotonic())
        if time.monotonic() < since + WAIT_S:
            return
        ranges = await self._store.missing(session)
        if ranges and session not in self._asked and await self._ask(session, self._still_to_come(session, ranges)):
            self._asked[session] = time.monotonic()
            return
        if ranges:
            await self._fill(session, ranges)
        await self._store.settle(session)
        self._noticed.pop(session, None)
        self._asked.pop(session, None)

    def _still_to_come(self, session: str, ranges: Iterable[Range]) -> list[Range]:
        return [each for each in ranges if not (each[0] == each[1] and (session, each[0]) in self._refused)]

    async def _ask(self, session: str, ranges: Sequence[Range]) -> bool:
        """Ask the owner, if there is one that lives."""
        owner, epoch = await self._bus.call("HMGET", self._keys.session_state(session), "owner", "epoch")
        if not owner or not ranges:
            return False
        (alive,) = await living(self._bus, [self._keys.gateway(owner)])
        if not alive:
            return False
        for first, last in ranges[:_RANGES_ASKED]:
            wanted = {"from": first, "to": last}
            command = SessionCommand.model_validate({"command_id": ulid_now(), "command": RESEND, **wanted})
            entry = new_entry(SessionRef(session, int(epoch or 0)), SESSION_COMMAND, command, self._clock)
            inbox = self._keys.inbox(owner)
            flat = [text for pair in entry.fields().items() for text in pair]
            await self._bus.call("XADD", inbox, "*", *flat)
            await self._bus.call("EXPIRE", inbox, INBOX_TTL_S)
        log.info("asked for events that are missing", session=session, owner=owner, ranges=ranges[:_RANGES_ASKED])
        return True

    async def _fill(self, session: str, ranges: Sequence[Range]) -> None:
        """Store what Redis keeps of them, and mark the rest as lost."""
        found: list[RecordedEvent] = []
        lost: list[RecordedEvent] = []
        for first, last in ranges:
            known = await self._records.kept(session, first - 1, last)
            start = first
            for seq in sorted(known):
                at, type_, data = known[seq]
                try:
                    found.append(_event(session, seq, type_, at, data))
                except ContractError:
                    continue
                if start < seq:
                    lost.append(self._gap(session, start, seq - 1))
                start = seq + 1
            if start <= last:
                lost.append(self._gap(session, start, last))
        if found:
            try:
                await self._store.write(found)
            except ContractError as error:
                log.warning("what Redis keeps of a session is not stored", session=session, error=str(error))
                lost = [self._gap(session, first, last) for first, last in ranges]
                found = []
        await self._store.write(lost)
        count = sum(event.data["last"] - event.data["first"] + 1 for event in lost)
        metrics.TRANSCRIPT_GAPS.inc(count)
        say = log.warning if count else log.info
        say("a gap in a transcript", session=session, found=len(found), lost=count)

    def _gap(self, session: str, first: int, last: int) -> RecordedEvent:
        return _event(session, first, EventType.TRANSCRIPT_GAP, self._clock.at_ms(), {"first": first, "last": last})


def _event(session: str, seq: int, type_: EventType, at: int, data: dict[str, object]) -> RecordedEvent:
    entry = Entry(id=ulid_now(), type=type_, session=session, epoch=0, at=at, data=data, seq=seq)
    return RecordedEvent.of(entry)
