"""What runs one session: its configuration, its engine and its driver, whether it begins here or goes on."""

import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from voicebus.adapters.redis.journal import RedisJournal
from voicebus.agents.local.remote import Along, LocalOrRemote, RemoteChecks
from voicebus.agents.local.work import LocalTools
from voicebus.agents.targets import Targets
from voicebus.engine.client_view import OpenAIClientView
from voicebus.engine.config import AgentSpec, Face, Recovering, SessionConfig, ToolSpec
from voicebus.engine.inputs import Input
from voicebus.engine.keeping import Kept
from voicebus.engine.session import Session
from voicebus.engine.settings import merge
from voicebus.errors import CommandRefusedError, RemoteError, UserError
from voicebus.ports import SessionRef
from voicebus.runtime.driver import SessionDriver
from voicebus.runtime.placing import Placing
from voicebus.runtime.surroundings import Bus, ClientFace
from voicebus.telemetry import zeroed
from voicebus_services.access.principal import Limits
from voicebus_services.gateway.bounds import BoundedFace, Bounds, Spent
from voicebus_services.gateway.held import Held
from voicebus_services.gateway.hooked import HookedFace
from voicebus_services.gateway.models import Models
from voicebus_services.gateway.remembering import digest, remembered
from voicebus_services.gateway.tracing import TRACEPARENT
from voicebus_services.settings import GatewaySettings

if TYPE_CHECKING:  # of an extra
    from voicebus_services.gateway.recording import Recording


