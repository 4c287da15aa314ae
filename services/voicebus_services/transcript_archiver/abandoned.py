"""Sessions whose gateway has died and that nobody came back for: ended, so that their transcripts are whole.

Any archiver may do it, each for the shards that it holds. It becomes the session's owner for that, with the next epoch,
so that neither the old one nor a gateway that takes the session at the same moment can write beside it.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Final

from voicebus.adapters.database.store import TranscriptStore
from voicebus.adapters.redis.journal import RedisJournal
from voicebus.adapters.redis.takeover import Left, RedisTakeover
from voicebus.contracts.journal import INTERRUPTED, EventType
from voicebus.contracts.streams import Keys
from voicebus.engine.config import AgentSpec, Face, SessionConfig, ToolSpec
from voicebus.engine.inputs import End
from voicebus.engine.keeping import Kept
from voicebus.engine.outputs import Record
from voicebus.engine.session import Session
from voicebus.errors import BusError, StoreError
from voicebus.ports import Clock, SessionRef
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger
from voicebus_services.transcript_archiver.forgotten import Forgotten
from voicebus_services.transcript_archiver.singly import Singly

log: Final = get_logger(__name__)

EVERY_S: Final = 5.0


class Abandoned:
    """Run `run` as a task, beside the journal's. `shards` are those that this archiver looks after now.

    `is_dead` says of a gateway's id, whose heartbeat does not count any more, whether that one is dead. `grace_s`: how
    long a client may take to come back, from when its gateway was first found dead. `on_ended` hears of each session
    that was ended, by tenant and id. `forgotten` sees to those that Redis does not know.
    """

    def __init__(
        self,
        store: TranscriptStore,
        bus: RedisTakeover,
        journal: RedisJournal,
        clock: Clock,
        keys: Keys,
        shards: Callable[[], Collection[int]],
        *,
        forgotten: Forgotten,
        is_dead: Callable[[str], bool],
        grace_s: float,
        on_ended: Callable[[str, str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._bus = bus
        self._journal = journal
        self._clock = clock
        self._keys = keys
        self._shards = shards
        self._forgotten = forgotten
        self._is_dead = is_dead
        self._grace_s = grace_s
        self._on_ended = on_ended
        self._monotonic = monotonic
        # Since when (monotonic, s) a session has no living owner; those that are looked at, and no others.
        self._alone: dict[str, float] = {}
        self._singly = Singly("a session without a gateway cannot be ended")

    async def run(self) -> None:
        """Look after them until cancelled."""
        while True:
            await asyncio.sleep(min(EVERY_S, max(0.1, self._grace_s / 4)))
            try:
                await self.look()
            except (BusError, StoreError) as error:
                log.info("sessions without a gateway are looked for later", error=str(error))
            except Exception:  # one odd session must not end the care of all
                log.exception("sessions without a gateway are not looked after")

    async def look(self) -> None:
        """End what has been without a gateway for the grace.

        Raises:
            BusError, StoreError: Redis, or the master of some of them, or the database cannot be reached.
        """
        # Of one that cannot be looked at now nobody could come back either: it is given the grace anew.
        known, self._alone = self._alone, {}
        self._forgotten.begin()
        shards = self._shards()
        open_ones = [one for one in await self._store.unfinished() if self._keys.event_shard(one) in shards]
        now = self._monotonic()

        async def see_to(session: str) -> None:
            standing = await self._bus.look(session)
            if standing is None:
                await self._forgotten.see_to(session)
                return
            if standing.ended or standing.lives_for_ms or not standing.seq:
                return
            # Asked behind the answer, which may have come from a server that has just woken up.
            told = standing.released or self._is_dead(standing.owner)
            if not told and session not in known:
                return
            since = self._alone[session] = known.get(session, now)
            if told and now >= since + self._grace_s:
                left = await self._bus.take(session, standing.epoch, owner=standing.owner)
                if left is not None:
                    await self._end(left)

        await self._singly.look(open_ones, see_to)

    async def _end(self, left: Left) -> None:
        ref = SessionRef(left.session, left.epoch)
        at_ms = self._clock.at_ms()
        self._journal.adopt(left.session, left.state)
        for record in last_words(left, left.kept(at_ms)):
            self._journal.append(ref, record, at_ms)
        await self._journal.close(ref)
        metrics.SESSIONS_ENDED.labels(reason=INTERRUPTED).inc()
        self._on_ended(left.state["tenant"], left.session)
        log.warning("ended a session that nobody came back for", session=left.session, epoch=left.epoch)


def last_words(left: Left, kept: Kept) -> list[Record]:
    """What is still to be recorded of a session that ends now: open lines, calls without an answer, the end."""
    calls = {row[4]: set[str]() for row in kept.work.get("calls", ())}
    for row in kept.work.get("calls", ()):
        calls[row[4]].add(row[2])

    def agent(name: str) -> AgentSpec:
        tools = sorted(calls.get(name, ()))
        return AgentSpec(name, tools=tuple(ToolSpec(tool, "", {}, queue="", timeout_ms=0) for tool in tools))

    state = left.state
    config = SessionConfig(
        session=left.session,
        face=Face.NATIVE,
        agent=agent(state.get("agent", "")),
        model=state.get("model", ""),
        tenant=state["tenant"],
    )
    whole = Kept(
        seq=kept.seq,
        epoch=kept.epoch,
        elapsed_s=kept.elapsed_s,
        items=kept.items,
        work=kept.work,
        recorded=kept.recorded,
        calls=kept.calls,
        agents={name: agent(name) for name in calls},
        told_ms=kept.told_ms,
    )
    engine = Session(config, now=0.0, kept=whole)
    outputs = [*engine.start(), *engine.handle(End(INTERRUPTED), 0.0)]
    # Nothing is dialled.
    records = [one for one in outputs if isinstance(one, Record) and one.type is not EventType.MODEL_RECONNECTING]
    return [Record(kept.seq + number, one.type, one.data) for number, one in enumerate(records, start=1)]
