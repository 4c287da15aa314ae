"""Which sessions there are in the whole cluster: read from the index and the state that their owners write.

Newest first. A page ends at a position in that order, so sessions that begin meanwhile move nothing: they come before
it. Nothing searches for keys, and each command stays in one slot.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.heartbeat import living
from voicebus.contracts.journal import LOCAL_TENANT
from voicebus.contracts.streams import Keys
from voicebus.ports import Clock

RESUME_GRACE_S: Final = 60.0
"""How long a session may be resumed that nobody holds."""

MAX_EXAMINED: Final = 2_000
"""Sessions that one page may look at: a filter that few pass gives a page that is not full, and goes on from there."""

_FIELDS: Final = ("tenant", "agent", "status", "owner", "started_at", "ended_at", "end_reason", "seq", "at")
# States read in one go, and the least that is asked of a shard.
_CHUNK: Final = 100
_LEAST: Final = 10


class Status(StrEnum):
    """`idle` sessions may be resumed; of `interrupted` ones the owner is gone, and nobody came for them in time."""

    ACTIVE = "active"
    IDLE = "idle"
    ENDED = "ended"
    INTERRUPTED = "interrupted"


class Place(NamedTuple):
    """A session's place in the order: when it began (ms), and which it is."""

    started_at: int
    session: str


@dataclass(frozen=True, slots=True)
class SessionSeen:
    """A session as Redis knows it. Times are ms since 1970 (UTC); `gateway` is its owner, None before the first."""

    id: str
    agent: str
    status: Status
    gateway: str | None
    started_at: int
    ended_at: int | None
    end_reason: str | None
    seq: int


@dataclass(frozen=True, slots=True)
class Page:
    """`after` is where the next page begins; None at the end."""

    sessions: Sequence[SessionSeen]
    after: Place | None


Wanted = Callable[[SessionSeen], bool]
_State = Mapping[str, str]


