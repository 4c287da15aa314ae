"""How long a call would wait in its queue now: what a gateway must know to answer at once instead of too late.

A few commands for each queue in use, twice a second. The estimate is what the queue itself says: what waits, how fast
its workers took entries while something was waiting, and for how long the oldest has waited. Where slots have been
taken for a while and nothing was, by calls that take long, a turn of all slots lasts that long at least. And it lasts
as long as the quick ones of the calls that ended lately, here or at one of its workers, and where they differ no less
than seven tenths of their mean: so the first of a flood can be told to be one.
"""

import asyncio
import contextlib
import json
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.heartbeat import living, sends_heartbeats
from voicebus.adapters.redis.trimming import pairs
from voicebus.contracts.streams import WORKERS_GROUP, Keys
from voicebus.contracts.tools import LONGEST_MS, Outcome
from voicebus.engine.outputs import DispatchTool
from voicebus.errors import BusError
from voicebus.ports import Clock
from voicebus.runtime.durations import Durations
from voicebus.runtime.refusing import Refusal
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

POLL_S: Final = 0.5

# A queue that nothing was sent to for so long is not asked about.
_IDLE_S: Final = 60.0

# Over how long the throughput is measured: long calls are taken in bursts.
_WINDOW_MS: Final = 10_000

# A queue that is used for the first time is looked at sooner; others are known by then.
_FIRST_LOOK_S: Final = 0.02

# How many slots there are is asked anew after so long where nothing waits.
_SLOTS_MS: Final = 5_000

# How much longer a turn is than the call in it: between two of them lie an answer, a delivery and a claim.
_TURN: Final = 1.05

# What counts of the mean, where there are quick and long ones: of those that are refused for it few would have been
# done in time, and many would have been told after their deadline that they are not.
_OF_MEAN: Final = 0.7


