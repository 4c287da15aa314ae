"""A session whose gateway has died goes on here, for the client that shows its token (contract section 8, Takeover).

The client is the arbiter: nobody takes a session that nobody asks for. The owner must have stopped beating; then the
state is taken in one step, which fences it out, and told to it for when it wakes.
"""

import asyncio
import hmac
import json
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from voicebus.adapters.redis.dispatch import new_entry
from voicebus.adapters.redis.former import FormerInboxes
from voicebus.adapters.redis.outbox import Outbox
from voicebus.adapters.redis.takeover import Left, RedisTakeover, Standing
from voicebus.contracts.commands import SESSION_TAKEN, SessionTaken
from voicebus.contracts.journal import SessionStarted
from voicebus.contracts.streams import INBOX_TTL_S, Keys
from voicebus.engine.config import Face
from voicebus.engine.inputs import ToolResultArrived
from voicebus.engine.keeping import read_items
from voicebus.engine.restoring import closed
from voicebus.engine.retelling import Said, comes_again
from voicebus.errors import UserError
from voicebus.ports import Clock, SessionRef
from voicebus.runtime.standby import Standby
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger
from voicebus_services.gateway.admission import Admission, Ticket
from voicebus_services.gateway.faces.base import SessionFace
from voicebus_services.gateway.faces.native import NativeFace
from voicebus_services.gateway.faces.said_again import UNSAID
from voicebus_services.gateway.faces.sideband import SidebandFace
from voicebus_services.gateway.held import Inherited, JoinedCall
from voicebus_services.gateway.remembering import digest, recalled
from voicebus_services.gateway.sessions import Sessions
from voicebus_services.http import ProblemError

log: Final = get_logger(__name__)


# Without a grace a lost client ends its session at once; the one that asks for it is on its way.
_PATIENCE_S: Final = 10.0
# What an answer may take that was given in time.
_LATE_S: Final = 1.0


F = TypeVar("F", bound=SessionFace)
MakesCall = Callable[[Left], tuple[SidebandFace, JoinedCall]]
"""The client side of a call that another gateway was on, and the way to the call."""


