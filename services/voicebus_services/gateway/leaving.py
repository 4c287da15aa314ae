"""A gateway that stops gives up what another one can go on with, each session at a turn boundary (contract section 8).

A client that is there is asked to go to another gateway (`migrate`), which asks for the session when it is ready to go
on with it at once. A client that does not follow is sent away at rest, and finds its session through another gateway;
one that is away is not asked. Calls, which go past us to the model, other gateways ask for by themselves
(`adopting.py`). When time is up, what is left is given up as it is.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from voicebus.adapters.redis.journal import RedisJournal
from voicebus.contracts.envelope import Entry
from voicebus.engine.config import Face
from voicebus.errors import BusError, CommandRefusedError
from voicebus.ports import Clock, SessionRef
from voicebus.telemetry.logging import get_logger
from voicebus_services.gateway.faces.base import MIGRATED
from voicebus_services.gateway.held import Held

log: Final = get_logger(__name__)

FOLLOW_S: Final = 10.0
"""How long a client may take until a gateway that it has reached asks for its session; it is asked again meanwhile."""

ADOPTERS_S: Final = 5.0
"""How long other gateways may take to see that this one stops, and to ask for its calls."""

_INVITE_S: Final = 3.0
_ASKED_WITHIN: Final = 0.25
_LEAST_AT_ONCE: Final = 5
_LOOK_S: Final = 1.0
# What makes a rest (sound that was played to its end) is no event of anybody's.
_REST_POLL_S: Final = 0.05


class Leaving:
    """Gives up the sessions that `held` gives. `has_other` tells whether another gateway takes sessions."""

    def __init__(
        self,
        held: Callable[[], Iterable[Held]],
        journal: RedisJournal,
        clock: Clock,
        has_other: Callable[[], Awaitable[bool]],
    ) -> None:
        self._held = held
        self._journal = journal
        self._clock = clock
        self._has_other = has_other
        self._leaves = False
        self._since = float("inf")

    def wanted(self, entry: Entry) -> asyncio.Future[None]:
        """Another gateway is ready to go on with a session; done once it may.

        Raises:
            CommandRefusedError: `unknown_session`, or `not_moving`: it is not to be had.
        """
        held = next((held for held in self._held() if held.id == entry.session), None)
        if held is None:
            raise CommandRefusedError("unknown_session", "this gateway does not hold the session")
        late = entry.deadline is not None and entry.deadline < self._clock.at_ms()
        if late or not self._leaves or not held.can_move:
            raise CommandRefusedError("not_moving", "the session's gateway does not give it up")
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        held.wanted.append(waiting)
        held.face.moves = True
        return waiting

    async def run(self, timeout_s: float) -> None:
        """Return once nothing is left to be given up, after about `timeout_s`."""
        loop = asyncio.get_running_loop()
        self._since = loop.time()
        until = self._since + timeout_s
        while not await self._another():
            if loop.time() >= until or not any(True for _ in self._held()):
                return
            await asyncio.sleep(min(_LOOK_S, max(0.0, until - loop.time())))
        self._leaves = True
        # Hundreds that came to the others at once would be in each other's way: they are asked in turn, within a
        # fraction of the time.
        polls = max(1.0, timeout_s * _ASKED_WITHIN / _REST_POLL_S)
        at_once = max(_LEAST_AT_ONCE, math.ceil(sum(1 for _ in self._held()) / polls))
        while movable := [held for held in self._held() if held.can_move]:
            now, asked = loop.time(), 0
            for held in movable:
                if now >= until or (held.at_rest and self._may_go(held, now)):
                    self._give_up(held, at_rest=now < until)
                elif asked < at_once and self._invite(held, now):
                    asked += 1
            await asyncio.sleep(_REST_POLL_S)

    async def _another(self) -> bool:
        try:
            return await self._has_other()
        except BusError as error:
            log.warning("whether another gateway takes sessions is not known", error=str(error))
            return False

    def _may_go(self, held: Held, now: float) -> bool:
        if held.wanted:
            return True
        if held.face.kind is Face.SIDEBAND:
            return now >= self._since + ADOPTERS_S
        if not held.face.is_attended:
            return not held.face.may_have_hung_up
        return held.invited_at is not None and now >= held.invited_at + FOLLOW_S

    def _invite(self, held: Held, now: float) -> bool:
        """Ask for a session's move, where that is due; whether it was."""
        driver = held.face.driver
        if driver is None or held.wanted or now < held.asked_at + _INVITE_S:
            return False
        if not held.face.is_attended:
            return False
        held.asked_at = now
        if held.invited_at is None:
            held.invited_at = now
            log.info("session is to move", session=held.id)
        # A gateway that the client reaches then finds that this one gives the session to it.
        driver.note({"moving": "1"})
        self._journal.after(SessionRef(held.id, held.epoch), held.face.invite)
        return True

    def _give_up(self, held: Held, *, at_rest: bool) -> None:
        log.info("session moves", session=held.id, at_rest=at_rest, wanted=len(held.wanted))
        held.release(MIGRATED)
        self._journal.after(SessionRef(held.id, held.epoch), held.yielded)