class QueueState:
    """What one queue has shown. Times in ms of any one clock; pure, so that it can be tested by hand."""

    def __init__(self) -> None:
        # (at, entries taken in all), for as long as something has waited without a break, `_WINDOW_MS` at most.
        self._busy: deque[tuple[int, int]] = deque()
        self._at = 0
        self._lag = 0
        self._in_hand = 0
        self._slots = 0
        self._oldest_ms = 0
        # What was sent from here since then, and when the first of it was.
        self._sent = 0
        self._sent_since = 0
        self._served = True
        self._took = Durations()
        # How long calls take by what the workers say; 0 where none says anything.
        self._said_ms = 0
        # Since when nothing was taken, and how many are in hand meanwhile; 0 where that is not why.
        self._still_since = 0
        self._turn = 0
        # Since when all slots have been taken by the same calls: how long these have run at least. None: they are not.
        self._full_since: int | None = None
        self._read = 0

    def seen(
        self,
        at: int,
        *,
        lag: int,
        read: int,
        oldest_ms: int,
        served: bool = True,
        in_hand: int = 0,
        slots: int = 0,
        takes_ms: int = 0,
    ) -> None:
        """The queue at `at`: entries that nobody took yet, entries taken in all, and how old the oldest waiting is.

        `in_hand` are taken and not done, in the `slots` of its workers, which say that a call `takes_ms`; 0 where that
        is not known.
        """
        self._at, self._lag, self._oldest_ms, self._sent, self._served = at, lag, oldest_ms, 0, served
        self._in_hand, self._slots, self._said_ms = in_hand, slots, takes_ms
        if not 0 < slots <= in_hand:
            self._full_since = None
        elif self._full_since is None or read != self._read:
            self._full_since = at
        self._read = read
        # A look may fall into the moment in which some have ended and the next ones are not taken yet.
        self._turn = in_hand if 2 * in_hand >= slots > 0 else 0
        if lag == 0:
            self._busy.clear()
            return
        if not self._busy or self._busy[-1][1] != read:
            self._still_since = at
        self._busy.append((at, read))
        while self._busy[0][0] < at - _WINDOW_MS:
            self._busy.popleft()

    def sent(self, at: int) -> None:
        """One more entry was sent from here."""
        if not self._sent:
            self._sent_since = at
        self._sent += 1

    def ended(self, took_ms: int) -> None:
        """A call of this queue has ended, which ran for so long."""
        self._took.ended(took_ms)

    def wait_ms(self, at: int) -> float:
        """How long an entry that is sent now will wait, as far as that is known; 0 where nothing waits."""
        if not self._busy:
            return self._at_least_ms(at)
        (since, before), (seen, read) = self._busy[0], self._busy[-1]
        passed = max(0, at - seen)
        if read <= before:
            # Nothing was taken meanwhile. Where workers are there they are busy, and all that is known is how long the
            # oldest has waited; where there are none, the next one may take it at once.
            if not self._served:
                return 0.0
            turns = (self._lag + self._sent) / self._turn if self._turn else 0.0
            of_turns = turns * (seen - self._still_since) - passed
            return max(float(self._oldest_ms + passed), of_turns, self._at_least_ms(at))
        per_ms = (read - before) / (seen - since)
        return max((self._lag + self._sent) / per_ms - passed, self._at_least_ms(at))

    def takes_ms(self) -> int:
        """How long a call of this queue runs at least; 0 where that is not known."""
        own_ms = self._took.quick_ms()
        return self._said_ms if own_ms is None else own_ms

    def _at_least_ms(self, at: int) -> float:
        """The wait, by how many calls are ahead and how long one takes; 0 where that is not known."""
        ahead = self._in_hand + self._lag + self._sent - self._slots
        if ahead < 0 or not self._slots:
            return 0.0
        turns, takes_ms = ahead / self._slots, self.takes_ms()
        # Those that run may be done at any moment; the ones behind them are taken for as long ones as they are.
        have_run_ms = 0 if self._full_since is None else self._at - self._full_since
        mean_ms = self._took.mean_ms() or 0.0
        least_ms = max(turns * takes_ms, turns * mean_ms * _OF_MEAN, (turns - 1) * have_run_ms)
        least_ms -= max(0, at - self._at)
        # What has taken the free slots since runs from its beginning to its end, and all of it at once.
        whole_turns = math.ceil((ahead + 1 - min(self._in_hand, self._slots)) / self._slots)
        begun = self._at if self._lag or not self._sent else self._sent_since
        return max(0.0, least_ms, whole_turns * takes_ms * _TURN - max(0, at - begun))


