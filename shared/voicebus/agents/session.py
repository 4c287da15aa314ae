"""`RealtimeSession`: one conversation in the program's own process, driven by the engine that a gateway drives."""

import asyncio
import reprlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, Self

import pybase64
from ulid_transform import ulid_now

from voicebus.agents import checking
from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.config import RealtimeRunConfig, RealtimeUserInput, check_run_config
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.error_details import RealtimeErrorDetails
from voicebus.agents.events import RealtimeError, RealtimeEventInfo, RealtimeSessionEvent
from voicebus.agents.items import RealtimeItem
from voicebus.agents.local.broadcast import Broadcast
from voicebus.agents.local.conversation import Beginning, Conversation
from voicebus.agents.local.face import read_items
from voicebus.agents.models.events import RealtimeModelEvent
from voicebus.agents.models.model import RealtimeModel, RealtimeModelConfig, RealtimeModelListener
from voicebus.agents.models.openai import reads_options
from voicebus.agents.models.options import check_options
from voicebus.agents.models.sends import RealtimeModelSendAudio
from voicebus.agents.saying import audio_samples, check_decision, image_content, message_content
from voicebus.agents.usage import Usage
from voicebus.engine.inputs import (
    Approve,
    CommitAudio,
    Input,
    Interrupt,
    Reject,
    ReplaceHistory,
    SendMessage,
    UpdateAgent,
)
from voicebus.errors import NotConnectedError, UserError
from voicebus.runtime.frames import append_frame
from voicebus.telemetry.logging import get_logger
from voicebus.utf8 import sendable

log: Final = get_logger(__name__)

_MODEL_METHODS: Final = ("connect", "add_listener", "remove_listener", "send_event", "close")

HistoryUpdate = Sequence[RealtimeItem | Mapping[str, Any]] | Callable[[list[RealtimeItem]], Sequence[Any]]


