"""By what right this gateway speaks on the calls that it is on (contract section 8, Takeover).

A call's session is adopted by another gateway once this one's heartbeat has ended, and no client is asked. So nothing
is sent on a call from `MARGIN_S` before its lease runs out, by this process's own monotonic clock and counted from
before the renewal was sent; what is to be sent then waits. After a lapse the lease alone proves nothing: the session's
epoch is confirmed first, by a fenced write. One that is another gateway's by then never sends it.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from voicebus.adapters.redis.heartbeat import ALIVE_MS
from voicebus.ports import ModelConnector, ModelLink, ModelListener
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

MARGIN_S: Final = 0.5
MAX_WAITING: Final = 1_000
"""Events of a call that wait at most; beyond it the newest is dropped, as nothing of them will be in time."""

Confirm = Callable[[Callable[[], None]], None]
"""Calls what it is given once it is confirmed that the session is this gateway's; never where it is not."""


class Lease:
    """This gateway's: `renewed` hears of its heartbeats."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = float("-inf")
        self.lapses: int = 0
        """How often it had run out before it was renewed."""
        self._waiting: list[Callable[[], None]] = []

    @property
    def holds(self) -> bool:
        return self._clock() < self._until - MARGIN_S

    def renewed(self, begun: float) -> None:
        """A heartbeat was taken, which was begun at this time."""
        if self._clock() >= self._until:
            self.lapses += 1
        self._until = max(self._until, begun + ALIVE_MS / 1000)
        if self.holds:
            waiting, self._waiting = self._waiting, []
            for call in waiting:
                call()

    def when_renewed(self, call: Callable[[], None]) -> None:
        """Call this as soon as the lease holds."""
        self._waiting.append(call)


class LeasedConnector:
    """Implements `ModelConnector`: the way to a call, on which is spoken under `lease` alone."""

    def __init__(self, connector: ModelConnector, lease: Lease, confirm: Confirm) -> None:
        self._connector = connector
        self._lease = lease
        self._confirm = confirm

    async def connect(self, listener: ModelListener, *, model: str) -> ModelLink:
        return LeasedLink(await self._connector.connect(listener, model=model), self._lease, self._confirm)


class LeasedLink:
    """Implements `ModelLink`."""

    def __init__(self, link: ModelLink, lease: Lease, confirm: Confirm) -> None:
        self._link = link
        self._lease = lease
        self._confirm = confirm
        # The session was this gateway's, by a fenced write, when the call was joined.
        self._confirmed = lease.lapses
        self._waiting: deque[Callable[[], None]] = deque()

    def send(self, event: Mapping[str, Any]) -> None:
        self._when_held(lambda: self._link.send(event))

    def send_frame(self, frame: bytes) -> None:
        self._when_held(lambda: self._link.send_frame(frame))

    async def close(self) -> None:
        self._waiting.clear()
        await self._link.close()

    def _when_held(self, send: Callable[[], None]) -> None:
        if not self._waiting and self._may_send:
            send()
            return
        if len(self._waiting) >= MAX_WAITING:
            log.warning("too much waits for the lease of a call, an event is dropped", waiting=MAX_WAITING)
            return
        self._waiting.append(send)
        if len(self._waiting) == 1:
            log.warning("nothing is sent on a call while its lease is not sure")
            self._ask()

    @property
    def _may_send(self) -> bool:
        return self._lease.holds and self._confirmed == self._lease.lapses

    def _ask(self) -> None:
        if self._lease.holds:
            lapses = self._lease.lapses
            self._confirm(lambda: self._held(lapses))
        else:
            self._lease.when_renewed(self._ask)

    def _held(self, lapses: int) -> None:
        """The session was this gateway's when the lease had lapsed so often."""
        self._confirmed = lapses
        while self._waiting and self._may_send:
            self._waiting.popleft()()
        if self._waiting:
            self._ask()