class Backlog:
    """Refuses calls that would not be done before their deadline. Implements `Refuses`; run `run` as a task."""

    def __init__(
        self, bus: RedisConnection, keys: Keys, clock: Clock, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._bus = bus
        self._keys = keys
        self._clock = clock
        self._monotonic = monotonic
        self._queues: dict[str, QueueState] = {}
        self._used: dict[str, float] = {}
        # What the workers of each queue say, and when (ms) they were asked.
        self._said: dict[str, tuple[_Workers, int]] = {}
        self._new = asyncio.Event()

    def refusal(self, call: DispatchTool) -> Refusal | None:
        state = self._queues.get(call.queue)
        if state is None:
            state = self._queues[call.queue] = QueueState()
            self._new.set()
        self._used[call.queue] = self._monotonic()
        wait_ms = state.wait_ms(self._clock.at_ms())
        takes_ms = state.takes_ms()
        # What has less than a turn ahead of it is tried, however long others took.
        if wait_ms + (takes_ms if wait_ms >= takes_ms else 0) < call.timeout_ms:
            state.sent(self._clock.at_ms())
            return None
        return Refusal(
            "overloaded",
            f"queue {call.queue!r} would start it in {wait_ms / 1000:.1f} s, and a call takes {takes_ms / 1000:.1f} s; "
            f"its deadline is in {call.timeout_ms / 1000:g} s",
            f"The tool {call.tool} is too busy to answer in time and was not run. Tell the user so, and offer to try "
            "again in a moment.",
        )

    def ended(self, call: DispatchTool, result: Mapping[str, Any]) -> None:
        """A call that was sent from here has ended with this `tool.result`."""
        state, took_ms = self._queues.get(call.queue), result.get("duration_ms")
        # One that was not run took no time, and tells nothing of those that are.
        ran = bool(took_ms) or result.get("outcome") == Outcome.OK
        if state is not None and ran and isinstance(took_ms, int):
            state.ended(took_ms)

    async def run(self) -> None:
        """Keep the estimates up to date until cancelled; while Redis is away they stay as they were."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._new.wait()
                    await asyncio.sleep(_FIRST_LOOK_S)
            self._new.clear()
            horizon = self._monotonic() - _IDLE_S
            for queue in [queue for queue, used in self._used.items() if used < horizon]:
                del self._used[queue], self._queues[queue]
                self._said.pop(queue, None)
            await asyncio.gather(*(self._look(queue, state) for queue, state in list(self._queues.items())))

    async def _look(self, queue: str, state: QueueState) -> None:
        stream = self._keys.tools(queue)
        try:
            groups = [pairs(group) for group in await self._bus.call("XINFO", "GROUPS", stream)]
            group = next((one for one in groups if one["name"] == WORKERS_GROUP), None)
            # Without a group nobody has ever worked here; without a lag Redis itself does not know it.
            if group is None or group.get("lag") is None or group.get("entries-read") is None:
                return
            oldest: list[Any] = []
            workers, asked_at = self._said.get(queue, (_Workers(), 0))
            if group["lag"] or self._clock.at_ms() - asked_at > _SLOTS_MS:
                workers = await self._workers(queue, stream)
                self._said[queue] = workers, self._clock.at_ms()
            if group["lag"]:
                start = f"({group['last-delivered-id']}"
                oldest = await self._bus.call("XRANGE", stream, start, "+", "COUNT", 1)
        except BusError as error:
            log.debug("queue not looked at", queue=queue, error=str(error))
            return
        now = self._clock.at_ms()
        age = max(0, now - int(oldest[0][0].partition("-")[0])) if oldest else 0
        lag = int(group["lag"]) if oldest else 0
        state.seen(
            now, lag=lag, read=int(group["entries-read"]), oldest_ms=age, served=workers.alive,
            in_hand=int(group["pending"]), slots=workers.slots, takes_ms=workers.takes_ms,
        )  # fmt: skip

    async def _workers(self, queue: str, stream: str) -> "_Workers":
        names = [pairs(row)["name"] for row in await self._bus.call("XINFO", "CONSUMERS", stream, WORKERS_GROUP)]
        keys = [self._keys.worker(name) for name in names]
        alive = [key for key, lives in zip(keys, await living(self._bus, keys), strict=True) if lives]
        said = await asyncio.gather(*(self._bus.submit("HMGET", key, "concurrency", "takes") for key in alive))
        known = [int(text) for text, _ in said if text and text.isascii() and text.isdigit()]
        all_say = all(map(sends_heartbeats, names)) and len(known) == len(alive)
        takes_ms = [took for _, text in said if (took := _takes_ms(text, queue)) is not None]
        return _Workers(bool(alive), sum(known) if all_say else 0, min(takes_ms, default=0))


@dataclass(frozen=True, slots=True)
class _Workers:
    """The workers of a queue: whether any lives, how many calls they run at once, and how long (ms) one takes where it
    takes least; 0 where they do not say.
    """

    alive: bool = True
    slots: int = 0
    takes_ms: int = 0


def _takes_ms(text: str | None, queue: str) -> int | None:
    """What the field `takes` of a worker's heartbeat says of a queue."""
    try:
        took = json.loads(text or "{}").get(queue)
    except (ValueError, AttributeError, RecursionError):
        return None
    return took if isinstance(took, int) and 0 <= took <= LONGEST_MS else None