class Takeover:
    """Takes sessions for this gateway. `grace_s` is how long they then wait for their speaker."""

    def __init__(
        self,
        sessions: Sessions,
        admission: Admission,
        bus: RedisTakeover,
        outbox: Outbox,
        former: FormerInboxes,
        clock: Clock,
        keys: Keys,
        gateway: str,
        *,
        grace_s: float,
    ) -> None:
        self._sessions = sessions
        self._admission = admission
        self._bus = bus
        self._outbox = outbox
        self._former = former
        self._clock = clock
        self._keys = keys
        self._gateway = gateway
        self._grace_s = grace_s
        self._taking: dict[str, asyncio.Task[NativeFace | None]] = {}

    async def look(self, session: str) -> Standing | None:
        """Who owns a session; None where there is none.

        Raises:
            BusError: Redis cannot be reached.
        """
        return await self._bus.look(session)

    def can_take(self, standing: Standing) -> bool:
        """Whether there is something to go on with: a session of the native face that has not ended."""
        return not standing.ended and standing.face == Face.NATIVE and standing.seq > 0

    def may_ask(self, standing: Standing) -> bool:
        """Whether a session that has ended is still told of: for the grace, to clients of the native face."""
        over_ms = self._clock.at_ms() - standing.ended_at
        return standing.face == Face.NATIVE and over_ms <= self._grace_s * 1000

    async def ended(self, standing: Standing, token: str | None) -> NativeFace | None:
        """A session that has ended, as Redis knows it; `token` is what its client shows.

        Raises:
            BusError: Redis cannot be reached.
        """
        left = await self._bus.read(standing.session)
        if left is None:
            return None
        shown = token if token is not None and self.opens(standing, token) else secrets.token_urlsafe(32)
        face = self.face(left, shown)
        face.inherit_end([closed(item) for item in read_items(left.state)], left.state.get("end_reason", ""))
        return face

    def is_ours(self, standing: Standing) -> bool:
        """Whether this very gateway is the owner, and does not hold the session: it could not go on with it."""
        return standing.owner == self._gateway

    def opens(self, standing: Standing, token: str) -> bool:
        """Whether this is the session's token; compared in constant time."""
        return hmac.compare_digest(digest(token), standing.token_hash)

    async def take(
        self,
        standing: Standing,
        token: str,
        *,
        turns: Sequence[Said] = (),
        ticket: Ticket | None = None,
        standby: Standby | None = None,
    ) -> NativeFace | None:
        """Go on with a session whose owner is dead, or has yielded; None where another gateway was quicker.

        `turns` are those that its client could say again. `ticket` is the room for it, where that is kept already, and
        `standby` a model's socket that knows it.

        Raises:
            BusError: Redis cannot be reached.
            ProblemError: there is no room here, or it cannot go on.
        """
        taking = self._taking.get(standing.session)
        if taking is None:

            def attended(left: Left) -> tuple[NativeFace, None]:
                face = self.face(left, token)
                face.await_client(self._grace_s or _PATIENCE_S)
                return face, None

            taking = asyncio.create_task(
                self._take(standing, attended, ticket, standby, turns), name=f"take-{standing.session}"
            )
            self._taking[standing.session] = taking
            taking.add_done_callback(lambda done: self._over(standing.session, done))
        # A client that gives up must not leave the session half taken.
        return await asyncio.shield(taking)

    def _over(self, session: str, done: "asyncio.Task[NativeFace | None]") -> None:
        del self._taking[session]
        if not done.cancelled() and (error := done.exception()) is not None:
            # Also where whoever asked for it has left.
            log.info("a session was not taken over", session=session, error=repr(error))

    async def adopt(
        self, standing: Standing, make: MakesCall, *, ticket: Ticket | None = None, standby: Standby | None = None
    ) -> bool:
        """Go on with a call whose owner is dead, or has given it up; False where another gateway was quicker.

        Raises:
            BusError: Redis cannot be reached.
            ProblemError: there is no room here, or it cannot go on.
        """
        return await self._take(standing, make, ticket, standby) is not None

    async def _take(
        self,
        standing: Standing,
        make: Callable[[Left], tuple[F, JoinedCall | None]],
        ticket: Ticket | None,
        standby: Standby | None,
        turns: Sequence[Said] = (),
    ) -> F | None:
        began, outcome = time.monotonic(), "failed"
        cause = "drain" if standing.released or standing.moving else "takeover"
        ticket = ticket or self._admission.room()
        left: Left | None = None
        try:
            left = await self._bus.take(standing.session, standing.epoch)
            if left is None:
                outcome = "lost"
                return None
            face, call = make(left)
            face.ticket = ticket
            if former := left.state.get("ticket"):
                self._admission.count_on(ticket, former, face.principal)
            kept, again = comes_again(left.kept(self._clock.at_ms()), turns)
            if isinstance(face, NativeFace):
                face.asks_again(again, sum(ms for _, ms in turns), kept, left.state.get(UNSAID, ""))
            # Of calls that are over by now, also those whose time is up: what they have done is not asked for again.
            results = await self._bus.results(left.session, kept.work)
            in_hand = await self._bus.in_hand(left.session, kept.work)
            if not await self._goes_on(face, Inherited(left, kept, standby, frozenset(in_hand)), call):
                raise ProblemError(503, "session_unavailable", "the session cannot go on here now; try again shortly")
            if isinstance(face, NativeFace):
                face.keep_unsaid()
            for result in results:
                face.live().feed(ToolResultArrived(result.bounded()))
            outcome = "taken"
            # Whoever has a call in hand answers the former owner, until the call's time is up.
            latest = max(in_hand.values(), default=0)
            self._former.follow(standing.owner, left.session, for_s=(latest - self._clock.at_ms()) / 1000 + _LATE_S)
        finally:
            metrics.SESSION_MIGRATIONS.labels(cause=cause, outcome=outcome).inc()
            if not ticket.used:
                ticket.release()
            if left is not None and outcome == "failed":
                await self._bus.release(left)
        metrics.SESSION_TAKEOVER.observe(time.monotonic() - began)
        log.warning("took a session over", session=left.session, owner=standing.owner, epoch=left.epoch, cause=cause)
        self._tell(standing, left)
        return face

    async def _goes_on(self, face: SessionFace, inherited: Inherited, call: JoinedCall | None) -> bool:
        try:
            return await self._sessions.go_on(face, inherited, call)
        except UserError as error:
            log.warning("a session cannot go on here", session=inherited.left.session, error=str(error))
            return False

    def face(self, left: Left, token: str) -> NativeFace:
        """The client side of a session that another gateway has left."""
        state = left.state
        principal = recalled(state.get("principal", ""))
        face = NativeFace(self._sessions, principal, self._clock, agent=state["agent"], grace_s=self._grace_s)
        started = SessionStarted.model_validate(
            {
                **{name: state[name] for name in ("agent", "tenant", "model", "face")},
                "audio": json.loads(state["audio"]),
            }
        )
        face.inherit(
            left.session,
            token,
            started=started,
            started_at=int(state["started_at"]),
            seq=int(state["seq"]),
            muted=state.get("muted") == "1",
            done=json.loads(state.get("done", "[]")),
        )
        return face

    def _tell(self, standing: Standing, left: Left) -> None:
        """The old owner may only have slept."""
        message = SessionTaken(gateway=self._gateway)
        entry = new_entry(SessionRef(left.session, left.epoch), SESSION_TAKEN, message, self._clock)
        self._outbox.send(self._keys.inbox(standing.owner), entry, ttl_s=INBOX_TTL_S)
