"""`ScriptedRealtimeModel`: a model without a network, which answers what a session sends as a script says."""

import asyncio
import copy
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NotRequired, TypedDict, cast
from urllib.parse import urlsplit, urlunsplit

from voicebus.agents import checking
from voicebus.agents.model_settings import RealtimeSessionModelSettings
from voicebus.agents.models.events import RealtimeModelEvent
from voicebus.agents.models.model import RealtimeModel, RealtimeModelConfig, RealtimeModelListener
from voicebus.agents.models.playback import RealtimePlaybackTracker
from voicebus.agents.models.sends import RealtimeModelSendEvent, RealtimeModelSendSessionUpdate
from voicebus.errors import WrongValueError
from voicebus.testing.scripts import (
    RealtimeScriptError,
    UnconsumedRealtimeSteps,
    UnexpectedRealtimeSend,
    matches,
)

# Objects of the program: in a record they are named, not copied.
_OBJECTS: Final = frozenset({"tools", "handoffs"})


class RealtimeConnectCall(TypedDict):
    """What a model was connected with, without secrets: of the key and of headers only whether there were any, of the
    address neither who signs in nor its query.
    """

    api_key_provided: bool
    headers_provided: bool
    url: NotRequired[str]
    initial_model_settings: NotRequired[RealtimeSessionModelSettings]
    playback_tracker: NotRequired[RealtimePlaybackTracker]
    call_id: NotRequired[str]


@dataclass(frozen=True)
class RealtimeStep:
    """One step of a script: what the session sends next, and what the model answers.

    `expect` is a send event (compared by equality), a type (by isinstance) or a function of the send event (by its
    answer). `emit` are the events that follow; `error` is raised from the send, after them.
    """

    expect: RealtimeModelSendEvent | type | Callable[[Any], object]
    emit: Iterable[RealtimeModelEvent] = ()
    error: BaseException | None = None

    def __post_init__(self) -> None:
        checking.iterable("RealtimeStep", "emit", self.emit, "model events")
        _check_error("RealtimeStep", "error", self.error)
        object.__setattr__(self, "emit", tuple(self.emit))


