"""Who gets in: each WebSocket upgrade is routed, authenticated and admitted here."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from logging import INFO, WARNING
from typing import Final

from voicebus.adapters.sockets import INTERNAL_ERROR, POLICY_VIOLATION, SERVICE_RESTART, TRY_AGAIN_LATER
from voicebus.adapters.sockets.uvicorn_upgrade import Accept, Refuse, Upgrade
from voicebus.agents.targets import Targets
from voicebus.errors import BusError, UsageError
from voicebus.ports import Clock
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger
from voicebus_services.access.authenticator import Authenticator, Presented
from voicebus_services.access.principal import Principal
from voicebus_services.gateway.admission import RETRY_AFTER_S
from voicebus_services.gateway.elsewhere import Comes, Elsewhere, NotHereError, NotItsTokenError, OwnerGoneError
from voicebus_services.gateway.faces import native, openai
from voicebus_services.gateway.faces.arriving import Arriving
from voicebus_services.gateway.faces.base import ClosingListener, SessionFace
from voicebus_services.gateway.faces.metered import Client, Metered
from voicebus_services.gateway.faces.native_address import Wishes, consent, wishes
from voicebus_services.gateway.faces.native_connection import NativeConnection, Observer
from voicebus_services.gateway.faces.openai_address import CLOSE_CODE, unserved
from voicebus_services.gateway.faces.outlet import MOST_WAITING
from voicebus_services.gateway.relaying import RELAYED, Relay
from voicebus_services.gateway.remembering import recalled
from voicebus_services.gateway.sessions import Sessions
from voicebus_services.http import ProblemError, asker

log = get_logger(__name__)

REALTIME: Final = "/v1/realtime"
CONNECT: Final = "/v1/sessions/connect"
DECISION_TIMEOUT_S: Final = 5.0
"""How long it may take to find out who asks, and whether there is room."""

_SUBPROTOCOL: Final = "realtime"

# The protocol's close codes for its own face (protocol 1.4), ours for the native one (contract section 3).
_BAD_CREDENTIAL: Final = 3000
_UNKNOWN_SESSION: Final = 4404
_FULL: Final = 4429
# What is told of a session that there is, and that this gateway cannot take.
_NO_ROOM: Final[Mapping[str, int]] = {"full": _FULL, "draining": SERVICE_RESTART}

_BAD_ORIGIN: Final = "pages of this origin are not served here"
_NO_SESSION: Final = "there is no such session, or it has ended, or its gateway is gone"
_SILENT: Final = "the gateway that holds the session does not answer now; try again shortly"
_DRAINING: Final = "this gateway stops; the session goes on at another one"
_NO_BUS: Final = "it cannot be looked up now which gateway holds the session; try again shortly"
_BAD_TOKEN: Final = "this is not the session's token"  # noqa: S105 - a sentence
_NO_PROOF: Final = "there is no such session, or this is not its token"
_NO_MANAGER: Final = "a client secret opens sessions; use the session's token, or an API key, to observe one"


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one client's connection may bring; a key may have limits of its own."""

    messages_per_second: float
    max_message_bytes: int


