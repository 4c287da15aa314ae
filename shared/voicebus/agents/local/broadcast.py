"""Events of one session for several consumers: each sees all of them, none holds the session or another one up.

A loop that is left with `break` is resumed by the next one where it stopped. A loop that begins while another runs
sees everything that the slowest of them has not read yet, and all that follows.
"""

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from voicebus.agents.events import RealtimeAudio, RealtimeRawModelEvent, RealtimeSessionEvent
from voicebus.agents.local.folded import EVENTS, FOLDED, Folded

MAX_EVENTS: Final = 8192
"""Events that wait for one consumer."""

MAX_BYTES: Final = 32 * 1024 * 1024
"""Bytes that they keep alive, the model's frames and texts: three minutes of speech that nobody reads."""

# A part of the bound that goes at once, so that finding what goes costs little for each event.
_SHARE: Final = 16


class _Queue:
    """What waits for one consumer, bounded by `MAX_EVENTS` and `MAX_BYTES`.

    Overflow: the oldest raw model events go first, then the oldest audio, then the oldest of all, a few at a time. How
    many went is told with the next event that is read.
    """

    __slots__ = ("bytes", "count", "dropped", "each", "events", "opened", "sizes", "waiting")

    def __init__(self) -> None:
        self.events: deque[RealtimeSessionEvent | Folded] = deque()
        # In step with the events; of folded ones, for each of those.
        self.sizes: deque[int] = deque()
        # What is left of the folded ones that are being read, the next last, and what each keeps alive.
        self.opened: list[RealtimeSessionEvent] = []
        self.each = 0
        self.count = 0
        self.bytes = 0
        self.dropped = 0
        self.waiting: set[asyncio.Future[None]] = set()

    def copy(self) -> "_Queue":
        """The same events, for another consumer."""
        twin = _Queue()
        twin.events, twin.sizes = self.events.copy(), self.sizes.copy()
        twin.opened, twin.each = self.opened.copy(), self.each
        twin.count, twin.bytes, twin.dropped = self.count, self.bytes, self.dropped
        return twin

    def wake(self) -> None:
        while self.waiting:
            waiter = self.waiting.pop()
            if not waiter.done():
                waiter.set_result(None)

    def shed(self) -> None:
        """Drop a share of what waits, as it is too much."""
        events, size = MAX_EVENTS - MAX_EVENTS // _SHARE, MAX_BYTES - MAX_BYTES // _SHARE
        for kind in (RealtimeRawModelEvent, RealtimeAudio, object):
            waiting, sizes, self.events, self.sizes = self.events, self.sizes, deque(), deque()
            for event, each in zip(waiting, sizes, strict=True):
                kept: RealtimeSessionEvent | Folded | None = event
                if self.count > events or self.bytes > size:
                    if isinstance(event, Folded):
                        # Its raw events: all of these go before anything else does.
                        kept = event.last()
                        self._drop(EVENTS - 1, each)
                    elif isinstance(event, kind):
                        kept = None
                        self._drop(1, each)
                if kept is not None:
                    self.events.append(kept)
                    self.sizes.append(each)
            if self.count <= events and self.bytes <= size:
                return

    def _drop(self, count: int, each: int) -> None:
        self.count -= count
        self.bytes -= count * each
        self.dropped += count


class Broadcast:
    """Takes events of one session, on the event loop; iterate over it for them.

    `dropped` makes the event that tells a consumer how many it has missed.
    """

    def __init__(self, *, dropped: Callable[[int], RealtimeSessionEvent]) -> None:
        self.dropped = dropped
        # What nobody is reading now: where the last loop stopped, or from the first event on.
        self._resting: _Queue | None = _Queue()
        self._reading: dict[weakref.ref[_Consumer], _Queue] = {}
        self._queues: tuple[_Queue, ...] = (self._resting,)
        self.ended: bool = False
        self.failure: Exception | None = None

    def put(self, event: RealtimeSessionEvent | Folded, size: int = 0) -> None:
        """Give `event` to every consumer; `size` is what it keeps alive, in bytes. Nothing after the end.

        Audio and text may be folded: their events then keep `size` alive each.
        """
        if self.ended:
            return
        count = EVENTS if type(event) in FOLDED else 1
        for queue in self._queues:
            queue.events.append(event)
            queue.sizes.append(size)
            queue.count += count
            queue.bytes += count * size
            if queue.bytes > MAX_BYTES or queue.count > MAX_EVENTS:
                queue.shed()
            # As `wake` does, which would be a call for every event that a program waits for.
            while queue.waiting:
                waiter = queue.waiting.pop()
                if not waiter.done():
                    waiter.set_result(None)

    def end(self, failure: Exception | None = None) -> None:
        """No event follows: iteration ends after those that wait, with `failure` raised if there is one."""
        if self.ended:
            return
        self.ended = True
        self.failure = failure
        for queue in self._queues:
            queue.wake()

    def __aiter__(self) -> AsyncIterator[RealtimeSessionEvent]:
        if self._resting is not None:
            queue, self._resting = self._resting, None
        else:
            queue = max(self._reading.values(), key=lambda queue: queue.count).copy()
        consumer = _Consumer(self, queue)
        self._reading[weakref.ref(consumer, self._left)] = queue
        self._queues = tuple(self._reading.values())
        return consumer

    def _left(self, consumer: "weakref.ref[_Consumer]") -> None:
        """A loop was left, or ran to its end."""
        queue = self._reading.pop(consumer)
        if not self._reading:
            self._resting = queue
        self._queues = tuple(self._reading.values()) or (queue,)


class _Consumer:
    """One loop over the events."""

    def __init__(self, broadcast: Broadcast, queue: _Queue) -> None:
        self._broadcast = broadcast
        self._queue = queue
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failed = False

    def __aiter__(self) -> "_Consumer":
        return self

    async def __anext__(self) -> RealtimeSessionEvent:
        queue = self._queue
        if self._loop is None:
            # Loops that are started together see the same events: the first must not run ahead before the others begin.
            self._loop = asyncio.get_running_loop()
            await asyncio.sleep(0)
        while not queue.count:
            if self._broadcast.ended:
                if self._broadcast.failure is not None and not self._failed:
                    self._failed = True
                    raise self._broadcast.failure
                raise StopAsyncIteration
            waiter: asyncio.Future[None] = self._loop.create_future()
            queue.waiting.add(waiter)
            try:
                await waiter
            finally:
                queue.waiting.discard(waiter)
        if queue.dropped:
            dropped, queue.dropped = queue.dropped, 0
            return self._broadcast.dropped(dropped)
        # The oldest event no longer waits.
        queue.count -= 1
        if queue.opened:
            queue.bytes -= queue.each
            return queue.opened.pop()
        event, size = queue.events.popleft(), queue.sizes.popleft()
        queue.bytes -= size
        if type(event) in FOLDED:
            first, second, third = event.unfold()  # type: ignore[union-attr]
            queue.opened, queue.each = [third, second], size
            return first
        return event  # type: ignore[return-value]