class ScriptedRealtimeModel(RealtimeModel):
    """A model that follows a script; give it to `RealtimeRunner(agent, model=...)`.

    Each send must fit the next step, in order. With `strict` one that does not raises `UnexpectedRealtimeSend`;
    without, it is only kept in `sent_events`, unless a step's function fails otherwise than by an `assert`.
    `connect_events` follow on connecting; `connect_error` is raised instead of connecting, `close_error` once the model
    was closed. The model may be connected again after that; the script goes on where it was.
    """

    def __init__(
        self,
        steps: Iterable[RealtimeStep] = (),
        *,
        connect_events: Iterable[RealtimeModelEvent] = (),
        connect_error: BaseException | None = None,
        close_error: BaseException | None = None,
        strict: bool = True,
    ) -> None:
        where = "ScriptedRealtimeModel"
        checking.iterable(where, "steps", steps, "RealtimeStep objects")
        checking.iterable(where, "connect_events", connect_events, "model events")
        _check_error(where, "connect_error", connect_error)
        _check_error(where, "close_error", close_error)
        checking.flag(where, "strict", strict)
        self._steps = deque(steps)
        for step in self._steps:
            checking.instance(where, "steps", step, RealtimeStep)
        self._connect_events = tuple(connect_events)
        if self._connect_events and connect_error is not None:
            raise WrongValueError(f"{where}: connect_events never follow where connect_error is raised; leave one out")
        self._connect_error = connect_error
        self._close_error = close_error
        self._strict = strict
        self._listeners: list[RealtimeModelListener] = []
        self._sent: list[RealtimeModelSendEvent] = []
        self._connect_calls: list[RealtimeConnectCall] = []
        self._close_calls = 0
        self._connected = False
        self._closed = False
        self._broken: RealtimeScriptError | None = None
        # Bounded by the script: what its steps emit, and what a test emits.
        self._outgoing: deque[RealtimeModelEvent] = deque()
        self._delivering: asyncio.Task[Any] | None = None

    def __repr__(self) -> str:
        state = "connected" if self._connected else "closed" if self._closed else "not connected"
        return f"<ScriptedRealtimeModel {state}, {len(self._sent)} sent, {len(self._steps)} steps remain>"

    # --- what a test looks at -----------------------------------------------------------------------

    @property
    def sent_events(self) -> tuple[RealtimeModelSendEvent, ...]:
        """What was sent, as it was then; with a strict script what that took."""
        return tuple(self._sent)

    @property
    def connect_calls(self) -> tuple[RealtimeConnectCall, ...]:
        """What each `connect` was called with, without secrets."""
        return tuple(self._connect_calls)

    @property
    def listeners(self) -> tuple[RealtimeModelListener, ...]:
        """Who hears from the model now."""
        return tuple(self._listeners)

    @property
    def remaining_steps(self) -> int:
        """How many steps were not reached yet."""
        return len(self._steps)

    @property
    def connected(self) -> bool:
        """Whether it is connected now."""
        return self._connected

    @property
    def closed(self) -> bool:
        """Whether it was closed, and not connected again since."""
        return self._closed

    @property
    def close_calls(self) -> int:
        """How often `close` was called."""
        return self._close_calls

    def assert_complete(self) -> None:
        """Check that the conversation went as the script says, to its end.

        Raises:
            UnexpectedRealtimeSend: the first send that did not fit, also where its sender swallowed the error.
            UnconsumedRealtimeSteps: steps remain.
        """
        if self._broken is not None:
            raise self._broken
        if self._steps:
            raise UnconsumedRealtimeSteps(tuple(self._steps))

    async def emit(self, *events: RealtimeModelEvent) -> None:
        """Tell every listener of `events`, in order, behind what is being told already, until the model is closed.

        Raises:
            RealtimeScriptError: the model is not connected.
            Exception: what a listener raised, after all of them were told; a group where several did.
        """
        self._check_connected("emit")
        self._outgoing.extend(events)
        if self._delivering is not None:
            return  # a listener sent something: its answers come after the events that it is being told of
        self._delivering = asyncio.current_task()
        errors: list[Exception] = []
        try:
            while self._outgoing and self._connected:
                event = self._outgoing.popleft()
                for listener in tuple(self._listeners):
                    if not self._connected:  # the one before has closed it
                        break
                    try:
                        await listener.on_event(event)
                    except Exception as error:  # noqa: BLE001 - raised below; the others must hear of the event too
                        errors.append(error)
        finally:
            self._delivering = None
            self._outgoing.clear()
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise ExceptionGroup("listeners of the scripted model failed", errors)

    # --- the model ----------------------------------------------------------------------------------

    async def connect(self, options: RealtimeModelConfig) -> None:
        """Record `options`, then raise `connect_error` or emit `connect_events`."""
        if self._connected or self._delivering is not None:  # also one that was closed while it tells its listeners
            raise AssertionError("Already connected")
        self._connect_calls.append(_without_secrets(options))
        if self._connect_error is not None:
            raise self._connect_error
        self._connected, self._closed = True, False
        try:
            await self.emit(*self._connect_events)
        except BaseException:  # also where it is cancelled: it is not connected then
            self._connected, self._closed = False, True
            raise

    def add_listener(self, listener: RealtimeModelListener) -> None:
        """Tell `listener` of events; one that is told already is not told twice."""
        checking.hears("add_listener", "listener", listener, "on_event")
        if listener not in self._listeners:
            self._listeners.append(listener)

    def remove_listener(self, listener: RealtimeModelListener) -> None:
        """Tell `listener` no more."""
        checking.hears("remove_listener", "listener", listener, "on_event")
        if listener in self._listeners:
            self._listeners.remove(listener)

    async def send_event(self, event: RealtimeModelSendEvent) -> None:
        """Take the next step of the script.

        Raises:
            UnexpectedRealtimeSend: `event` does not fit the next step, and the script is strict; or the step's function
                failed.
            RealtimeScriptError: the model is not connected.
            BaseException: the step's `error`.
        """
        self._check_connected("send")
        sent = _as_it_is(event)
        step = self._fitting(event)
        self._sent.append(sent)
        if step is None:
            return
        await self.emit(*step.emit)
        if step.error is not None:
            raise step.error

    async def send_event_if(self, event: RealtimeModelSendEvent, send_if: Callable[[], bool]) -> bool:
        """Send `event` if `send_if()` holds: a script has no turns to wait for."""
        if not send_if():
            return False
        await self.send_event(event)
        return True

    async def close(self) -> None:
        """Count the call and close; raises `close_error` where the model was not closed before."""
        self._close_calls += 1
        was_closed = self._closed
        self._connected, self._closed = False, True
        if self._close_error is not None and not was_closed:
            raise self._close_error

    def _check_connected(self, what: str) -> None:
        if not self._connected:
            raise RealtimeScriptError(f"Not connected: a scripted model can {what} nothing before and after that")

    def _fitting(self, event: RealtimeModelSendEvent) -> RealtimeStep | None:
        """The next step, taken from the script, if it expects `event`."""
        cause: Exception | None = None
        if self._steps:
            try:
                if matches(self._steps[0].expect, event):
                    return self._steps.popleft()
            except Exception as error:  # noqa: BLE001 - an `assert` in a step's function says no, and why
                cause = error
        if not self._strict and (cause is None or isinstance(cause, AssertionError)):
            return None
        unexpected = UnexpectedRealtimeSend(event, self._steps[0].expect if self._steps else None)
        unexpected.__cause__ = cause
        self._broken = self._broken or unexpected
        raise unexpected


def _check_error(where: str, argument: str, error: object) -> None:
    if error is not None and not isinstance(error, BaseException):
        checking.refuse(where, argument, "an exception (an object, not its class) or None", error)


def _as_it_is(event: RealtimeModelSendEvent) -> RealtimeModelSendEvent:
    """`event` as it is now, whatever the program does with its parts later."""
    if isinstance(event, RealtimeModelSendSessionUpdate):
        return RealtimeModelSendSessionUpdate(_settings(event.session_settings))
    return copy.deepcopy(event)


def _without_secrets(options: RealtimeModelConfig) -> RealtimeConnectCall:
    call: RealtimeConnectCall = {"api_key_provided": "api_key" in options, "headers_provided": "headers" in options}
    if "url" in options:
        address = urlsplit(options["url"])
        call["url"] = urlunsplit(address._replace(netloc=address.netloc.rpartition("@")[2], query="", fragment=""))
    if "initial_model_settings" in options:
        call["initial_model_settings"] = _settings(options["initial_model_settings"])
    if "playback_tracker" in options:
        call["playback_tracker"] = options["playback_tracker"]
    if "call_id" in options:
        call["call_id"] = options["call_id"]
    return call


def _settings(settings: Mapping[str, Any]) -> RealtimeSessionModelSettings:
    kept = {name: list(value) if name in _OBJECTS else copy.deepcopy(value) for name, value in settings.items()}
    return cast("RealtimeSessionModelSettings", kept)
