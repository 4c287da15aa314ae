"""One conversation in the program's own process: engine, driver, ports and face, put together, begun and ended."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.author import SessionAuthor
from voicebus.agents.config import RealtimeRunConfig
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.events import RealtimeEventInfo
from voicebus.agents.hooks import HookRunner
from voicebus.agents.local.bridge import ModelBridge
from voicebus.agents.local.broadcast import Broadcast
from voicebus.agents.local.face import EventFace
from voicebus.agents.local.ports import LocalClock, LocalJournal, NoInbox
from voicebus.agents.local.showing import Showing
from voicebus.agents.local.tap import WireTap
from voicebus.agents.local.work import LocalChecks, LocalTools
from voicebus.agents.model_settings import DEFAULT_MODEL
from voicebus.agents.models.fallbacks import RealtimeModelFallback
from voicebus.agents.models.model import RealtimeModel, RealtimeModelConfig, RealtimeModelListener
from voicebus.agents.models.openai import OpenAIRealtimeWebSocketModel, is_plain, models_of
from voicebus.engine.config import Face, Recovering, SessionConfig, Transport
from voicebus.engine.inputs import End, Input, Trouble
from voicebus.engine.session import Session
from voicebus.engine.state import State
from voicebus.errors import UserError
from voicebus.ports import SessionRef
from voicebus.runtime.driver import SessionDriver
from voicebus.runtime.jobs import CLEAN_UP_S
from voicebus.runtime.surroundings import Bus
from voicebus.telemetry import tracing
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

TOOL_TIMEOUT_S: Final = 600.0
"""The limit of a tool in process that names none: long enough for whatever a program waits for, so that a call that
never ends is answered at last."""

CHECK_TIMEOUT_MS: Final = 10_000
"""How long guardrails may judge in process; they may ask models of their own."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a conversation begins with. `history` are items as JSON."""

    session: str
    model: RealtimeModel
    agent: RealtimeAgent[Any]
    context: RunContextWrapper[Any]
    model_config: RealtimeModelConfig
    run_config: RealtimeRunConfig
    history: Sequence[Mapping[str, Any]]


