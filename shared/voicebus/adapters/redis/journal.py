"""A session owner's recorded events on their way to Redis: in order, fenced by its epoch, together with the state
that they change, one script per session and flush.

A flush whose outcome is unknown is simply sent again: the script skips what it has (contract section 2).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from ulid_transform import ulid_now

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.flushing import Flusher
from voicebus.adapters.redis.journal_queue import KEEP_S, MAX_FLUSH, Event, Flush, OwnedSession
from voicebus.adapters.redis.lanes import Lanes
from voicebus.adapters.redis.scripts import FLUSH, OPEN, RESEND
from voicebus.adapters.redis.session_state import changes_of
from voicebus.contracts.envelope import entry_fields
from voicebus.contracts.journal import LOCAL_TENANT
from voicebus.contracts.streams import INDEX_KEPT_S, SESSION_TTL_S, Keys
from voicebus.engine.outputs import Record
from voicebus.errors import BusError, StaleOwnerError
from voicebus.ports import Clock, SessionRef
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

CLOSE_TIMEOUT_S: Final = 5.0

# Characters that are written at once, and the last session's: what is sent stands in memory once more.
AT_ONCE_CHARS: Final = 4_000_000

# Characters of sessions that have ended and are kept for that, of all together; the oldest go first.
KEPT_CHARS: Final = 32_000_000


class RedisJournal:
    """Implements `voicebus.ports.Journal`. Run `run` as a task of the gateway.

    `on_stale` is called on the event loop when a session turns out to have another owner; nothing more is written for
    it. `owner` is the gateway's id.
    """

    def __init__(
        self,
        bus: RedisConnection,
        clock: Clock,
        keys: Keys,
        *,
        owner: str,
        on_stale: Callable[[StaleOwnerError], None],
        service: str = "gateway",
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._keys = keys
        self._owner = owner
        self._on_stale = on_stale
        self._service = service
        self._sessions: dict[str, OwnedSession] = {}
        self._flushers = Lanes(lambda: Flusher(self._flush, service=service), name="journal")
        # Those that ended within `KEEP_S`, by when; and how many characters they hold.
        self._ended: deque[tuple[float, int, OwnedSession]] = deque()
        self._ended_chars = 0

    async def open(self, session: str, *, state: Mapping[str, str]) -> int:
        """Create the session's state and list it among its tenant's, or take it over; returns this owner's epoch.

        `state` are further hash fields; `tenant` is one of them, `LOCAL_TENANT` where it is absent.

        Raises:
            BusError: Redis cannot be reached.
        """
        now = self._clock.at_ms()
        fields = {
            "tenant": LOCAL_TENANT, **state, "id": session, "owner": self._owner, "status": "active", "at": str(now),
        }  # fmt: skip
        flat = [text for pair in fields.items() for text in pair]
        index = self._keys.sessions(self._keys.event_shard(session), fields["tenant"])
        epoch, started_at = await self._bus.script(
            OPEN, [self._keys.session_state(session), index], SESSION_TTL_S, session, now, INDEX_KEPT_S, *flat
        )
        fields["started_at"] = str(started_at)
        self._sessions[session] = OwnedSession(session, int(epoch), fields, index)
        return int(epoch)

    def adopt(self, session: str, state: Mapping[str, str]) -> None:
        """Write for a session that this owner has taken over; `state` is all of it, epoch and seq included."""
        tenant = state.get("tenant", LOCAL_TENANT)
        index = self._keys.sessions(self._keys.event_shard(session), tenant)
        kept = {name: value for name, value in state.items() if name not in ("epoch", "seq")}
        owned = self._sessions[session] = OwnedSession(session, int(state["epoch"]), kept, index)
        owned.written = owned.taken_at = int(state["seq"])

    def disown(self, session: str) -> None:
        """Write nothing more for a session that another owner has taken over."""
        owned = self._sessions.get(session)
        if owned is not None:
            owned.abandon()

    def append(self, session: SessionRef, record: Record, at_ms: int) -> None:
        """Queue a recorded event; flushed within about 5 ms, in order, with the state it changes."""
        owned = self._sessions[session.id]
        if owned.stale:
            return
        data = record.data.model_dump_json()
        entry = entry_fields(
            ulid_now(), record.type, session.id, owned.epoch, at_ms, data,
            seq=record.seq, traceparent=session.traceparent,
        )  # fmt: skip
        fields = [text for pair in entry.items() for text in pair]
        changes = changes_of(record, at_ms)
        owned.state.update(changes.state)
        for name in changes.state:  # the later word counts
            owned.changed.pop(name, None)
        if not owned.add(Event(record.seq, time.monotonic(), fields, changes, len(data))):
            log.error("journal full, events are dropped", session=session.id, kept=len(owned.events))
        self._flusher(owned).soon(owned)

    def update(self, session: SessionRef, state: Mapping[str, str]) -> None:
        """Queue a change of the session's state that no recorded event brings."""
        owned = self._sessions[session.id]
        if owned.stale:
            return
        owned.change(state)
        self._flusher(owned).soon(owned)

    def after(self, session: SessionRef, then: Callable[[], None]) -> None:
        """Call `then` once all that is queued for this session is written; never where another owner has it, or where
        `CAPACITY` others were to be called since, unless it is the first that waits.
        """
        owned = self._sessions.get(session.id)
        if owned is None or owned.stale:
            return
        if owned.settled.is_set():
            owned.change({})  # this owner, too, is to be confirmed
        owned.call(then)
        self._flusher(owned).now(owned)  # somebody waits for it

    async def resend(self, session: str, first: int, last: int) -> int:
        """Append events that were written before once more, those of [first, last] that are kept; returns how many.

        Raises:
            BusError: Redis cannot be reached.
        """
        ended = (owned for *_, owned in reversed(self._ended) if owned.id == session)
        owned = self._sessions.get(session) or next(ended, None)
        if owned is None or owned.stale:
            return 0
        wanted = [event.fields for event in owned.events if first <= event.seq <= min(last, owned.written)]
        wanted = wanted[:MAX_FLUSH]
        if not wanted:
            return 0
        arguments: list[str | int] = [owned.epoch, len(wanted)]
        for fields in wanted:
            arguments += [len(fields), *fields]
        keys = [self._keys.session_state(session), self._keys.events(self._keys.event_shard(session))]
        return int(await self._bus.script(RESEND, keys, *arguments))

    def restore(self, since: float) -> None:
        """Another server is the master: ask it for each session whether it has all that was written, and write again
        what it lacks; also of those that ended since then (monotonic, s).
        """
        while self._ended and self._ended[-1][0] >= since:
            _, chars, owned = self._ended.pop()
            self._ended_chars -= chars
            owned.closed_at = time.monotonic()
            self._sessions.setdefault(owned.id, owned)
        for owned in self._sessions.values():
            if not owned.stale:
                owned.change_again(since)
                self._flusher(owned).soon(owned)

    async def close(self, session: SessionRef) -> None:
        """Flush what is queued for this session and forget it.

        Waits for at most `CLOSE_TIMEOUT_S`. What Redis has not taken by then stays with the flusher for `KEEP_S`, so
        that a conversation which ends during an outage is archived to its end; and so long what it has taken is kept
        for `restore`.
        """
        owned = self._sessions.get(session.id)
        if owned is None:
            return
        owned.closed_at = time.monotonic()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await owned.settled.wait()
        except TimeoutError:
            log.warning("an ended session waits for Redis", session=session.id, events=len(owned.unwritten()))
        else:
            self._forget(owned)

    async def drain(self, timeout_s: float) -> None:
        """Wait until everything is written, at most `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*(owned.settled.wait() for owned in self._sessions.values()))
        except TimeoutError:
            events = sum(len(owned.unwritten()) for owned in self._sessions.values())
            log.error("events not written before the end", sessions=len(self._sessions), events=events)  # noqa: TRY400

    async def run(self) -> None:
        """Flush until cancelled."""
        await self._flushers.run()

    async def _flush(self, dirty: Collection[OwnedSession]) -> BusError | None:
        """Write what is queued for these; what failed, of which is tried again what is left.

        Where some cannot be written the others are all the same: Redis may refuse one session's alone.
        """
        waiting, failed = deque(owned for owned in dirty if not owned.settled.is_set()), None
        while waiting:
            failed = await self._write(_some(waiting)) or failed
        return failed

    async def _write(self, flushes: Sequence[Flush]) -> BusError | None:
        outcomes = await self._bus.scripts(FLUSH, [self._call(flush) for flush in flushes])
        failed: BusError | None = None
        for flush, outcome in zip(flushes, outcomes, strict=True):
            owned = flush.session
            if isinstance(outcome, BusError):
                failed = outcome
            else:
                self._flushed(flush, *outcome)
            if owned.closed_at is not None and self._over(owned):
                self._forget(owned)
            if not owned.stale and not owned.settled.is_set() and owned.id in self._sessions:
                self._flusher(owned).soon(owned)
        return failed

    def _flusher(self, owned: OwnedSession) -> Flusher:
        return self._flushers.of(self._bus.lane(owned.index), owned.id)

    def _over(self, owned: OwnedSession) -> bool:
        """Whether nothing more can be done for a session that was closed."""
        if owned.settled.is_set():
            return True
        if owned.closed_at is None or time.monotonic() < owned.closed_at + KEEP_S:
            return False
        log.error("events lost with an outage of Redis", session=owned.id, events=len(owned.unwritten()))
        return True

    def _forget(self, owned: OwnedSession) -> None:
        if self._sessions.get(owned.id) is not owned:
            return  # by now somebody else has done so, or the session has come back
        del self._sessions[owned.id]
        self._flusher(owned).forget(owned)
        if owned.stale or not owned.settled.is_set():
            return
        now, chars = time.monotonic(), owned.chars
        self._ended.append((now, chars, owned))
        self._ended_chars += chars
        while self._ended and (self._ended_chars > KEPT_CHARS or self._ended[0][0] < now - KEEP_S):
            self._ended_chars -= self._ended.popleft()[1]

    def _call(self, flush: Flush) -> tuple[list[str], list[str | int]]:
        """Keys and arguments of the script."""
        keys, owned = self._keys, flush.session
        touched = [
            keys.session_state(owned.id),
            keys.session_items(owned.id),
            keys.session_calls(owned.id),
            keys.events(keys.event_shard(owned.id)),
            owned.index,
            keys.session_end(owned.id),
        ]
        return touched, flush.arguments()

    def _flushed(self, flush: Flush, status: str, number: int) -> None:
        owned, last = flush.session, int(number)
        if status == "ok":
            now = time.monotonic()
            for name, value in flush.changed.items():
                owned.changes_written[name] = now
                if owned.changed.get(name) == value:
                    del owned.changed[name]
            owned.wrote(last, flush.queued)
        elif status in ("behind", "unknown"):
            log.warning("Redis lost events", session=owned.id, has=last, written=owned.written)
            # Where it does not know this owner, what is there above its first event was written by the one before.
            owned.rewind(last if status == "behind" else min(last, owned.taken_at))
        else:
            self._lost(owned, StaleOwnerError(owned.id, epoch=owned.epoch, current=last))

    def _lost(self, owned: OwnedSession, error: StaleOwnerError) -> None:
        if unwritten := owned.unwritten():
            told = "what a session's former owner had still to write is lost"
            log.warning(told, session=owned.id, events=len(unwritten))
        owned.abandon()
        try:
            self._on_stale(error)
        except Exception:  # one session's failure must not stop the others' flushes
            log.exception("owner not told that it is stale", session=owned.id)


def _some(waiting: deque[OwnedSession]) -> list[Flush]:
    """Take from those that wait as many as are written at once."""
    flushes: list[Flush] = []
    chars = 0
    while waiting and chars < AT_ONCE_CHARS:
        flushes.append(Flush.of(waiting.popleft()))
        chars += flushes[-1].size
    return flushes
