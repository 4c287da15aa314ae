"""What a session's driver stands between: the engine above, the client on one side, the ports of the bus below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from voicebus.contracts.envelope import Message
from voicebus.contracts.journal import EventType
from voicebus.engine.config import AgentSpec
from voicebus.engine.inputs import CallVetted, Input
from voicebus.engine.outputs import ForwardAudio, MergeContext, Output, ResolveAgent, StopModel, VetCall, WordToolError
from voicebus.engine.state import State
from voicebus.ports import Clock, GuardrailDispatch, Inbox, Journal, ToolDispatch
from voicebus.runtime.frames import AudioDelta, TextDelta
from voicebus.runtime.placing import Frame


class Engine(Protocol):
    """What is driven: `voicebus.engine.session.Session`."""

    state: State

    @property
    def agent(self) -> AgentSpec:
        """The agent now in charge."""
        ...

    @property
    def history(self) -> list[dict[str, Any]]:
        """The conversation's items now, as the native face shows them."""
        ...

    @property
    def formats(self) -> Mapping[str, Mapping[str, Any]]:
        """The formats of the client's audio now: `input` and `output`."""
        ...

    def start(self) -> Sequence[Output]: ...

    def handle(self, event: Input, now: float) -> Sequence[Output]: ...

    def carry_on(
        self, response_id: str, item_id: str, content_index: int, size: int, now: float
    ) -> ForwardAudio | None:
        """The one output of a `ModelAudio` about which nothing is to be decided; None where `handle` has to."""
        ...

    def say_on(
        self, kind: str, response_id: str, item_id: str, content_index: int, delta: str, now: float
    ) -> Sequence[Output] | None:
        """The outputs of a `ModelEvent` that says more of what is being said; None where `handle` has to."""
        ...

    def at_rest(self, now: float) -> bool:
        """Whether nothing is said, heard, asked for or run."""
        ...

    def awaits_decision(self, call_id: str) -> bool:
        """Whether this call waits to be approved or rejected."""
        ...


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


class Author(Protocol):
    """The program's side of a session: its callbacks, run in the owner's process. Any of them may raise anything."""

    async def resolve(self, ask: ResolveAgent) -> AgentSpec:
        """Run the handoff's `on_handoff` and resolve its agent."""
        ...

    async def take_over(self, name: str) -> AgentSpec:
        """Resolve the deployed agent of this name.

        Raises:
            CommandRefusedError: `unknown_agent`, there is none.
        """
        ...

    async def vet(self, ask: VetCall) -> CallVetted:
        """Whether a call may run: its condition, its approval policy, its input guardrails."""
        ...

    def merge_context(self, merge: MergeContext) -> Sequence[tuple[str, str]]:
        """Make a tool's changes to the session's context; codes and sentences of what was refused."""
        ...

    def unsaved_context(self) -> str | None:
        """The context as JSON text, where it has changed since this was last asked."""
        ...

    async def word_error(self, ask: WordToolError) -> str:
        """What the model is told of a tool's error."""
        ...


class ModelTap(Protocol):
    """Who reads along with the model, beside the engine: the in-process session, for its raw events."""

    def heard(self, item: Input, delta: AudioDelta | None, size: int) -> None:
        """The engine has decided about `item`, which takes about `size` bytes (0: it came from nobody's socket),
        and nothing of that has been performed. What is held back is not told before it may be known.

        `delta` is the audio of a `ModelAudio`.
        """
        ...

    def sounded(self, where: ForwardAudio, delta: AudioDelta, size: int, seq: int) -> bool:
        """More of what is being said, of which nothing comes but its sound, which goes to the program by this call.

        False where it is to be `heard` and shown as any other item.
        """
        ...

    def said(self, delta: TextDelta, text: str, size: int, seq: int) -> bool:
        """More of what is being said, of which a `transcript_delta` comes, which goes to the program by this call.

        `text` is all of the item so far. False as of `sounded`.
        """
        ...

    def settled(self) -> None:
        """Everything that the engine decided about the last item, or at its start, has been performed."""
        ...


class CallRecorder(Protocol):
    """Who records the sound of a call. Called on the event loop; must not block, and never fails."""

    def hear(self, frame: Frame) -> None:
        """The caller has said something; it is placed in time."""
        ...

    def consent(self, given: bool) -> None:
        """The caller agrees to be recorded from now on, or does not."""
        ...

    def cut(self, item_id: str, content_index: int, heard_ms: float) -> None:
        """Only so much of a part of the agent's was heard."""
        ...

    def hold(self, held: bool) -> None:
        """Nobody listens from now on, or somebody does again."""
        ...


@runtime_checkable
class StoppableLink(Protocol):
    """The link of a model that stops by itself what it says (transport EVENTS)."""

    def stop(self, stop: StopModel) -> None: ...


@dataclass(frozen=True, slots=True)
class Bus:
    """The ports that a session works through."""

    clock: Clock
    tools: ToolDispatch
    guardrails: GuardrailDispatch
    journal: Journal
    inbox: Inbox