class Conversation:
    """A conversation that has begun. Made by `begin`, ended by `aclose`."""

    def __init__(
        self, beginning: Beginning, author: SessionAuthor, config: SessionConfig, broadcast: Broadcast
    ) -> None:
        self._model = beginning.model
        self._context = beginning.context
        self._broadcast = broadcast
        self._token = beginning.run_config.get("model_token")
        self._fallbacks = _fallbacks(beginning)
        self.author = author
        clock = LocalClock()
        session = config.session
        self.hooks: HookRunner = HookRunner(beginning.run_config.get("hooks"), beginning.context, trouble=self.trouble)
        self.journal: LocalJournal = LocalJournal()
        self._tools = LocalTools(author, beginning.context, session, self.feed)
        self._checks = LocalChecks(author, beginning.context, session, self.feed)
        # One of our own is driven over its link; any other is spoken to in events.
        plain = beginning.model if isinstance(beginning.model, OpenAIRealtimeWebSocketModel) else None
        self._plain = plain if config.transport is Transport.WIRE else None
        self.showing: Showing = Showing(
            author, RealtimeEventInfo(beginning.context), self.hooks, self._tools, self._checks,
            current=beginning.agent, snapshot=config.agent.snapshot,
        )  # fmt: skip
        self.face: EventFace = EventFace(broadcast, self.showing, listeners=self._plain)
        broadcast.dropped = self.face.dropped
        self.bridge: ModelBridge | None = None
        if self._plain is None:
            self.bridge = ModelBridge(
                beginning.model, author, self.face, self.showing, beginning.context,
                agent=config.agent, inline_tools=config.inline_tools,
            )  # fmt: skip
        self._engine = Session(config, now=clock.monotonic())
        self.driver: SessionDriver = SessionDriver(
            self._engine,
            config,
            SessionRef(session, 1, tracing.current()),
            Bus(clock, self._tools, self._checks, self.journal, NoInbox()),
            self.face,
            author=author,
            tap=self.bridge
            or WireTap(
                self.face,
                self.showing,
                beginning.context,
                is_over=lambda: self._engine.state is State.CLOSED,
            ),
        )
        self._task: asyncio.Task[str] | None = None
        self._attached = False
        self._changing = asyncio.Lock()

    @classmethod
    async def prepare(cls, beginning: Beginning, broadcast: Broadcast) -> "Conversation":
        """Resolve the agent; nothing is dialled yet.

        Raises:
            UserError: agent, settings or run config cannot be.
            Exception: what a callback of the author raised.
        """
        if not is_plain(beginning.model):
            for key in ("model_token", "model_fallbacks"):
                if beginning.run_config.get(key):
                    raise UserError(
                        f"run config {key} is for models of our own, and {beginning.model!r} dials by itself"
                    )
        conversation: list[Conversation] = []

        def trouble(code: str, message: str) -> None:
            if conversation:
                conversation[0].trouble(code, message)

        author = SessionAuthor(
            context=beginning.context,
            run_config=beginning.run_config,
            model_config=beginning.model_config,
            session=beginning.session,
            tool_timeout_s=TOOL_TIMEOUT_S,
            in_process=True,
            custom_model=not is_plain(beginning.model),
            trouble=trouble,
        )
        try:
            spec = await author.begin(beginning.agent)
        except BaseException:  # also where it is cancelled: what was opened is closed
            await author.aclose()
            raise
        run_config = beginning.run_config
        plain = is_plain(beginning.model)
        settings = author.settings(spec.snapshot)
        fallbacks = _fallbacks(beginning)
        models = models_of(beginning.model_config, settings, fallbacks) if plain else ()
        config = SessionConfig(
            session=beginning.session,
            face=Face.NATIVE,
            agent=spec,
            model=models[0] if plain else settings.get("model_name") or DEFAULT_MODEL,
            models=models if fallbacks else (),
            guardrail_timeout_ms=CHECK_TIMEOUT_MS,
            transport=Transport.WIRE if plain else Transport.EVENTS,
            words_errors=run_config.get("tool_error_formatter") is not None,
            recovering=Recovering.ATTACH if beginning.model_config.get("call_id") else Recovering.REPLAY,
            inline_tools=not run_config.get("async_tool_calls", True),
            seed=tuple(beginning.history),
            tracked_playback=beginning.model_config.get("playback_tracker") is not None,
        )
        conversation.append(cls(beginning, author, config, broadcast))
        return conversation[0]

    # --- what goes on -------------------------------------------------------------------------------

    def feed(self, event: Input) -> None:
        self.driver.feed(event)

    def trouble(self, code: str, message: str) -> None:
        """Something of the program's own failed; the conversation goes on."""
        self.driver.feed(Trouble(code, message, "tool"))

    @property
    def history(self) -> list[dict[str, Any]]:
        return self._engine.history

    # --- begin and end ------------------------------------------------------------------------------

    async def connect(self, options: RealtimeModelConfig, listener: RealtimeModelListener) -> None:
        """Connect the model and tell it its settings; a custom model has `listener` among its listeners from now on.

        Raises:
            UserError: the options cannot be.
            ModelLinkError: the model cannot be reached or refused.
            AssertionError: the model is connected already.
            Exception: what a custom model's `connect` raised.
        """
        async with self._changing:
            try:
                if self._plain is not None:
                    self._plain.attach(self.driver)
                    self._attached = True
                    await self._dial(self._plain, options)
                elif self.bridge is not None:
                    await self.bridge.open(self.driver, options, listener)
            except BaseException:  # also where it is cancelled: what was opened is closed
                await self._abandon()
                raise
            self._task = asyncio.create_task(self.driver.run(), name=f"conversation-{self.driver.session}")

    async def _dial(self, model: OpenAIRealtimeWebSocketModel, options: RealtimeModelConfig) -> None:
        """Open the first socket and begin. A program is told at once that its only model cannot be reached."""
        if self._token is not None and not options.get("api_key") and options.get("headers") is None:
            options = {**options, "api_key": self._token}
        first = model.connector(options)
        if self._fallbacks:
            await self.driver.begin(first, *(model.connector(options, fallback) for fallback in self._fallbacks))
        else:
            await self.driver.dial(first)
            self.driver.start()

    async def _abandon(self) -> None:
        """Undo a `connect` that failed: whose failure is the one to tell of."""
        try:
            self.driver.feed(End("error"))
            if self.driver.live or self.driver.ended:
                await self.driver.run()
            await self._release()
        except Exception as error:  # noqa: BLE001 - the first failure is raised
            log.warning("what was half connected could not be closed", error=repr(error))

    async def aclose(self) -> None:
        """End the conversation and everything that belongs to it, by one deadline. May be called again if it raised.

        Raises:
            Exception: what a custom model's `close` raised; the rest has ended then.
        """
        # One that is being connected is ended once it is: half a connection can be closed by nobody else.
        async with asyncio.timeout(CLEAN_UP_S):
            await self._changing.acquire()
        try:
            self.driver.feed(End("ended"))
            # Tools first: those that run on could only speak to a session that is over.
            await asyncio.gather(self._tools.aclose(), self._checks.aclose())
            if self._task is not None:
                await asyncio.wait({self._task}, timeout=CLEAN_UP_S + 1)
            await self.hooks.aclose()
            await self._release()
        finally:
            self._changing.release()
        self._broadcast.end()

    async def _release(self) -> None:
        """Let go of the model."""
        await self.author.aclose()
        if self._plain is not None and self._attached:
            self._attached = False
            await self._plain.detach()
        if self.bridge is not None:
            await self.bridge.aclose()


def _fallbacks(beginning: Beginning) -> Sequence[RealtimeModelFallback]:
    """The other models that there are for a conversation; a joined call has none."""
    return () if beginning.model_config.get("call_id") else beginning.run_config.get("model_fallbacks") or ()
