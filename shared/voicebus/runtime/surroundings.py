"""What a session's driver stands between: the engine above, the client on one side, the ports of the bus below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from voicebus.contracts.envelope import Message
from voicebus.contracts.journal import EventType
from voicebus.engine.inputs import Input
from voicebus.engine.outputs import ForwardAudio, Output
from voicebus.engine.state import State
from voicebus.ports import Clock, GuardrailDispatch, Inbox, Journal, ToolDispatch
from voicebus.runtime.frames import AudioDelta


class Engine(Protocol):
    """What is driven: `voicebus.engine.session.Session`."""

    state: State

    def start(self) -> Sequence[Output]: ...

    def handle(self, event: Input, now: float) -> Sequence[Output]: ...


class ClientFace(Protocol):
    """Who listens to a session. Called on the event loop; must not block, may call `SessionDriver.feed`."""

    def ready(self) -> None:
        """The session is configured: what the client sent so far can be passed on, in order, and so from now on."""
        ...

    def record(self, seq: int, kind: EventType, at_ms: int, data: Message) -> None: ...

    def emit(self, kind: str, seq: int, at_ms: int, data: Mapping[str, Any]) -> None:
        """An event that is not recorded; `seq` is the last recorded one's."""
        ...

    def server_event(self, event: Mapping[str, Any]) -> None:
        """A server event for a client of the OpenAI face, complete but for `event_id`."""
        ...

    def audio(self, where: ForwardAudio, delta: AudioDelta, seq: int) -> None: ...

    def close(self, code: int, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Bus:
    """The ports that a session works through."""

    clock: Clock
    tools: ToolDispatch
    guardrails: GuardrailDispatch
    journal: Journal
    inbox: Inbox