class Doorkeeper:
    """Decides on upgrades: `decide` is the acceptor of `upgrade_hook`."""

    def __init__(
        self,
        sessions: Sessions,
        targets: Targets,
        access: Authenticator,
        others: Elsewhere,
        clock: Clock,
        *,
        grace_s: float,
        traffic: Traffic,
    ) -> None:
        self._sessions = sessions
        self._targets = targets
        self._access = access
        self._others = others
        self._clock = clock
        self._grace_s = grace_s
        self._traffic = traffic

    async def decide(self, upgrade: Upgrade) -> Accept | Refuse:
        if upgrade.path == REALTIME:
            return await self._realtime(upgrade)
        if upgrade.path == CONNECT:
            return await self._connect(upgrade)
        return _problem(ProblemError(404, "not_found", f"there is no WebSocket at {upgrade.path}"))

    # --- the OpenAI face ----------------------------------------------------------------------------

    async def _realtime(self, upgrade: Upgrade) -> Accept | Refuse:
        subprotocol = _selected(upgrade)
        try:
            principal = await self._authenticate(upgrade)
        except ProblemError as problem:
            if problem.status >= 500 or problem.status == 429:
                _rejected(problem.code)
                return _problem(problem)
            _rejected("credentials")
            code: str | None = problem.code
            if problem.status == 401:
                code = "invalid_api_key" if _presented(upgrade).credential else None
            return Accept(_refused(code, str(problem), _BAD_CREDENTIAL), subprotocol)
        if (wrong := unserved(upgrade.query, upgrade.headers)) is not None:
            _rejected(wrong.code)
            return Accept(_refused(wrong.code, wrong.message, CLOSE_CODE, wrong.param), subprotocol)
        if "call_id" in upgrade.query:
            _rejected("unknown_call")
            return _problem(ProblemError(404, "call_id_not_found", "there is no call of this id here to join"))
        named, model = upgrade.query.get("agent"), upgrade.query.get("model") or None
        if named is None and model is not None and self._agent(model, principal) is not None:
            named, model = model, None
        agent = self._agent(named, principal)
        if agent is None:
            _rejected("unknown_agent")
            message = f"There is no agent '{(named or '')[:64]}' here."
            return Accept(_refused("invalid_model", message, CLOSE_CODE, "agent"), subprotocol)
        try:
            ticket = await self._sessions.admit(principal)
        except ProblemError as problem:
            return _problem(problem)
        traceparent = upgrade.headers.get("traceparent")
        face = openai.OpenAIConnection(self._sessions, principal, agent=agent, traceparent=traceparent)
        face.model, face.ticket, face.consent = model, ticket, consent(upgrade.query)
        return self._accept(upgrade, face, principal, unused=ticket.release)

    # --- the native face ----------------------------------------------------------------------------

    async def _connect(self, upgrade: Upgrade) -> Accept | Refuse:
        query = upgrade.query
        try:
            wanted = wishes(query)
        except UsageError as error:
            return self._turned_away(upgrade, "invalid_parameter", str(error), POLICY_VIOLATION)
        if "session" in query:
            return await self._enter(upgrade, query["session"], wanted)
        try:
            principal = await self._authenticate(upgrade)
        except ProblemError as problem:
            return self._not_known(upgrade, problem)
        named = query.get("agent") or None
        agent = self._agent(named, principal)
        if agent is None:
            message = f"there is no agent {(named or '')[:64]!r} here"
            return self._turned_away(upgrade, "unknown_agent", message, POLICY_VIOLATION)
        try:
            ticket = await self._sessions.admit(principal)
        except ProblemError as problem:
            close_code = INTERNAL_ERROR if problem.code == "session_unavailable" else _FULL
            return self._closing(upgrade, problem.code, str(problem), close_code)
        face = native.NativeFace(
            self._sessions,
            principal,
            self._clock,
            agent=agent,
            grace_s=self._grace_s,
            traceparent=upgrade.headers.get("traceparent"),
            raw=wanted.raw,
        )
        face.ticket, face.consent = ticket, wanted.consent
        connection = NativeConnection(
            face, audio=wanted.audio or "binary", raw=face.raw_events, came_at=upgrade.came_at
        )
        return self._accept(upgrade, connection, principal, unused=ticket.release)

    async def _enter(self, upgrade: Upgrade, session: str, wanted: Wishes) -> Accept | Refuse:
        """A client of a session that there is: its speaker, with the session's token, or an observer of it.

        The token is a credential of its own; an observer may show one of the session's tenant instead.
        """
        query = upgrade.query
        if not self._access.origins.allows(upgrade.headers):
            return self._turned_away(upgrade, "origin_not_allowed", _BAD_ORIGIN, POLICY_VIOLATION)
        face = self._sessions.find(session)
        if face is None:
            found = await self._elsewhere(upgrade, session, wanted)
            if isinstance(found, Accept | Refuse):
                return found
            face = found
        if not isinstance(face, native.NativeFace):
            return await self._unproved(upgrade, None)
        if not face.knows(query.get("token", "")):
            if not wanted.observes or "token" in query:
                return await self._unproved(upgrade, face.principal.tenant)
            if (refused := await self._barred(upgrade, face.principal.tenant)) is not None:
                return refused
        if wanted.observes:
            observer = Observer(face, after_seq=wanted.after_seq, audio=wanted.audio or "none", raw=wanted.raw)
            return self._accept(upgrade, observer, face.principal)
        if face.awaits_move:
            return self._turned_away(upgrade, "draining", _DRAINING, SERVICE_RESTART)
        return self._accept(upgrade, _speaker(face, wanted, upgrade), face.principal)

    def _arriving(self, upgrade: Upgrade, session: Comes, wanted: Wishes) -> Accept:
        """A client whose session is on its way here."""

        async def arrives() -> NativeConnection:
            return _speaker(await session.arrived(), wanted, upgrade)

        def explains(error: Exception) -> tuple[bytes, int, str]:
            code, message, close_code = "internal_error", f"internal error ({type(error).__name__})", INTERNAL_ERROR
            if isinstance(error, ProblemError):
                code, message = error.code, str(error)
                close_code = _NO_ROOM.get(code, TRY_AGAIN_LATER)
            elif isinstance(error, BusError):
                code, message, close_code = "bus_unavailable", _NO_BUS, TRY_AGAIN_LATER
            log.log(
                WARNING if close_code == INTERNAL_ERROR else INFO,
                "a session does not come here", session=session.standing.session, error=repr(error),
            )  # fmt: skip
            return native.error_frame(self._clock, code=code, message=message), close_code, code

        return self._accept(upgrade, Arriving(arrives, explains), recalled(session.standing.principal))

    def _accept(
        self, upgrade: Upgrade, client: Client, principal: Principal, *, unused: Callable[[], None] | None = None
    ) -> Accept:
        """Let a client in, whose messages are bounded in size and number."""
        rate = principal.limits.messages_per_second or self._traffic.messages_per_second
        size = principal.limits.message_bytes or self._traffic.max_message_bytes
        return Accept(
            Metered(client, rate), _selected(upgrade), max_message=size, max_buffered=MOST_WAITING, unused=unused
        )

    async def _elsewhere(self, upgrade: Upgrade, session: str, wanted: Wishes) -> Accept | Refuse | SessionFace:
        """A session that is not held here: the session, where it goes on here now, else what its client is told.

        Refused is who was passed on here for nothing: the gateway that did so finds that out before its client does.
        """
        if "token" not in upgrade.query:
            try:
                await self._authenticate(upgrade)
            except ProblemError as problem:
                return self._not_known(upgrade, problem)
        try:
            credential = _presented(upgrade).credential
            found = await self._others.find(session, upgrade.query, credential, relayed=RELAYED in upgrade.headers)
        except NotItsTokenError as error:
            return await self._unproved(upgrade, error.tenant)
        except OwnerGoneError as error:
            refused = None if error.proved else await self._barred(upgrade, error.tenant)
            return refused or self._turned_away(upgrade, "owner_gone", str(error), TRY_AGAIN_LATER)
        except NotHereError as error:
            refused = None if error.proved else await self._barred(upgrade, error.tenant)
            return refused or _problem(ProblemError(HTTPStatus.MISDIRECTED_REQUEST, "not_here", str(error)))
        except ProblemError as problem:
            close_code = _NO_ROOM.get(problem.code, TRY_AGAIN_LATER)
            return self._turned_away(upgrade, problem.code, str(problem), close_code)
        except TimeoutError:
            return self._turned_away(upgrade, "owner_silent", _SILENT, TRY_AGAIN_LATER)
        except BusError as error:
            log.warning("a session's gateway is not known", session=session[:64], error=str(error))
            return self._turned_away(upgrade, "bus_unavailable", _NO_BUS, TRY_AGAIN_LATER)
        if isinstance(found, Comes):
            return self._arriving(upgrade, found, wanted)
        if isinstance(found, Relay):
            limit = self._traffic.max_message_bytes
            return Accept(found, _selected(upgrade), max_message=limit, unused=found.unused)
        return found or await self._unproved(upgrade, None)

    async def _barred(self, upgrade: Upgrade, tenant: str) -> Accept | None:
        """Why one without a token may not observe a session of this tenant; None where it may."""
        try:
            principal = await self._authenticate(upgrade)
        except ProblemError as problem:
            return self._not_known(upgrade, problem)
        if principal.tenant != tenant:
            return self._turned_away(upgrade, "unknown_session", _NO_SESSION, _UNKNOWN_SESSION)
        if not principal.manages:
            return self._turned_away(upgrade, "credentials", _NO_MANAGER, POLICY_VIOLATION)
        return None

    async def _unproved(self, upgrade: Upgrade, tenant: str | None) -> Accept:
        """What a client is told whose token opens nothing. `tenant` is the session's, None where there is none.

        Whether there is the session is for those to know who show that they may talk here: its tenant hears that the
        token is wrong, all others that there is none, and a stranger one thing in both cases.
        """
        try:
            principal = await self._authenticate(upgrade)
        except ProblemError as problem:
            if problem.status != HTTPStatus.UNAUTHORIZED:
                return self._not_known(upgrade, problem)
            return self._turned_away(upgrade, "credentials", _NO_PROOF, POLICY_VIOLATION)
        if tenant is not None and principal.tenant == tenant:
            return self._turned_away(upgrade, "credentials", _BAD_TOKEN, POLICY_VIOLATION)
        return self._turned_away(upgrade, "unknown_session", _NO_SESSION, _UNKNOWN_SESSION)

    def _not_known(self, upgrade: Upgrade, problem: ProblemError) -> Accept:
        close_code = INTERNAL_ERROR if problem.status >= 500 else POLICY_VIOLATION
        code = "credentials" if problem.status == 401 else problem.code
        return self._turned_away(upgrade, code, str(problem), close_code)

    def _turned_away(self, upgrade: Upgrade, code: str, message: str, close_code: int) -> Accept:
        _rejected(code)
        return self._closing(upgrade, code, message, close_code)

    def _closing(self, upgrade: Upgrade, code: str, message: str, close_code: int) -> Accept:
        frame = native.error_frame(self._clock, code=code, message=message)
        return Accept(ClosingListener(frame, close_code, code), _selected(upgrade))

    # --- who asks, and for whom ---------------------------------------------------------------------

    async def _authenticate(self, upgrade: Upgrade) -> Principal:
        try:
            async with asyncio.timeout(DECISION_TIMEOUT_S):
                return await self._access.authenticate(_presented(upgrade))
        except TimeoutError as error:
            raise ProblemError(
                503, "unavailable", "the credential could not be checked in time; try again shortly",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            ) from error  # fmt: skip

    def _agent(self, named: str | None, principal: Principal) -> str | None:
        return principal.agent(self._targets.agents, self._targets.default_agent, named)


