"""Checks that wait for a slot, and which of them a newer one makes needless.

A check has all of the text so far. So of the checks of one answer that wait only the newest is judged: the verdict on
it names those that it stands for.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from voicebus.contracts.envelope import Entry
from voicebus.contracts.guardrails import GUARDRAIL_CHECK, GuardrailCheck
from voicebus.errors import ContractError
from voicebus.ports import Delivery, Turn
from voicebus.telemetry import metrics

WAITING_ROOM: Final = 1
"""Room beyond the slots for what is read to wait in. One entry at a time, so that another worker has its chance at it:
what waits takes no room, and what was superseded is gone at once.
"""


@dataclass(eq=False)
class Waiting:
    """One check in hand: where it stands, and the answer that it is about.

    `stands_for` are the ids of those that it has superseded, `superseded`: another stands for it. `aside`: it has given
    its slot to another, and goes on.

    Implements `Turn`.
    """

    queue: "Waitlist"
    check: GuardrailCheck
    place: tuple[str, str]
    answer: tuple[str, str, str]
    may_start: asyncio.Event = field(default_factory=asyncio.Event)
    stands_for: list[str] = field(default_factory=list)
    superseded: bool = False
    aside: bool = False

    async def wait(self) -> None:
        await self.may_start.wait()

    def end(self) -> None:
        self.queue.ended(self)

    def covers(self, older: "Waiting") -> bool:
        """Whether a verdict on this check answers the older one, too."""
        mine, its = self.check, older.check
        covers = len(mine.text) >= len(its.text) and set(mine.guardrails) >= set(its.guardrails)
        return covers and (mine.final or not its.final)

    def supersede(self, older: "Waiting") -> None:
        self.stands_for += [*older.stands_for, *older.check.stands_for, older.check.check_id]
        older.superseded = True
        older.may_start.set()
        metrics.GUARDRAIL_SUPERSEDED.inc()


class Waitlist:
    """Lets `slots` checks be judged at once; more wait in the order in which they came.

    What was read together is looked at together: a check starts at the end of the loop's turn at the earliest.
    """

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._waiting: OrderedDict[Waiting, None] = OrderedDict()
        self._in_hand: dict[tuple[str, str], Waiting] = {}
        self._starting = False

    def turn(self, delivery: Delivery) -> Turn | None:
        """The turn of a check that was delivered; None for what is none, which its handler refuses."""
        try:
            entry = Entry.parse(delivery.fields)
            if entry.type != GUARDRAIL_CHECK:
                return None
            check = GuardrailCheck.of(entry)
        except ContractError:
            return None
        answer = (entry.session, check.response_id, check.item_id)
        mine = Waiting(self, check, (delivery.stream, delivery.entry_id), answer)
        self._in_hand[mine.place] = mine
        waiting, self._waiting = self._waiting, OrderedDict()
        for one in waiting:
            if one.answer != mine.answer or not mine.covers(one):
                self._waiting[one] = None
                continue
            # In the place of the first: behind all others, an answer that goes on would never have its turn.
            self._waiting[mine] = None
            mine.supersede(one)
        self._waiting.setdefault(mine)
        self._start_soon()
        return mine

    def of(self, delivery: Delivery) -> Waiting | None:
        """The check whose turn it is."""
        return self._in_hand.get((delivery.stream, delivery.entry_id))

    def set_aside(self, delivery: Delivery) -> None:
        """A check that is judged is a slow one: the next one starts."""
        slow = self.of(delivery)
        if slow is not None and not slow.aside:
            slow.aside = True
            self._free += 1
            self._start_soon()

    def ended(self, done: Waiting) -> None:
        """A check is judged, or was given up: the next one starts."""
        self._in_hand.pop(done.place, None)
        if done.superseded or done.aside:
            return
        if done in self._waiting:  # given up before it started
            del self._waiting[done]
            return
        self._free += 1
        self._start_soon()

    def _start_soon(self) -> None:
        if self._free > 0 and self._waiting and not self._starting:
            self._starting = True
            asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        self._starting = False
        while self._free > 0 and self._waiting:
            one, _ = self._waiting.popitem(last=False)
            self._free -= 1
            one.may_start.set()
