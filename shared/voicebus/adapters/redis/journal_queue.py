"""What of a session is on its way to Redis (`journal.py`): its recorded events and the changes of its state, in one
queue, split at what is written.
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from voicebus.adapters.redis.session_state import Changes
from voicebus.contracts.streams import INDEX_KEPT_S, SESSION_TTL_S
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

# Written events are kept a while, to be sent again should Redis have lost them (a fail-over, `restore`).
KEEP_S: Final = 60.0

# Per session. Beyond it the oldest unwritten event is dropped: the transcript then shows a gap, the call goes on.
CAPACITY: Final = 2_000

# Bytes of their texts, likewise: an hour of talk has less than one million.
MAX_BYTES: Final = 16 * 1024 * 1024

MAX_FLUSH: Final = 200


class Event(NamedTuple):
    seq: int
    queued: float
    fields: list[str]
    changes: Changes
    size: int

    def told(self) -> str:
        """It as one JSON object. Made when it is written, as most of its size is the same text once more."""
        entry = dict(zip(self.fields[::2], self.fields[1::2], strict=True))
        return f'{{"type":"{entry["type"]}","seq":{entry["seq"]},"at":{entry["at"]},{entry["data"][1:]}'


class OwnedSession:
    """One owned session: what was written lately and what is to be written, in one queue split at `written`."""

    def __init__(self, session: str, epoch: int, state: Mapping[str, str], index: str) -> None:
        self.id: str = session
        self.index: str = index
        self.epoch: int = epoch
        self.state: dict[str, str] = dict(state)
        self.events: deque[Event] = deque()
        self.bytes: int = 0
        self.written: int = 0
        # The last event of its former owner.
        self.taken_at: int = 0
        # Changes that no event brings, and that are not written yet; and when (monotonic, s) others were written.
        self.changed: dict[str, str] = {}
        self.changes_written: dict[str, float] = {}
        self.accept_gap: bool = False
        self.stale: bool = False
        self.closed_at: float | None = None
        self.settled: asyncio.Event = asyncio.Event()
        self.settled.set()
        # How often something was queued, and what is to be done once all up to such a number is written.
        self.queued: int = 0
        self.then: deque[tuple[int, Callable[[], None]]] = deque()

    def unwritten(self) -> list[Event]:
        newest_first = itertools.takewhile(lambda event: event.seq > self.written, reversed(self.events))
        return list(newest_first)[::-1]

    def add(self, event: Event) -> bool:
        """Queue an event; False where that pushed an unwritten one out, the first since Redis took any."""
        self.events.append(event)
        self.bytes += event.size
        self._unsettle()
        lost = False
        while len(self.events) > CAPACITY or (self.bytes > MAX_BYTES and len(self.events) > 1):
            lost |= self._drop_oldest().seq > self.written
        begins_gap = lost and not self.accept_gap
        self.accept_gap |= lost
        return not begins_gap

    def _drop_oldest(self) -> Event:
        event = self.events.popleft()
        self.bytes -= event.size
        return event

    def change(self, state: Mapping[str, str]) -> None:
        """Queue a change that no event brings."""
        self.state.update(state)
        self.changed.update(state)
        self._unsettle()

    def change_again(self, since: float) -> None:
        """Queue once more what no event brings and was written since then (monotonic, s), if that is nothing."""
        again = [name for name, at in self.changes_written.items() if at >= since and name not in self.changed]
        self.change({name: self.state[name] for name in again})

    def call(self, then: Callable[[], None]) -> None:
        """Have this called once all that is queued by now is written.

        Of more than `CAPACITY` the oldest are forgotten: a client whose command is never acknowledged sends it again.
        But not the first of all, by which clients are told that the session began.
        """
        self.then.append((self.queued, then))
        if len(self.then) > CAPACITY:
            del self.then[1]

    def _unsettle(self) -> None:
        self.queued += 1
        self.settled.clear()

    def wrote(self, last: int, queued: int) -> None:
        """Redis has the events up to `last`, and all that was queued up to the number `queued`."""
        self.written = max(self.written, last)
        self.accept_gap = False
        horizon = time.monotonic() - KEEP_S
        while self.events and self.events[0].queued < horizon and self.events[0].seq <= self.written:
            self._drop_oldest()
        if queued == self.queued and (not self.events or self.events[-1].seq <= self.written):
            self.settled.set()
        while self.then and self.then[0][0] <= queued:
            _, then = self.then.popleft()
            try:
                then()
            except Exception:  # one session's failure must not stop the others' flushes
                log.exception("what waited for a write failed", session=self.id)

    def abandon(self) -> None:
        """Somebody else owns the session."""
        self.stale = True
        self.then.clear()
        self.events.clear()
        self.bytes = 0
        self.changed.clear()
        self.settled.set()

    @property
    def chars(self) -> int:
        """What it holds, about."""
        return self.bytes + sum(map(len, self.state.values()))

    def rewind(self, last: int) -> None:
        """Redis has only up to `last`: write again what is still kept above it, and accept that the rest is gone."""
        self.written = last
        self.accept_gap = True
        self.settled.clear()


class Flush(NamedTuple):
    """What of a session one script is to write: all that was queued up to the number `queued`."""

    session: OwnedSession
    events: list[Event]
    changed: dict[str, str]
    queued: int

    @classmethod
    def of(cls, owned: OwnedSession) -> "Flush":
        events = owned.unwritten()[:MAX_FLUSH]
        # What no event brings goes with the last of the events that led to it, never before.
        is_all = not events or events[-1] is owned.events[-1]
        return cls(owned, events, *((dict(owned.changed), owned.queued) if is_all else ({}, 0)))

    @property
    def size(self) -> int:
        """How many characters are sent, at most, but for what a session has that Redis may have forgotten."""
        return 2 * sum(event.size for event in self.events) + sum(map(len, self.changed.values()))

    def arguments(self) -> list[str | int]:
        """Of the script that writes it."""
        owned, events = self.session, self.events
        state: dict[str, str] = {}
        items: dict[str, str] = {}
        calls: dict[str, str] = {}
        for event in events:
            changes = event.changes
            state.update(changes.state)
            if changes.item is not None:
                items[changes.item] = event.told()
            if changes.call is not None:
                calls[changes.call] = event.told()
        state.update(self.changed)
        if owned.accept_gap:  # Redis may have forgotten the session altogether
            state = {**owned.state, **state}
        first = events[0].seq if events else owned.written + 1
        head: list[Any] = [owned.epoch, first, SESSION_TTL_S, int(owned.accept_gap), len(events)]
        ended = int(state.get("status") == "ended")
        head += [2 * len(state), 2 * len(items), 2 * len(calls), INDEX_KEPT_S, ended]
        for event in events:
            head += [len(event.fields), *event.fields]
        for fields in (state, items, calls):
            head += [text for pair in fields.items() for text in pair]
        return head
