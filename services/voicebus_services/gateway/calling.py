"""WebRTC calls: made at the model's provider with an agent's settings, and joined by a session of this gateway."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

from voicebus.adapters.openai_calls import Call, OpenAICalls
from voicebus.adapters.redis.gateway_calls import GatewayCalls
from voicebus.adapters.redis.takeover import Left
from voicebus.agents.author import SessionAuthor
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.targets import Targets
from voicebus.engine.config import AgentSpec
from voicebus.engine.offering import wire_tools
from voicebus.engine.settings import merge
from voicebus.errors import ModelCallError, RemoteError, UserError
from voicebus.ports import ModelConnector
from voicebus.telemetry.logging import get_logger
from voicebus_services.access.principal import Principal
from voicebus_services.gateway.faces.sideband import SidebandFace
from voicebus_services.gateway.held import JoinedCall
from voicebus_services.gateway.remembering import recalled
from voicebus_services.gateway.sessions import Registered, Sessions
from voicebus_services.gateway.starting import cannot_begin
from voicebus_services.http import ProblemError
from voicebus_services.settings import GatewaySettings

log = get_logger(__name__)

T = TypeVar("T")

JOIN_TIMEOUT_S: Final = 15.0
"""How long the session may take to join its call and to be configured."""

# What clients send of the session object without meaning anything by it.
_EMPTY: Final[Mapping[str, Any]] = {"type": "realtime", "instructions": "", "tools": [], "tracing": "auto"}


class Calling:
    """Makes calls, each of which is a session of `sessions` under the provider's id of it."""

    def __init__(
        self,
        settings: GatewaySettings,
        targets: Targets,
        sessions: Sessions,
        provider: OpenAICalls,
        *,
        joining: Callable[[str], ModelConnector],
        registered: Registered,
        calls: GatewayCalls,
    ) -> None:
        self._settings = settings
        self._targets = targets
        self._sessions = sessions
        self._joining = joining
        self._provider = provider
        self._registered = registered
        self._calls = calls
        # Calls that are being made or given up: they are finished whatever becomes of the requests for them.
        self._placing: set[asyncio.Task[Any]] = set()

    async def aclose(self) -> None:
        """Wait until no call is being made: what the provider makes now is hung up, as no session begins any more."""
        while self._placing:
            await asyncio.wait(self._placing)

    async def create(
        self,
        principal: Principal,
        offer: bytes,
        *,
        agent: str,
        wanted: Mapping[str, Any],
        traceparent: str | None = None,
    ) -> Call:
        """Pass an SDP offer on with the settings of `agent`, and join the call; `wanted` is the client's wish,
        beside what its secret was made with.

        Raises:
            ProblemError: there is no room (429, 503), the agent cannot be served so or the client may not set this
                (422), or the provider did not make the call (422, 502, 503, 504).
        """
        wanted = merge(principal.session, wanted)
        async with self._sessions.admitted(principal) as ticket:
            session, settings = await self._session(agent, wanted)
            making = self._spawn("call-create", self._provider.create(offer, session))
            try:
                call = await asyncio.shield(making)
            except ModelCallError as error:
                log.warning("a call was not made", agent=agent, error=str(error))
                raise _problem(error) from error
            except asyncio.CancelledError:
                # Its request has ended; the provider's answer is still to come.
                self._spawn("call-give-up", self._give_up(making))
                raise
            face = SidebandFace(
                self._sessions, principal, agent=agent, hang_up=lambda: self._end(call.id), traceparent=traceparent
            )
            self._calls.note(call.id)
            face.ticket = ticket
            try:
                task = self._sessions.join(
                    face, call.id, self._joining(call.id), model=session["model"], settings=settings
                )
            except ProblemError:
                await asyncio.shield(self._spawn("call-give-up", self._hang_up(call.id)))
                raise
        await self._joined(face, task)
        return call

    def abandon(self, call: Call) -> None:
        """Whoever made this call will not hear of it."""
        face = self._sessions.find(call.id)
        if face is not None:
            self._sessions.hung_up(face)

    def adopted(self, left: Left) -> tuple[SidebandFace, JoinedCall]:
        """A call that another gateway was on, to go on with here."""
        call_id, state = left.session, left.state
        face = SidebandFace(
            self._sessions,
            recalled(state.get("principal", "")),
            agent=state["agent"],
            hang_up=lambda: self._end(call_id),
        )
        face.inherit(call_id, int(state["seq"]))
        settings = json.loads(state.get("call") or "{}")
        return face, JoinedCall(self._joining(call_id), state["model"], settings)

    async def _end(self, call_id: str) -> None:
        self._calls.remove(call_id)
        await self._hang_up(call_id)

    async def _joined(self, face: SidebandFace, task: asyncio.Task[None]) -> None:
        up = asyncio.create_task(face.up.wait(), name=f"join-{face.session}")
        try:
            await asyncio.wait({up, task}, timeout=JOIN_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._sessions.hung_up(face)
            raise
        finally:
            up.cancel()
        if face.up.is_set() and not task.done():
            return
        self._sessions.hung_up(face)
        raise ProblemError(502, "model_error", "the call was made but cannot be served, so it was hung up; try again")

    async def _session(self, agent: str, wanted: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The session object that the provider gets: the agent's, with what the client may set of its own.

        Also the latter alone.
        """
        run_config = self._targets.configs[agent]
        author = SessionAuthor(
            context=RunContextWrapper(None),
            run_config=run_config,
            model_config={"call_id": "to come"},
            session="to come",
            tool_timeout_s=self._settings.tool_timeout.total_seconds(),
            registered=self._registered,
            in_process=False,
        )
        try:
            spec = await author.begin(self._targets.agents[agent])
            model = author.settings(spec.snapshot).get("model_name") or self._settings.model_name
        except UserError as error:
            raise ProblemError(422, "agent_not_for_calls", f"agent {agent!r} cannot serve calls: {error}") from error
        except RemoteError:
            raise
        except Exception as error:  # an author's functions may raise anything
            log.exception("an agent cannot begin a session", agent=agent)
            raise ProblemError(500, "agent_failed", cannot_begin(agent, error)) from error
        finally:
            await author.aclose()
        wanted = spec.client.heeded(wanted)
        _check(wanted, spec)
        settings = _patch(wanted)
        session = {"type": "realtime", "model": model, **spec.session, "tools": wire_tools(spec)}
        session.pop("tracing", None)
        if spec.instructions is not None:
            session["instructions"] = spec.instructions
        return merge(session, settings), settings

    def _spawn(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=name)
        self._placing.add(task)
        task.add_done_callback(self._placing.discard)
        return task

    async def _give_up(self, making: "asyncio.Task[Call]") -> None:
        try:
            call = await making
        except ModelCallError:
            return
        await self._hang_up(call.id)

    async def _hang_up(self, call_id: str) -> None:
        try:
            await self._provider.hang_up(call_id)
        except ModelCallError as error:
            log.warning("a call may go on without its session", session=call_id, error=str(error))


def _patch(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What of the client's session object is a wish."""
    return {key: value for key, value in wanted.items() if key not in _EMPTY and key != "model"}


def _check(wanted: Mapping[str, Any], agent: AgentSpec) -> None:
    """Raises `ProblemError` where the client's session object has what is not the client's to set."""
    for key, value in wanted.items():
        if key == "model" or (key in _EMPTY and value in (None, _EMPTY[key])):
            continue
        if key in _EMPTY or not _may_set(agent, key, value):
            raise ProblemError(
                403, "forbidden_parameter", f"session.{key}: agent {agent.name!r} does not let clients set this"
            )


def _may_set(agent: AgentSpec, path: str, value: Any) -> bool:
    if agent.client.allows(path):
        return True
    if not isinstance(value, Mapping) or not any(allowed.startswith(f"{path}.") for allowed in agent.client.may_set):
        return False
    return all(_may_set(agent, f"{path}.{key}", part) for key, part in value.items())


def _problem(error: ModelCallError) -> ProblemError:
    """What the client is told of a refusal: what concerns its offer, and nothing of addresses and credentials."""
    status = error.status
    if status in (400, 415, 422):
        why = str(error).partition("): ")[2] or "it gave no reason"
        return ProblemError(422, "call_refused", f"the model's provider refused the offer or its settings: {why}")
    if status == 429 or status == 503:
        return ProblemError(
            503, "model_busy", "the model's provider takes no more calls now; try again", headers={"Retry-After": "5"}
        )
    if error.code == "timeout":
        return ProblemError(504, "model_timeout", "the model's provider did not answer in time; try again")
    return ProblemError(
        502, "model_error", "the model's provider did not make the call; the gateway's log has the cause"
    )