class Starting:
    """Makes the drivers of a gateway's sessions."""

    def __init__(
        self,
        settings: GatewaySettings,
        targets: Targets,
        bus: Bus,
        journal: RedisJournal,
        models: Mapping[str, Models],
        recording: "Recording | None" = None,
    ) -> None:
        self._settings = settings
        self._targets = targets
        self._bus = bus
        self._journal = journal
        self._models = models
        self._recording = recording

    async def configure(self, held: Held) -> SessionConfig:
        """How the session begins, or goes on.

        Raises:
            CommandRefusedError: `agent_failed`, the agent that it begins with cannot be honoured, or raised.
            RemoteError: what that agent needs cannot be reached now.
            UserError: the agent in charge of a session that goes on cannot be honoured, or is not deployed here.
        """
        agent = await self._agent(held)
        zeroed.tools(tool.name for tool in agent.tools if isinstance(tool, ToolSpec))
        if held.call is not None:
            agent = dataclasses.replace(agent, session=merge(agent.session, held.call.settings))
        run_config = self._targets.configs[held.first_agent]
        models = self._of(held, agent)
        return SessionConfig(
            session=held.id,
            face=held.face.kind,
            agent=agent,
            tenant=held.tenant,
            model=models[0],
            guardrail_timeout_ms=round(self._settings.guardrail_timeout.total_seconds() * 1000),
            approval_timeout_ms=round(self._settings.approval_timeout.total_seconds() * 1000),
            raw_events=held.face.raw_events,
            words_errors=run_config.get("tool_error_formatter") is not None,
            inline_tools=not run_config.get("async_tool_calls", True),
            seed=held.seed,
            recovering=Recovering.REPLAY if held.call is None else Recovering.ATTACH,
            models=models if held.call is None else (),
            renewal_ms=round(self._settings.model_renewal_margin.total_seconds() * 1000),
            dead_air_ms=round(self._settings.dead_air_timeout.total_seconds() * 1000),
            keeps=held.face.kind is not Face.OPENAI,
            # A call's own sound goes past us.
            records=self._recording is not None and held.face.kind is not Face.SIDEBAND,
        )

    async def _agent(self, held: Held) -> AgentSpec:
        """The agent in charge.

        Raises as `configure` does.
        """
        if held.inherited is None:
            try:
                return await held.author.begin(self._targets.agents[held.first_agent])
            except RemoteError:
                raise
            except Exception as error:  # the author's functions may raise anything, and would again
                raise CommandRefusedError("agent_failed", cannot_begin(held.first_agent, error)) from error
        name, kept = held.inherited.left.state["agent"], held.inherited.kept
        agent = self._targets.agents.get(name)
        if agent is None:
            raise UserError(f"agent {name!r} of a session that was taken over is not deployed here")
        return await (held.author.begin if kept.work.get("first") else held.author.update)(agent)

    def _of(self, held: Held, agent: AgentSpec) -> tuple[str, ...]:
        """The models that serve the session, in order."""
        if held.call is not None:
            return (held.call.model,)
        wanted = held.face.model if agent.client.allows("model") else None
        wanted = wanted or held.author.settings(agent.snapshot).get("model_name") or self._settings.model_name
        return self._models[held.first_agent].names(wanted)

    async def drive(self, held: Held, config: SessionConfig, traceparent: str) -> SessionDriver:
        """Take ownership of the session, and make what drives it.

        Raises:
            BusError: Redis cannot be reached.
        """
        face = held.face
        state = {
            "tenant": held.tenant,
            "agent": config.agent.name,
            "face": config.face.value,
            "model": config.model,
            "token_hash": digest(face.token),
            "first_agent": held.first_agent,
            TRACEPARENT: traceparent,
            "principal": remembered(face.principal),
            "ticket": "" if face.ticket is None else face.ticket.id,
        }
        if held.call is not None:
            state["call"] = json.dumps(held.call.settings)
        if (shared := held.author.unsaved_context()) is not None:
            state["context"] = shared
        kept: Kept | None = None
        if held.inherited is None:
            epoch = await self._journal.open(held.id, state=state)
        else:
            kept, epoch = await self.kept(held), held.inherited.left.epoch
            self._journal.adopt(held.id, held.inherited.left.state)
        held.epoch = epoch

        def feed(event: Input) -> None:
            if face.driver is not None:
                face.driver.feed(event)

        held.tools = LocalTools(held.author, held.context, held.id, feed)
        along = Along(held.author.shared, (held.tenant, face.principal.key_id), feed)
        bus = dataclasses.replace(
            self._bus,
            tools=LocalOrRemote(
                held.tools,
                self._bus.tools,
                along,
                after=self._journal.after,
                in_hand=frozenset() if held.inherited is None else held.inherited.in_hand,
            ),
            guardrails=RemoteChecks(self._bus.guardrails, along),
        )
        view = OpenAIClientView(config) if config.face is Face.OPENAI else None
        standby = None if held.inherited is None else held.inherited.standby
        if standby is not None and not standby.serves:
            standby = None
        rehearsal = None if standby is None else standby.rehearsal
        now = self._bus.clock.monotonic()
        engine = Session(config, now=now, view=view, kept=kept, rehearsal=rehearsal)
        placing = Placing(now - (0.0 if kept is None else kept.elapsed_s), since=now)
        if kept is not None:  # the client says again what the former owner may have heard
            placing.back()
        heard: ClientFace = face
        if self._recording is not None and config.records and self._recording.allows(held.tenant):
            held.recorder = self._recording.recorder(held, placing, epoch=epoch)
            heard = self._recording.listening(face, held.recorder, lambda: engine.formats)

        def note(tokens: int) -> None:
            if face.driver is not None:
                face.driver.note({"tokens": str(tokens)})

        held.bounded = BoundedFace(
            heard, self._bounds(face.principal.limits), feed, face.signs_of_life, spent=_spent(held, kept), note=note
        )
        told = HookedFace(held.bounded, held.hooks, held.author, held.context)
        face.driver = SessionDriver(
            engine,
            config,
            SessionRef(held.id, epoch, traceparent),
            bus,
            told,
            author=held.author,
            recorder=held.recorder,
            placing=placing,
        )
        face.driver.last_seq = 0 if kept is None else kept.seq
        if standby is not None:
            face.driver.stand_in(standby)
        return face.driver

    async def kept(self, held: Held) -> Kept:
        """What is inherited, with the agents that the calls without an answer were made for."""
        if held.inherited is None:
            raise RuntimeError("the session began here")
        kept = held.inherited.kept
        names = {row[1] for row in kept.work.get("batches", ())} | {row[4] for row in kept.work.get("calls", ())}
        names -= {held.inherited.left.state["agent"]}
        found = {name: self._targets.agents[name] for name in names if name in self._targets.agents}
        return dataclasses.replace(kept, agents={name: await held.author.update(found[name]) for name in found})

    def _bounds(self, limits: Limits) -> Bounds:
        settings = self._settings
        return Bounds(
            length_s=limits.session_length or settings.max_session_length.total_seconds(),
            idle_s=limits.idle_time or settings.max_idle_time.total_seconds(),
            tokens=limits.session_tokens or settings.max_session_tokens,
        )


def cannot_begin(agent: str, error: Exception) -> str:
    """What clients are told of an agent whose author's functions raised `error`: nothing of its text."""
    return f"agent {agent!r} cannot begin a session ({type(error).__name__}); the gateway's log has the cause"


def _spent(held: Held, kept: Kept | None) -> Spent:
    """What the session has used with its former owners."""
    if held.inherited is None or kept is None:
        return Spent()
    running = frozenset(row[0] for row in kept.work.get("calls", ()))
    return Spent(kept.elapsed_s, int(held.inherited.left.state.get("tokens") or 0), running)