class RealtimeSession(RealtimeModelListener):
    """A conversation of one user with `agent` over `model`. Enter it, speak, iterate over its events, leave it.

        async with await RealtimeRunner(agent).run() as session:
            await session.send_message("Hello")
            async for event in session: ...

    `context` is given to every callback, wrapped. `history` are items to begin with. Several loops may iterate at
    once: each sees every event. What is not read is kept up to a bound; an `error` event tells of what was dropped.

    Raises:
        UserError: an argument cannot be; the text names it.
    """

    def __init__(
        self,
        model: RealtimeModel,
        agent: RealtimeAgent[Any],
        context: Any = None,
        model_config: RealtimeModelConfig | None = None,
        run_config: RealtimeRunConfig | None = None,
        *,
        history: Sequence[RealtimeItem | Mapping[str, Any]] = (),
    ) -> None:
        lacking = [name for name in _MODEL_METHODS if not callable(getattr(model, name, None))]
        if lacking:
            raise UserError(f"model must be a RealtimeModel; {model!r} has no {', '.join(lacking)}")
        if not isinstance(agent, RealtimeAgent):
            raise UserError(f"agent must be a RealtimeAgent, not {reprlib.repr(agent)}")
        checking.mapping("RealtimeSession", "run_config", run_config, optional=True)
        check_run_config(run_config or {})
        checking.mapping("RealtimeSession", "model_config", model_config, optional=True)
        if model_config and reads_options(model):
            check_options(model_config)
        self._context: RunContextWrapper[Any] = RunContextWrapper(context)
        self._beginning = Beginning(
            session=ulid_now(),
            model=model,
            agent=agent,
            context=self._context,
            model_config=model_config or {},
            run_config=run_config or {},
            history=_items(history),
        )
        self._broadcast = Broadcast(dropped=self._dropped)
        self._conversation: Conversation | None = None
        self._entered = False
        self._closing: asyncio.Task[None] | None = None
        self._muted = False
        self._closed = False

    # --- what there is to know ------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The session's own id."""
        return self._beginning.session

    @property
    def model(self) -> RealtimeModel:
        """The model, to add listeners to or to send raw messages with."""
        return self._beginning.model

    @property
    def model_session_id(self) -> str | None:
        """The id that the model's server gave its session; None before it did, and for custom models."""
        return None if self._conversation is None else self._conversation.face.model_session_id

    @property
    def context(self) -> RunContextWrapper[Any]:
        """What callbacks are given."""
        return self._context

    @property
    def usage(self) -> Usage:
        """What the model has used so far."""
        return self._context.usage

    @property
    def current_agent(self) -> RealtimeAgent[Any]:
        """The agent in charge."""
        return self._beginning.agent if self._conversation is None else self._conversation.showing.current

    @property
    def history(self) -> list[RealtimeItem]:
        """The conversation's items, as they are now."""
        if self._conversation is None:
            return read_items(self._beginning.history)
        return self._conversation.face.items(self._conversation.history)

    @property
    def records(self) -> list[dict[str, Any]]:
        """What a cluster would have recorded: the last 10,000 events of the contract's journal, as JSON."""
        return [] if self._conversation is None else self._conversation.journal.records()

    @property
    def closed(self) -> bool:
        """Whether the session was closed."""
        return self._closed

    @property
    def muted(self) -> bool:
        """Whether audio that is sent is dropped."""
        return self._muted

    # --- entering and leaving -------------------------------------------------------------------------

    async def enter(self) -> Self:
        """Connect the model and tell it about the agent. A session that could not be entered may be tried again.

        Raises:
            NotConnectedError: the session was entered before.
            UserError: agent, settings or options cannot be; nothing was dialled.
            ModelLinkError: the model cannot be reached or refused.
            AssertionError: the model is connected already.
        """
        if self._entered:
            raise NotConnectedError("this session was entered before; ask the runner for another one")
        self._entered = True
        try:
            conversation = await Conversation.prepare(self._beginning, self._broadcast)
            self._conversation = conversation
            self._listen(conversation, to=True)
            await conversation.connect(self._beginning.model_config, self)
        except BaseException:  # also where it is cancelled: nothing was entered then
            if self._conversation is not None:
                self._listen(self._conversation, to=False)
            self._conversation = None
            self._entered = False
            raise
        return self

    async def __aenter__(self) -> Self:
        return await self.enter()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the conversation: tools and guardrails are stopped, the model is closed, loops over events end.

        May be called often, by several tasks at once, and by the session's own tools, guardrails and hooks.

        Raises:
            Exception: what a custom model's `close` raised. Call it again to try again.
        """
        conversation = self._conversation
        if conversation is None:
            self._entered = self._closed = True
            self._broadcast.end()
            return
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(conversation), name=f"close-{self.id}")
        if not conversation.hooks.runs_here():  # a hook must not wait for its own end
            await asyncio.shield(self._closing)

    async def _close(self, conversation: Conversation) -> None:
        self._listen(conversation, to=False)
        try:
            await conversation.aclose()
        except BaseException:  # also where it is cancelled: it may be closed again
            self._closing = None
            raise
        self._closed = True

    def __aiter__(self) -> AsyncIterator[RealtimeSessionEvent]:
        """Events from where the last loop stopped. Ends with the session, after the events that came before.

        Raises:
            ModelLinkError: the model's connection was lost.
        """
        if not self._entered:
            # Nothing is wrong with a loop that begins first, but one whose session is never entered waits for ever.
            log.warning("a loop waits for a session that is not open: use `async with session:`", session=self.id)
        return aiter(self._broadcast)

    # --- speaking -------------------------------------------------------------------------------------

    async def send_message(
        self, message: RealtimeUserInput, *, other_event_data: Mapping[str, Any] | None = None
    ) -> None:
        """Say something for the user, text or a message of texts and images, and have it answered.

        `other_event_data` are further fields of the protocol's event, such as `previous_item_id`.

        Raises:
            UserError: the message is none.
            NotConnectedError: the session is not open.
        """
        content = message_content(message)
        checking.mapping("send_message", "other_event_data", other_event_data, optional=True)
        await self._say(SendMessage(content, extra=dict(other_event_data or {})), user_input=message)

    async def add_image(self, image: str, *, trigger_response: bool = True) -> None:
        """Show an image, a `data:` or `https:` address; without `trigger_response` the model only takes note.

        Raises:
            UserError: it is no such address.
            NotConnectedError: the session is not open.
        """
        checking.flag("add_image", "trigger_response", trigger_response)
        await self._say(SendMessage(image_content(image), respond=trigger_response))

    async def send_audio(self, audio: bytes, *, commit: bool = False) -> None:
        """Send samples in the session's input format; `commit` ends a turn where the model does not detect that itself.

        Raises:
            UserError: `audio` is no bytes.
            NotConnectedError: the session is not open.
        """
        samples = audio_samples(audio)
        checking.flag("send_audio", "commit", commit)
        conversation = self._open()
        if self._muted:
            samples = b""
        if conversation.bridge is not None:
            if samples or commit:
                await conversation.bridge.tell(RealtimeModelSendAudio(samples, commit))
            return
        if samples:
            conversation.driver.send_audio(append_frame(pybase64.b64encode_as_string(samples)))
        if commit:
            conversation.feed(CommitAudio(respond=False))

    def mute(self, muted: bool = True) -> None:
        """Drop audio that is sent from now on, or, with False, send it again."""
        checking.flag("mute", "muted", muted)
        self._muted = muted

    async def interrupt(self) -> None:
        """Stop what the agent is saying; what was not heard of it is cut off. Nothing where the session is not open."""
        if self._conversation is not None and not self._is_over(self._conversation):
            await self._say(Interrupt())

    # --- steering -------------------------------------------------------------------------------------

    async def update_agent(self, agent: RealtimeAgent[Any]) -> None:
        """Put another agent in charge; no event tells of it. The one before stays where this one cannot be.

        Raises:
            UserError: the agent cannot be honoured.
            NotConnectedError: the session is not open.
        """
        conversation = self._open()
        spec = await conversation.author.update(agent)
        conversation = self._open()
        conversation.showing.current = agent
        await self._say(UpdateAgent(spec))

    async def update_history(self, history: HistoryUpdate) -> None:
        """Make the conversation's items those of `history`, or those that it returns for the present ones.

        Items that are gone are deleted at the model, new and changed ones are created.

        Raises:
            UserError: these are no items.
            NotConnectedError: the session is not open.
        """
        self._open()
        items = history(self.history) if callable(history) else history
        await self._say(ReplaceHistory(_items(items)))

    async def approve_tool_call(self, call_id: str, *, always: bool = False) -> None:
        """Let a call run that waits for approval; `always`: and every further one of its tool, unasked.

        Does nothing for a call that does not wait.

        Raises:
            UserError: an argument has the wrong type.
        """
        check_decision("approve_tool_call", call_id, always)
        await self._decide(Approve(call_id, always))

    async def reject_tool_call(
        self, call_id: str, *, always: bool = False, rejection_message: str | None = None
    ) -> None:
        """Refuse a call that waits for approval; `rejection_message` is what the model is told of it.

        Does nothing for a call that does not wait.

        Raises:
            UserError: an argument has the wrong type.
        """
        check_decision("reject_tool_call", call_id, always, rejection_message)
        await self._decide(Reject(call_id, always, rejection_message))

    # --- RealtimeModelListener ------------------------------------------------------------------------

    async def on_event(self, event: RealtimeModelEvent) -> None:
        """What a custom model says. A session of a program's own class that hears events itself hears any model's."""
        conversation = self._conversation
        if conversation is not None and conversation.bridge is not None:
            await conversation.bridge.on_event(event)

    # --- inside ---------------------------------------------------------------------------------------

    def _listen(self, conversation: Conversation, *, to: bool) -> None:
        """A session of a class that hears by itself is a listener of a model of ours, which needs none."""
        if conversation.bridge is None and type(self).on_event is not RealtimeSession.on_event:
            model = self._beginning.model
            (model.add_listener if to else model.remove_listener)(self)

    def _open(self) -> Conversation:
        if self._conversation is None:
            raise NotConnectedError("this session is not open: use `async with session:`, or `await session.enter()`")
        if self._is_over(self._conversation):
            raise NotConnectedError("this session has ended; ask the runner for another one")
        return self._conversation

    def _is_over(self, conversation: Conversation) -> bool:
        return self._closing is not None or conversation.driver.ended

    async def _say(self, item: Input, *, user_input: RealtimeUserInput | None = None) -> None:
        conversation = self._open()
        if conversation.bridge is not None:
            await conversation.bridge.ask(item, user_input=user_input)
        else:
            conversation.feed(item)

    async def _decide(self, item: Approve | Reject) -> None:
        if self._conversation is not None and self._closing is None and not self._conversation.driver.ended:
            await self._say(item)

    def _dropped(self, count: int) -> RealtimeSessionEvent:
        """For a consumer of a session that was not entered; its face tells it later."""
        return RealtimeError(RealtimeErrorDetails(f"{count} events were dropped"), RealtimeEventInfo(self._context))


def _items(history: Any) -> list[Mapping[str, Any]]:
    """Items as JSON."""
    if isinstance(history, str | bytes | Mapping) or not isinstance(history, Sequence):
        raise UserError(f"history must be a list of items, not {type(history).__name__}")
    items = []
    for index, item in enumerate(history):
        plain = item.model_dump(mode="json") if hasattr(item, "model_dump") else item
        if not isinstance(plain, Mapping) or not isinstance(plain.get("item_id"), str):
            raise UserError(f"history[{index}] must be an item with an item_id, not {item!r}")
        items.append(sendable(plain))
    if len(read_items(items)) != len(items):
        raise UserError("history holds something that has no form of an item: a user, assistant or system message")
    return items
