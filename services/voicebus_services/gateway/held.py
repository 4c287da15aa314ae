"""One session as the gateway that owns it holds it."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from voicebus.adapters.redis.takeover import Left
from voicebus.agents.author import SessionAuthor
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.hooks import HookRunner
from voicebus.agents.local.work import LocalTools
from voicebus.engine.config import Face
from voicebus.engine.inputs import End
from voicebus.engine.keeping import Kept
from voicebus.errors import CommandRefusedError
from voicebus.ports import ModelConnector
from voicebus.runtime.driver import HANGUP
from voicebus.runtime.standby import Standby
from voicebus_services.gateway.bounds import BoundedFace
from voicebus_services.gateway.faces.base import SessionFace

if TYPE_CHECKING:  # of an extra
    from voicebus.adapters.recordings.recorder import SessionRecorder


@dataclass(frozen=True, slots=True)
class JoinedCall:
    """A call that a session joins: the way to it, its model, and what its client has set."""

    connector: ModelConnector
    model: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Inherited:
    """A session that another gateway began: what that one has left, and what the engine goes on from."""

    left: Left
    kept: Kept
    standby: Standby | None = None
    """A model's socket that knows the session."""
    in_hand: frozenset[str] = frozenset()
    """Calls that somebody may run already, who will answer the former owner: they are not sent again."""

    @property
    def given(self) -> Any:
        """The session's context."""
        context = self.left.state.get("context")
        return None if context is None else json.loads(context)

    @property
    def first_agent(self) -> str | None:
        """The agent that the session began with."""
        return self.left.state.get("first_agent")


@dataclass
class Held:
    """One session: who talks, since when, and the task that runs it."""

    id: str
    face: SessionFace
    context: RunContextWrapper[Any]
    author: SessionAuthor
    hooks: HookRunner
    started: float
    """`time.monotonic()`: a wall clock that is set meanwhile would change how long it has lasted."""
    first_agent: str
    seed: tuple[Mapping[str, Any], ...] = ()
    call: JoinedCall | None = None
    inherited: Inherited | None = None
    tools: LocalTools | None = None
    bounded: BoundedFace | None = None
    recorder: "SessionRecorder | None" = None
    epoch: int = 0
    driven: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    leaving: str = HANGUP
    unfit: str | None = None
    """Why its context is none."""
    refused: CommandRefusedError | None = None
    """Why its agent could not begin, which trying again would not change."""
    is_lost: bool = False
    """Another gateway owns it now."""
    wanted: list[asyncio.Future[None]] = field(default_factory=list)
    """Gateways that are ready to go on with it, and wait until they may."""
    invited_at: float | None = None
    """When its client was first asked to go to another gateway (loop's time), and when it was last."""
    asked_at: float = float("-inf")

    @property
    def tenant(self) -> str:
        return self.face.principal.tenant

    async def until(self, event: asyncio.Event) -> bool:
        """Wait until this has happened, or its task has ended: whether it has happened."""
        happened = asyncio.create_task(event.wait(), name=f"until-{self.id}")
        try:
            if self.task is not None:
                await asyncio.wait({happened, self.task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            happened.cancel()
        return event.is_set()

    def stop(self, reason: str) -> None:
        """End the conversation, also one whose model is being dialled; nothing to do where it has ended."""
        driver = self.face.driver
        if driver is not None and driver.live:
            driver.feed(End(reason))
        elif self.task is not None and (driver is None or not driver.ended):
            self.leaving = reason
            if driver is not None:
                driver.leaving = reason
            self.task.cancel()

    @property
    def can_move(self) -> bool:
        """Whether another gateway can go on with it: what that one needs is kept."""
        driver = self.face.driver
        return self.face.kind is not Face.OPENAI and driver is not None and driver.live

    @property
    def at_rest(self) -> bool:
        """Whether this is a moment to give it up."""
        return self.face.driver is not None and self.face.driver.at_rest

    def release(self, reason: str) -> None:
        """Give it up for another gateway, with the last that is written; its clients are told after that."""
        driver = self.face.driver
        if driver is not None and driver.live:
            self.is_lost = self.face.is_lost = True
            self.leaving = reason
            driver.note({"released": "1", "status": "idle"})
            driver.relinquish(reason)

    def yielded(self) -> None:
        """All of it is written: whoever waits may take it."""
        for waiting in self.wanted:
            if not waiting.done():
                waiting.set_result(None)

    def lose(self, reason: str) -> None:
        """Another gateway has taken it: say and record nothing more."""
        self.is_lost = self.face.is_lost = True
        self.leaving = reason
        driver = self.face.driver
        if driver is not None:
            driver.relinquish(reason)
        elif self.task is not None:
            self.task.cancel()
