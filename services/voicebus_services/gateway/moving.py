"""A session whose gateway stops is brought here: make before break (contract section 8, Moving).

Its model's socket is opened and told first, while the owner serves on. Then the owner is asked, through its inbox, to
yield; it does at a turn boundary, and commits all there is. Only then is the session taken.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from voicebus.adapters.redis.commanding import RedisCommands
from voicebus.adapters.redis.takeover import Left, RedisTakeover, Standing
from voicebus.contracts.commands import YIELD
from voicebus.errors import CommandRefusedError, ModelLinkError, UserError
from voicebus.ports import Clock
from voicebus.runtime.standby import Standby
from voicebus.telemetry.logging import get_logger
from voicebus_services.gateway.admission import Admission, Ticket
from voicebus_services.gateway.faces.base import SessionFace
from voicebus_services.gateway.faces.native import NativeFace
from voicebus_services.gateway.held import Inherited, JoinedCall
from voicebus_services.gateway.sessions import Sessions
from voicebus_services.gateway.takeover import MakesCall, Takeover
from voicebus_services.http import ProblemError

log: Final = get_logger(__name__)

T = TypeVar("T")

# How often it is looked whether the owner that was asked lives still.
_LOOK_S: Final = 0.5


class Moving:
    """Brings sessions to this gateway. `patience_s`: how long their owners may take to come to a turn boundary."""

    def __init__(
        self,
        sessions: Sessions,
        takeover: Takeover,
        admission: Admission,
        bus: RedisTakeover,
        commands: RedisCommands,
        clock: Clock,
        gateway: str,
        *,
        patience_s: float,
    ) -> None:
        self._sessions = sessions
        self._takeover = takeover
        self._admission = admission
        self._bus = bus
        self._commands = commands
        self._clock = clock
        self._gateway = gateway
        self._patience_s = patience_s
        self._fetching: dict[str, asyncio.Task[NativeFace]] = {}

    def require_room(self) -> None:
        """Raises `ProblemError` (503 `full`, `draining`) where a session could not come here."""
        self._admission.room().release()

    async def fetch(self, standing: Standing, token: str) -> NativeFace:
        """Have a session come here that its owner wants to give up; returns once it goes on here.

        Raises:
            BusError: Redis cannot be reached.
            ProblemError: 503, there is no room here (`full`, `draining`), or it does not come (`not_moved`).
        """
        fetching = self._fetching.get(standing.session)
        if fetching is None:
            fetching = asyncio.create_task(self._fetch(standing, token), name=f"fetch-{standing.session}")
            self._fetching[standing.session] = fetching
            fetching.add_done_callback(lambda done: self._over(standing.session, done))
        # A client that gives up must not leave the session half taken.
        return await asyncio.shield(fetching)

    def _over(self, session: str, done: "asyncio.Task[NativeFace]") -> None:
        del self._fetching[session]
        if not done.cancelled() and (error := done.exception()) is not None:
            # Also where whoever asked for it has left.
            log.info("a session does not come here", session=session, error=repr(error))

    async def aclose(self) -> None:
        """Bring no more sessions here."""
        fetching = list(self._fetching.values())
        for task in fetching:
            task.cancel()
        await asyncio.gather(*fetching, return_exceptions=True)

    async def fetch_call(self, standing: Standing, make: MakesCall) -> bool:
        """Have a call come here that its gateway wants to give up; False where another gateway was quicker.

        Raises:
            BusError, ProblemError: as `fetch`.
        """

        async def take(ticket: Ticket, standby: Standby) -> bool:
            return await self._takeover.adopt(standing, make, ticket=ticket, standby=standby)

        return await self._brought(standing, make, take)

    async def _fetch(self, standing: Standing, token: str) -> NativeFace:
        async def take(ticket: Ticket, standby: Standby) -> NativeFace | None:
            return await self._takeover.take(standing, token, ticket=ticket, standby=standby)

        face = await self._brought(standing, lambda left: (self._takeover.face(left, token), None), take)
        if face is None:
            raise _not_moved("another gateway was quicker")
        return face

    async def _brought(
        self,
        standing: Standing,
        make: Callable[[Left], tuple[SessionFace, JoinedCall | None]],
        take: Callable[[Ticket, Standby], Awaitable[T]],
    ) -> T:
        ticket = self._admission.room()
        standby: Standby | None = None
        try:
            standby = await self._prepared(standing, make)
            await self._yielded(standing)
            return await take(ticket, standby)
        finally:
            if standby is not None:
                await standby.aclose()
            if not ticket.used:
                ticket.release()

    async def _prepared(
        self, standing: Standing, make: Callable[[Left], tuple[SessionFace, JoinedCall | None]]
    ) -> Standby:
        """A model's socket that knows the session as it is now."""
        left = await self._bus.read(standing.session)
        if left is None:
            raise _not_moved("it is not there any more")
        # Its next owner's, so that no id of the owner's is given twice.
        left = dataclasses.replace(left, epoch=left.epoch + 1)
        try:
            face, call = make(left)
            return await self._sessions.rehearse(face, Inherited(left, left.kept(self._clock.at_ms())), call)
        except (ModelLinkError, UserError, ValueError) as error:
            log.warning("a session cannot come here", session=standing.session, error=str(error))
            raise _not_moved("it could not go on here now") from error

    async def _yielded(self, standing: Standing) -> None:
        """Return once the owner has yielded, or is dead."""
        asking = asyncio.create_task(self._ask(standing), name=f"yield-{standing.session}")
        try:
            while not asking.done():
                await asyncio.wait({asking}, timeout=_LOOK_S)
                now = await self._bus.look(standing.session)
                if now is None or now.ended or now.epoch != standing.epoch:
                    raise _not_moved("it has ended, or is another gateway's")
                if now.released or not now.lives_for_ms:
                    return
            asking.result()
        except CommandRefusedError as error:
            raise _not_moved(str(error)) from error
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _ask(self, standing: Standing) -> None:
        await self._commands.send(
            standing.session, YIELD, {"gateway": self._gateway}, tenant=standing.tenant, timeout_s=self._patience_s
        )


def _not_moved(why: str) -> ProblemError:
    return ProblemError(503, "not_moved", f"the session has not come to this gateway: {why}; try again")
