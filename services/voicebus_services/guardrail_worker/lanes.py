"""A lane of its own for each guardrail of a worker, so that one that hangs takes nothing from the others.

Rules:
1. A guardrail judges at most so many texts at once, in threads or processes of its own. More wait for it, within their
   limit; beyond `_WAITING_PER_SLOT` of them for each slot a text counts as not judged in time.
2. Of one answer only the newest text waits.
3. A guardrail that ran out of time on three answers in a row rests: it is asked nothing, and what it would have judged
   counts as not judged in time at once. Now and then it is tried with one text, and the first verdict ends the rest.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from voicebus.agents.guardrails import InputGuardrail, OutputGuardrail
from voicebus.contracts.guardrails import GuardrailResult
from voicebus.runtime.processes import ProcessPool, default_processes
from voicebus.runtime.threads import DaemonThreadPool
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

Guardrail = OutputGuardrail[Any] | InputGuardrail[Any]
Judge = Callable[[float], Awaitable[GuardrailResult]]

_WAITING_PER_SLOT: Final = 32
_HUNG_IN_A_ROW: Final = 3
_RESTS: Final = "it ran out of time again and again, and rests"
# The rest until the first try, and at most: each try may cost a thread that never comes back.
_TRY_AFTER_S: Final = 0.5
_TRY_AFTER_AT_MOST_S: Final = 8.0


class _Rest:
    """Whether a guardrail is asked at all. `clock` is monotonic, in s."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._name = name
        self._clock = clock
        # Answers that it ran out of time on since its last verdict.
        self._hung: set[Hashable] = set()
        self._pause_s = 0.0
        self._try_at = 0.0
        self._gauge = metrics.GUARDRAIL_RESTS.labels(rule=name)
        self._gauge.set(0)

    @property
    def rests(self) -> bool:
        return self._pause_s > 0

    @property
    def refuses(self) -> bool:
        """Whether it is not to judge a text now."""
        return self.rests and self._clock() < self._try_at

    def asks(self) -> bool:
        """Whether it is to judge a text now, which is the next try where it rests."""
        if self.refuses:
            return False
        if self.rests:
            self._pause()
        return True

    def judged(self) -> None:
        """It came to an end in time."""
        self._hung.clear()
        if self.rests:
            self._pause_s = 0.0
            self._gauge.set(0)
            log.info("guardrail judges again", guardrail=self._name)

    def hung(self, answer: Hashable) -> None:
        """It ran out of time."""
        if self.rests:
            return
        self._hung.add(answer)
        if len(self._hung) < _HUNG_IN_A_ROW:
            return
        self._pause()
        self._gauge.set(1)
        log.warning("guardrail rests, as it runs out of time: until it judges, policies decide", guardrail=self._name)

    def _pause(self) -> None:
        self._pause_s = min(max(_TRY_AFTER_S, 2 * self._pause_s), _TRY_AFTER_AT_MOST_S)
        self._try_at = self._clock() + self._pause_s


@dataclass(slots=True, eq=False)
class Text:
    """What a check of `guardrails` has to be judged: so many characters of an answer, all of it where `final`.

    `checks` are the ids that a verdict on it answers: the check's own, and those of older ones that it stands for.
    """

    answer: Hashable
    length: int
    final: bool
    guardrails: frozenset[str]
    checks: list[str]

    def covers(self, older: "Text") -> bool:
        """Whether a verdict on this one answers the older one, too."""
        grown = self.length >= older.length and (self.final or not older.final)
        return self.answer == older.answer and grown and self.guardrails >= older.guardrails

    def supersede(self, older: "Text") -> None:
        self.checks += [check for check in older.checks if check not in self.checks]
        metrics.GUARDRAIL_SUPERSEDED.inc()