class SessionDirectory:
    """Reads what there is. Every method raises `BusError` where Redis cannot be reached."""

    def __init__(
        self, bus: RedisConnection, keys: Keys, clock: Clock, *, resume_grace_s: float = RESUME_GRACE_S
    ) -> None:
        self._bus = bus
        self._keys = keys
        self._clock = clock
        self._grace_ms = round(resume_grace_s * 1000)

    async def show(self, tenant: str, session: str) -> SessionSeen | None:
        """One session of this tenant; None where there is none, or none any more."""
        (state,) = await self._states([session])
        if state is None or state["tenant"] != tenant:
            return None
        (seen,) = await self._seen([(session, state)])
        return seen

    async def page(
        self, tenant: str, *, limit: int, after: Place | None = None, wanted: Wanted = lambda _: True
    ) -> Page:
        """A tenant's sessions that are `wanted`, newest first, behind the place `after`.

        Fewer than `limit` where more than `MAX_EXAMINED` had to be looked at.
        """
        found: list[SessionSeen] = []
        examined = 0
        order = _Order(self._bus, self._keys, tenant, after, chunk=2 * limit // self._keys.event_shards)
        while chunk := await order.take(min(_CHUNK, limit + 1)):
            states = await self._states([place.session for place in chunk])
            known = {place.session: state for place, state in zip(chunk, states, strict=True) if state is not None}
            seen = {one.id: one for one in await self._seen(list(known.items()))}
            for place in chunk:
                if len(found) == limit:
                    return Page(found, after)
                one = seen.get(place.session)
                if one is not None and wanted(one):
                    found.append(one)
                after = place
            examined += len(chunk)
            if examined >= MAX_EXAMINED:
                return Page(found, after)
        return Page(found, None)

    # --- the state ----------------------------------------------------------------------------------

    async def _states(self, sessions: Sequence[str]) -> Sequence[_State | None]:
        replies = await asyncio.gather(
            *(self._bus.submit("HMGET", self._keys.session_state(session), *_FIELDS) for session in sessions)
        )
        states = [dict(zip(_FIELDS, (value or "" for value in values), strict=True)) for values in replies]
        return [{**state, "tenant": state["tenant"] or LOCAL_TENANT} if state["status"] else None for state in states]

    async def _seen(self, states: Sequence[tuple[str, _State]]) -> Sequence[SessionSeen]:
        owners = sorted({state["owner"] for _, state in states if state["owner"]})
        alive = await living(self._bus, [self._keys.gateway(owner) for owner in owners])
        living_owners = {owner for owner, lives in zip(owners, alive, strict=True) if lives}
        now = self._clock.at_ms()
        return [
            SessionSeen(
                id=session,
                agent=state["agent"],
                status=self._status(state, state["owner"] in living_owners, now),
                gateway=state["owner"] or None,
                started_at=_number(state["started_at"]) or _number(state["at"]) or 0,
                ended_at=_number(state["ended_at"]),
                end_reason=state["end_reason"] or None,
                seq=_number(state["seq"]) or 0,
            )
            for session, state in states
        ]

    def _status(self, state: _State, alive: bool, now: int) -> Status:
        if state["status"] == Status.ENDED:
            return Status.INTERRUPTED if state["end_reason"] == Status.INTERRUPTED else Status.ENDED
        if not state["owner"] or (alive and state["status"] == Status.IDLE):
            return Status.IDLE
        if alive:
            return Status.ACTIVE
        return Status.IDLE if now < (_number(state["at"]) or 0) + self._grace_ms else Status.INTERRUPTED


class _Order:
    """A tenant's sessions behind `after`, merged from all shards. `chunk` is about what one shard is asked for."""

    def __init__(self, bus: RedisConnection, keys: Keys, tenant: str, after: Place | None, *, chunk: int) -> None:
        self._shards = [
            _Shard(bus, keys.sessions(shard, tenant), after, max(_LEAST, chunk)) for shard in range(keys.event_shards)
        ]
        self._heap: list[tuple[int, _Reversed, int]] | None = None

    async def take(self, count: int) -> list[Place]:
        """The next `count` places; fewer at the end."""
        if self._heap is None:
            await asyncio.gather(*(shard.fill() for shard in self._shards))
            self._heap = [_entry(shard, number) for number, shard in enumerate(self._shards) if shard.read]
            heapq.heapify(self._heap)
        taken: list[Place] = []
        while self._heap and len(taken) < count:
            number = self._heap[0][2]
            shard = self._shards[number]
            taken.append(shard.read.popleft())
            await shard.fill()
            if shard.read:
                heapq.heapreplace(self._heap, _entry(shard, number))
            else:
                heapq.heappop(self._heap)
        return taken


class _Shard:
    """One shard's sessions, newest first, behind `after`. `read` holds what was read; empty after `fill` at the end."""

    def __init__(self, bus: RedisConnection, key: str, after: Place | None, chunk: int) -> None:
        self._bus = bus
        self._key = key
        self._after = after
        self._chunk = chunk
        self._over = False
        self.read: deque[Place] = deque()

    async def fill(self) -> None:
        """Read the next ones where none are left, unless there are none."""
        while not self.read and not self._over:
            newest = "+inf" if self._after is None else self._after.started_at
            reply = await self._bus.call(
                "ZRANGE", self._key, newest, "-inf", "BYSCORE", "REV", "LIMIT", 0, self._chunk, "WITHSCORES"
            )
            places = [Place(int(score), member) for member, score in zip(reply[::2], reply[1::2], strict=True)]
            self._over = len(places) < self._chunk
            self.read.extend(place for place in places if self._after is None or place < self._after)
            if self.read:
                self._after = self.read[-1]
            else:  # all of them began in the very ms of the last one, and were read before
                self._chunk *= 2


class _Reversed(str):
    """A text that sorts the other way round."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)


def _entry(shard: _Shard, number: int) -> tuple[int, _Reversed, int]:
    """A shard's newest place, for the heap."""
    return -shard.read[0].started_at, _Reversed(shard.read[0].session), number


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None