def _speaker(face: native.NativeFace, wanted: Wishes, upgrade: Upgrade) -> NativeConnection:
    return NativeConnection(
        face,
        after_seq=wanted.after_seq,
        audio=wanted.audio or "binary",
        raw=wanted.raw,
        token=upgrade.query["token"],
        came_at=upgrade.came_at,
        held_ms=sum(ms for _, ms in wanted.turns),
    )


def _presented(upgrade: Upgrade) -> Presented:
    return Presented(upgrade.headers, asker(upgrade.peer, upgrade.headers.get("x-forwarded-for")))


def _selected(upgrade: Upgrade) -> str | None:
    return _SUBPROTOCOL if _SUBPROTOCOL in upgrade.subprotocols else None


def _refused(code: str | None, message: str, close_code: int, param: str | None = None) -> ClosingListener:
    reason = "invalid_request_error" + (f".{code}" if code else "")
    return ClosingListener(openai.error_frame(code=code, message=message, param=param), close_code, reason)


def _rejected(reason: str) -> None:
    metrics.ADMISSION_REJECTED.labels(reason=reason).inc()


def _problem(problem: ProblemError) -> Refuse:
    response = problem.response()
    kind: Mapping[str, str] = {"Content-Type": "application/problem+json"}
    return Refuse(problem.status, bytes(response.body), {**kind, **problem.headers})