class Lane:
    """What one guardrail may take of a worker: `slots` texts at once. `on_left` is told how many of its
    threads run on for nobody, in any thread."""

    def __init__(
        self,
        guardrail: Guardrail,
        slots: int,
        *,
        on_left: Callable[[int], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.guardrail = guardrail
        self.executor: DaemonThreadPool = DaemonThreadPool(slots, name="guardrail", on_left=on_left)
        apart = guardrail.executor == "process"
        self._free = min(slots, default_processes()) if apart else slots
        self.processes: ProcessPool = ProcessPool(self._free)
        self._room = slots * _WAITING_PER_SLOT
        self._rest = _Rest(guardrail.get_name(), clock)
        self._clock = clock
        # Those that wait for a slot, in the order in which they came: True gives it, False has another stand for them.
        self._waiting: dict[asyncio.Future[bool], Text] = {}

    async def judge(self, text: Text, limit_s: float, judge: Judge) -> GuardrailResult | None:
        """What `judge(s)` finds within what is left of `limit_s` once there is a slot.

        None where a newer text of the answer, which came while this one waited, stands for it.
        """
        if self._rest.refuses:
            return self._not_in_time(_RESTS)
        until = self._clock() + limit_s
        turn = self._turn(text)
        if turn is None:
            return self._not_in_time("too many texts wait for it")
        try:
            if not turn.done():
                await asyncio.wait({turn}, timeout=limit_s)
            if not turn.done():
                return self._not_in_time(f"others kept it busy for {limit_s:.3g} s")
            if not turn.result():
                return None
            if not self._rest.asks():  # since it began to wait
                return self._not_in_time(_RESTS)
            result = await judge(max(0.0, until - self._clock()))
            # Before the next one has the slot: where it hangs, the others that wait are not to hang, too.
            if result.timed_out:
                self._rest.hung(text.answer)
            else:
                self._rest.judged()
        finally:
            self._end(turn)
        return result

    def close(self) -> None:
        """End its processes, and let its threads end."""
        self.executor.shutdown()
        self.processes.close()

    def _turn(self, text: Text) -> asyncio.Future[bool] | None:
        """Done once the text has a slot (True), or another stands for it (False). None where too many wait."""
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self._free > 0:
            self._free -= 1
            turn.set_result(True)
            return turn
        for newer in self._waiting.values():
            if newer.covers(text):
                newer.supersede(text)
                turn.set_result(False)
                return turn
        if not self._take_place(turn, text):
            if len(self._waiting) >= self._room:
                return None
            self._waiting[turn] = text
        return turn

    def _take_place(self, turn: asyncio.Future[bool], text: Text) -> bool:
        """Have the text stand for those that it covers, in the place of the first of them; False where there is none.

        Behind all others a text of an answer that goes on would never have its turn while the guardrail is busy.
        """
        waiting, self._waiting = self._waiting, {}
        for waits, older in waiting.items():
            if not text.covers(older):
                self._waiting[waits] = older
                continue
            self._waiting.setdefault(turn, text)
            text.supersede(older)
            waits.set_result(False)
        return turn in self._waiting

    def _end(self, turn: asyncio.Future[bool]) -> None:
        """The text was judged, or is not to be judged any more."""
        if not turn.done():
            del self._waiting[turn]
            turn.cancel()
        elif turn.result():
            if self._waiting:
                first = next(iter(self._waiting))
                del self._waiting[first]
                first.set_result(True)
            else:
                self._free += 1

    def _not_in_time(self, why: str) -> GuardrailResult:
        return GuardrailResult(name=self.guardrail.get_name(), tripped=False, error=why, timed_out=True)


class Lanes:
    """The lanes of a worker's `guardrails`, by name; each may judge `slots` texts at once."""

    def __init__(self, guardrails: Mapping[str, Guardrail], slots: int, *, service: str) -> None:
        self._stuck = metrics.THREADS_STUCK.labels(service=service)
        self._left: dict[str, int] = {}
        self._lanes = {
            name: Lane(guardrail, slots, on_left=partial(self._on_left, name)) for name, guardrail in guardrails.items()
        }

    @property
    def stuck(self) -> bool:
        """Whether none of the guardrails has a thread any more that would come back. While one of them judges, an end
        of the process would take that one along.
        """
        return bool(self._lanes) and all(lane.executor.stuck for lane in self._lanes.values())

    def get(self, name: str) -> Lane | None:
        return self._lanes.get(name)

    async def prepare(self) -> None:
        """Have a process ready for each guardrail that has its own, so that the first check need not wait for it."""
        apart = [lane for lane in self._lanes.values() if lane.guardrail.executor == "process"]
        await asyncio.gather(*(lane.processes.prepare([lane.guardrail.guardrail_function]) for lane in apart))

    def close(self) -> None:
        for lane in self._lanes.values():
            lane.close()

    def _on_left(self, name: str, left: int) -> None:
        self._left[name] = left
        self._stuck.set(sum(self._left.values()))
