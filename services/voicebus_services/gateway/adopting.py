"""Calls (WebRTC) whose gateway has died go on here, although nobody asks: their clients talk past us to the model.

A call is adopted once the lease of its gateway, its heartbeat, has run out, or once it was given up. A gateway that
stops is asked for its calls first, as for native sessions (`moving.py`). Only a gateway adopts that has itself been in
touch with the same Redis for as long as a lease lasts, so that an outage of Redis, or of this gateway, is not taken for
the other's death (`adapters/redis/contact.py`; contract section 8, Takeover).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from voicebus.adapters.redis.gateway_calls import GatewayCalls
from voicebus.adapters.redis.takeover import Standing
from voicebus.engine.config import Face
from voicebus.errors import BusError
from voicebus.telemetry.logging import get_logger
from voicebus_services.gateway.calling import Calling
from voicebus_services.gateway.moving import Moving
from voicebus_services.gateway.takeover import Takeover
from voicebus_services.http import ProblemError

log: Final = get_logger(__name__)

TICK_S: Final = 0.25

# How often a dead gateway without calls is looked at.
_IDLE_S: Final = 5.0
# How often a living one, whether it stops.
_STOPS_S: Final = 1.0
_AT_ONCE: Final = 32
_REMEMBERED: Final = 1_000


class Adopting:
    """Looks after the calls of other gateways; run `run` as a task.

    `is_dead` says of a gateway's id, whose heartbeat does not count any more, whether that one is dead.
    """

    def __init__(
        self,
        takeover: Takeover,
        moving: Moving,
        calling: Calling,
        calls: GatewayCalls,
        *,
        is_dead: Callable[[str], Awaitable[bool]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._takeover = takeover
        self._moving = moving
        self._calling = calling
        self._calls = calls
        self._is_dead = is_dead
        # When each gateway is looked at next.
        self._due: dict[str, float] = {}
        # What could not go on here, by session and epoch: another gateway may be able to.
        self._failed: dict[tuple[str, int], None] = {}
        self._stopped = False
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def stop(self) -> None:
        """Adopt nothing any more: this gateway stops."""
        self._stopped = True

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self.look()
            except BusError as error:
                log.info("calls of other gateways are looked after later", error=str(error))
            except Exception:  # one odd state must not end the care of all
                log.exception("calls of other gateways are not looked after")

    async def look(self) -> None:
        """Adopt what can be adopted now. A gateway of which a master that is away would tell keeps no other waiting.

        Raises:
            BusError: Redis cannot be reached.
        """
        others = await self._calls.others()
        self._due = {name: due for name, due in self._due.items() if name in others}
        due = [name for name in others if not self._stopped and self._clock() >= self._due.get(name, 0.0)]
        await asyncio.gather(*(self._see_to(name) for name in due))

    async def _see_to(self, gateway: str) -> None:
        try:
            self._due[gateway] = self._clock() + await self._look_at(gateway)
        except BusError as error:
            log.info("the calls of a gateway are looked after later", gateway=gateway, error=str(error))

    async def _look_at(self, gateway: str) -> float:
        """Adopt what a gateway has left; returns after how long (s) it is to be looked at again."""
        lives_ms, stops = await self._calls.standing(gateway)
        if lives_ms and not stops:
            return min(lives_ms / 1000, _STOPS_S)
        calls = await self._calls.of(gateway)
        if not calls:
            return 0.0 if lives_ms else _IDLE_S
        if not await self._is_dead(gateway):
            return 0.0
        for call in calls:
            if call not in self._tasks:
                task = self._tasks[call] = asyncio.create_task(self._try(gateway, call), name=f"adopt-{call}")
                task.add_done_callback(lambda _, call=call: self._tasks.pop(call, None))  # type: ignore[misc]
        return 0.0

    async def settle(self) -> None:
        """Return once what is being adopted has come here, or does not."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def aclose(self) -> None:
        """Adopt nothing more."""
        self.stop()
        for task in list(self._tasks.values()):
            task.cancel()
        await self.settle()

    async def _try(self, gateway: str, call: str) -> None:
        async with self._room:
            try:
                await self._adopt(gateway, call)
            except BusError as error:
                log.info("a call is looked after later", session=call, error=str(error))
            except ProblemError as problem:
                log.warning("a call does not go on here", session=call, why=str(problem))
            except Exception:  # the boundary between one call and the others
                log.exception("a call was not adopted", session=call)

    async def _adopt(self, gateway: str, call: str) -> None:
        standing = await self._takeover.look(call)
        if standing is None or standing.ended or standing.face != Face.SIDEBAND or standing.owner != gateway:
            self._calls.remove(call, gateway)  # over, or another one's
            return
        if (call, standing.epoch) in self._failed or not standing.seq:
            return
        if standing.lives_for_ms and not standing.moving:
            return
        # Known as ours first: should this gateway die in between, the next one finds it.
        await self._calls.add(call)
        if await self._goes_on(standing):
            self._calls.remove(call, gateway)
        else:
            self._calls.remove(call)

    async def _goes_on(self, standing: Standing) -> bool:
        try:
            if standing.lives_for_ms:  # its owner stops, and serves on until this gateway is on the call
                return await self._moving.fetch_call(standing, self._calling.adopted)
            return await self._takeover.adopt(standing, self._calling.adopted)
        except ProblemError as problem:
            if problem.code not in ("full", "not_moved"):
                self._failed[standing.session, standing.epoch] = None
                if len(self._failed) > _REMEMBERED:
                    del self._failed[next(iter(self._failed))]
            self._calls.remove(standing.session)
            raise
