"""The sessions that this gateway holds: a slot for each, one task for each, and the drain of all of them."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from ulid_transform import ulid_now

from voicebus.adapters.redis.journal import RedisJournal
from voicebus.adapters.sockets import INTERNAL_ERROR, NORMAL, POLICY_VIOLATION
from voicebus.agents.author import SessionAuthor
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.hooks import HookRunner
from voicebus.agents.shared_context import SharedContext
from voicebus.agents.targets import Targets
from voicebus.contracts.tools import ToolRegistration
from voicebus.engine.inputs import Trouble
from voicebus.engine.rehearsing import Rehearsal
from voicebus.errors import CommandRefusedError, StaleOwnerError, UserError, VoicebusError
from voicebus.ports import ModelConnector
from voicebus.runtime.driver import HANGUP
from voicebus.runtime.standby import Standby
from voicebus.runtime.surroundings import Bus
from voicebus.telemetry import metrics, zeroed
from voicebus.telemetry.logging import get_logger
from voicebus_services.access.principal import Principal
from voicebus_services.gateway.admission import Admission, Ticket
from voicebus_services.gateway.faces.base import DRAINED, SessionFace
from voicebus_services.gateway.faces.native_end import TAKEN_OVER
from voicebus_services.gateway.faces.recorded import Recorded
from voicebus_services.gateway.held import Held, Inherited, JoinedCall
from voicebus_services.gateway.leaving import Leaving
from voicebus_services.gateway.models import Models
from voicebus_services.gateway.starting import Starting
from voicebus_services.gateway.tracing import session_span
from voicebus_services.http import ProblemError
from voicebus_services.settings import GatewaySettings

if TYPE_CHECKING:  # of an extra
    from voicebus_services.gateway.recording import Recording

log = get_logger(__name__)

_LOST: Final = "taken_over"
_DRAINING: Final = "this gateway is shutting down and takes no more sessions"

# How long after the limit of a drain the last sessions may take to be written and given up.
_MOVE_S: Final = 1.0
# What a drained session may still take to write its last records and close its sockets.
_LAST_WORDS_S: Final = 10.0

Registered = Callable[[], Awaitable[Mapping[str, ToolRegistration]]]

Recall = Callable[[str, int, int], Awaitable[Sequence[Recorded]]]
"""Recorded events of a session above a `seq` up to another, from Redis."""


class Sessions:
    """Implements `Host` for the faces. Each session has its ticket of `admission`; none begins once a drain began."""

    def __init__(
        self,
        settings: GatewaySettings,
        targets: Targets,
        bus: Bus,
        journal: RedisJournal,
        models: Mapping[str, Models],
        *,
        registered: Registered,
        recall: Recall,
        admission: Admission,
        has_other: Callable[[], Awaitable[bool]],
        recording: "Recording | None" = None,
    ) -> None:
        self._settings = settings
        self._targets = targets
        self._starting = Starting(settings, targets, bus, journal, models, recording)
        self._journal = journal
        self._models = models
        self._registered = registered
        self._recall = recall
        self._admission = admission
        self.leaving: Leaving = Leaving(lambda: self, journal, bus.clock, has_other)
        self._left: dict[str, SessionFace] = {}
        self._held: dict[str, Held] = {}
        self._draining = False

    # --- what is held -------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        return self._admission.free

    @property
    def count(self) -> int:
        """How many sessions are held."""
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._held.values()))

    def __contains__(self, session: str) -> bool:
        return session in self._held

    def find(self, session: str) -> SessionFace | None:
        """The session's client side, also a little while after its end; None where this gateway does not know it, or
        has lost it to another one.
        """
        held = self._held.get(session)
        if held is None:
            return self._left.get(session)
        return None if held.is_lost else held.face

    # --- tools of other services --------------------------------------------------------------------

    @property
    def follows_offers(self) -> bool:
        """Whether a session has an agent with tools of other services."""
        return any(held.author.follows_offers for held in self._held.values())

    def retool(self, offered: Mapping[str, ToolRegistration]) -> None:
        """These tools are `offered` now: sessions whose agents have others get them at a quiet moment.

        Harmless to repeat, and repeated for those that were not live yet.
        """
        for held in self:
            driver = held.face.driver
            if driver is not None and driver.live:
                for change in held.author.retool(offered):
                    driver.feed(change)

    # --- Host ---------------------------------------------------------------------------------------

    def begin(self, face: SessionFace) -> None:
        self._hold(face, None, (), ulid_now())

    async def create(
        self, face: SessionFace, *, context: Any = None, history: Sequence[Mapping[str, Any]] = ()
    ) -> bool:
        """Begin a session that its client will enter later; False where it could not begin.

        `context` is what tools, hooks and instructions find as their context, `history` what was said before.

        Raises:
            ProblemError: 422 `invalid_context`, it does not fit the program's model of it; 500 `agent_failed`.
        """
        try:
            SharedContext(RunContextWrapper(context), self._targets.configs[face.agent].get("context_model"))
        except UserError as error:
            raise ProblemError(422, "invalid_context", str(error)) from error
        held = self._hold(face, context, tuple(history), ulid_now())
        try:
            began = await held.until(face.began)
        except asyncio.CancelledError:  # nobody will hear of it
            held.stop(HANGUP)
            raise
        if held.refused is not None:
            raise ProblemError(500, held.refused.code, str(held.refused))
        return began

    @asynccontextmanager
    async def admitted(self, principal: Principal) -> AsyncIterator[Ticket]:
        """Room for a session that is prepared in the block: given back unless one begins with the ticket.

        Raises:
            ProblemError: there is none (see `Admission.admit`).
        """
        ticket = await self.admit(principal)
        try:
            yield ticket
        finally:
            if not ticket.used:
                ticket.release()

    async def admit(self, principal: Principal) -> Ticket:
        """Room for a session that begins soon, or `release` gives it back.

        Raises:
            ProblemError: there is none (see `Admission.admit`).
        """
        try:
            return await self._admission.admit(principal)
        except ProblemError as problem:
            metrics.ADMISSION_REJECTED.labels(reason=problem.code).inc()
            raise

    def join(
        self, face: SessionFace, call_id: str, connector: ModelConnector, *, model: str, settings: Mapping[str, Any]
    ) -> asyncio.Task[None]:
        """Begin the session of a call under the call's own id; returns its task.

        Raises:
            ProblemError: 503 `draining`, as a drain began meanwhile and does not wait for this session.
            RuntimeError: there is such a session already, or there is no room for it.
        """
        if self._draining:
            raise ProblemError(503, "draining", _DRAINING)
        if call_id in self._held:
            raise RuntimeError(f"the provider gave the id of another call: {call_id}")
        held = self._hold(face, None, (), call_id, JoinedCall(connector, model, settings))
        if held.task is None:
            raise RuntimeError("a session was begun without its task")
        return held.task

    async def go_on(self, face: SessionFace, inherited: Inherited, call: JoinedCall | None = None) -> bool:
        """Go on with a session that another gateway began and this one has taken; False where that cannot be.

        The face knows its session, its token and what was recorded.

        Raises:
            UserError: the agent that it began with is not deployed here.
            ProblemError: 503 `draining`, this gateway stops.
            RuntimeError: it is held here already, or there is no room for it.
        """
        if (known := self._held.get(face.session)) is not None and not known.is_lost:
            raise RuntimeError(f"session {face.session} is held here already")
        if self._draining:
            raise ProblemError(503, "draining", _DRAINING)
        self._require_deployed(inherited)
        held = self._hold(face, inherited.given, (), face.session, call, inherited, first_agent=inherited.first_agent)
        return await held.until(held.driven)

    async def rehearse(self, face: SessionFace, inherited: Inherited, call: JoinedCall | None = None) -> Standby:
        """A model's socket that knows a session which another gateway holds; `face` is nobody's yet.

        Raises:
            UserError: its agent cannot be honoured, or is not deployed here.
            ModelLinkError: no model can be reached, or takes it.
        """
        self._require_deployed(inherited)
        held = self._made(face, inherited.given, (), face.session, call, inherited, inherited.first_agent)
        try:
            config = await self._starting.configure(held)
            rehearsal = Rehearsal(config, await self._starting.kept(held))
        finally:
            await held.hooks.aclose()
            await held.author.aclose()
        standby = Standby(rehearsal, config.models or (config.model,))
        try:
            await standby.open(self._ways(held))
        except BaseException:  # also where it is cancelled: what was opened is closed
            await standby.aclose()
            raise
        return standby

    def _ways(self, held: Held) -> tuple[ModelConnector, ...]:
        if held.call is not None:
            return (held.call.connector,)
        return self._models[held.first_agent].of_session(held.id)

    def _require_deployed(self, inherited: Inherited) -> None:
        if inherited.first_agent not in self._targets.configs:
            raise UserError(f"agent {inherited.first_agent!r}, which the session began with, is not deployed here")

    def _hold(
        self,
        face: SessionFace,
        given: Any,
        seed: tuple[Mapping[str, Any], ...],
        session: str,
        call: JoinedCall | None = None,
        inherited: Inherited | None = None,
        *,
        first_agent: str | None = None,
    ) -> Held:
        if face.ticket is None or face.ticket.released:
            raise RuntimeError("a session begins that was not admitted")
        face.ticket.used = True
        held = self._made(face, given, seed, session, call, inherited, first_agent)
        face.session, face.token = held.id, face.token or secrets.token_urlsafe(32)
        self._held[held.id] = held
        metrics.SESSIONS_ACTIVE.set(len(self._held))
        held.task = asyncio.create_task(self._run(held), name=f"session-{held.id}")
        held.task.add_done_callback(lambda _: self._forget(held))
        return held

    def _made(
        self,
        face: SessionFace,
        given: Any,
        seed: tuple[Mapping[str, Any], ...],
        session: str,
        call: JoinedCall | None,
        inherited: Inherited | None,
        first_agent: str | None,
    ) -> Held:
        context: RunContextWrapper[Any] = RunContextWrapper(given)
        unfit: str | None = None
        first_agent = first_agent or face.agent
        try:
            author, hooks = self._program(session, face, context, first_agent, is_call=call is not None)
        except UserError as error:  # its run config was checked at the start, so it is the context
            unfit = str(error)
            author, hooks = self._program(
                session, face, RunContextWrapper({}), first_agent, is_call=False, declared=False
            )
        held = Held(session, face, context, author, hooks, time.monotonic(), first_agent, seed, call, inherited)
        held.unfit = unfit
        return held

    @property
    def audio_speed(self) -> float:
        return self._settings.max_audio_speed

    async def recall(self, session: str, after: int, upto: int) -> Sequence[Recorded]:
        return await self._recall(session, after, upto)

    def hung_up(self, face: SessionFace) -> None:
        held = self._held.get(face.session)
        # Not that of another face: a takeover that failed leaves one behind, whose client never came.
        if held is not None and held.face is face:
            held.stop(HANGUP)

    # --- the end ------------------------------------------------------------------------------------

    def lost(self, error: StaleOwnerError) -> None:
        """Another process owns this session now: stop serving it."""
        held = self._held.get(error.session)
        if held is not None and not held.is_lost and error.current > held.epoch:
            log.warning("another gateway has taken a session over", session=held.id, epoch=error.current)
            self._journal.disown(held.id)
            held.face.close(*TAKEN_OVER)
            held.lose(_LOST)

    async def drain(self, timeout_s: float) -> None:
        """Take no more, wait for those in hand, and end those that are left after `timeout_s`."""
        self._draining = True
        self._admission.close()
        tasks = [held.task for held in self if held.task is not None]
        if not tasks:
            return
        log.info("draining", sessions=len(tasks), timeout_s=timeout_s)
        moving = asyncio.create_task(self.leaving.run(timeout_s), name="move-sessions")
        try:
            _, left = await asyncio.wait(tasks, timeout=timeout_s)
            if left:
                await asyncio.wait({moving}, timeout=_MOVE_S)
        finally:
            moving.cancel()
            await asyncio.gather(moving, return_exceptions=True)
        if not left:
            return
        log.info("drain limit reached, ending sessions", sessions=len(left))
        for held in self:
            held.stop(DRAINED)
        _, stuck = await asyncio.wait(left, timeout=_LAST_WORDS_S)
        for task in stuck:
            task.cancel()
        if stuck:
            await asyncio.wait(stuck, timeout=_LAST_WORDS_S)

    # --- one session --------------------------------------------------------------------------------

    async def _run(self, held: Held) -> None:
        face = held.face
        reason = "error"
        with session_span(held) as span:
            try:
                if held.unfit is not None:
                    log.info("session refused", error=held.unfit)
                    face.refuse("invalid_context", held.unfit, POLICY_VIOLATION)
                    return
                config = await self._starting.configure(held)
                if held.inherited is None:
                    metrics.SESSIONS_STARTED.inc()
                    log.info("session begins", face=config.face.value, model=config.model)
                try:
                    driver = await self._starting.drive(held, config, span.traceparent)
                    # One that goes on is live in the next turn of the loop, before anybody who waits for this runs.
                    held.driven.set()
                    reason = await driver.run(*self._ways(held))
                except asyncio.CancelledError:
                    reason = held.leaving
                    raise
                finally:
                    duration_s = time.monotonic() - held.started
                    metrics.SESSIONS_ENDED.labels(reason=zeroed.ended_as(reason)).inc()
                    metrics.SESSION_DURATION.observe(duration_s)
                    log.info("session ended", reason=reason, duration_s=round(duration_s, 3))
                    if held.bounded is not None:
                        held.bounded.stop()
                    if held.recorder is not None:
                        held.recorder.leave()
                    if held.tools is not None:
                        await held.tools.aclose()
                    await held.hooks.aclose()
            except asyncio.CancelledError:
                reason = held.leaving
                raise
            except CommandRefusedError as error:
                log.exception("an agent cannot begin a session", agent=held.first_agent)
                held.refused = error
                face.refuse(error.code, str(error), INTERNAL_ERROR)
            except VoicebusError as error:
                # What it says is for the operator: it may name addresses that are no client's business.
                log.warning("session cannot begin", error=str(error))
                face.refuse("session_unavailable", "No session can begin now; try again shortly.", INTERNAL_ERROR)
            except Exception as error:  # the boundary between one session and the others
                log.exception("session failed")
                face.refuse("internal_error", f"internal error ({type(error).__name__})", INTERNAL_ERROR)
            finally:
                span.ended(reason)
                face.close(NORMAL, reason)
                try:
                    await face.wait_closed()
                finally:
                    await held.author.aclose()

    def _program(
        self,
        session: str,
        face: SessionFace,
        context: RunContextWrapper[Any],
        first_agent: str,
        *,
        is_call: bool,
        declared: bool = True,
    ) -> tuple[SessionAuthor, HookRunner]:
        """The program's side of a session: who answers for its agents, and its hooks."""
        run_config = self._targets.configs[first_agent]
        if not declared:
            run_config = {**run_config, "context_model": None}

        def trouble(code: str, message: str) -> None:
            if face.driver is not None:
                face.driver.feed(Trouble(code, message, "tool"))

        author = SessionAuthor(
            context=context,
            run_config=run_config,
            model_config={"call_id": session} if is_call else None,
            session=session,
            tool_timeout_s=self._settings.tool_timeout.total_seconds(),
            registered=self._registered,
            deployed={name: agent for name, agent in self._targets.agents.items() if face.principal.may_use(name)},
            in_process=False,
            trouble=trouble,
        )
        return author, HookRunner(run_config.get("hooks"), context, trouble=trouble)

    def _forget(self, held: Held) -> None:
        if self._held.get(held.id) is held:  # else it has come back meanwhile
            del self._held[held.id]
        if held.face.ticket is not None:
            held.face.ticket.release()
        metrics.SESSIONS_ACTIVE.set(len(self._held))
        grace_s = self._settings.resume_grace.total_seconds()
        if held.driven.is_set() and not self._draining and grace_s and not held.is_lost:
            # A client that was away at the end may still ask how it came.
            held.face.retire()
            self._left[held.id] = held.face
            if len(self._left) > self._settings.max_sessions:
                del self._left[next(iter(self._left))]
            asyncio.get_running_loop().call_later(grace_s, self._left.pop, held.id, None)
