"""`ScriptedRealtimeModel`: a model without a network, which answers what a session sends as a script says."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from voicebus.agents import checking
from voicebus.agents.models.events import RealtimeModelEvent
from voicebus.agents.models.model import RealtimeModel, RealtimeModelConfig, RealtimeModelListener
from voicebus.agents.models.sends import RealtimeModelSendEvent
from voicebus.testing.scripts import (
    RealtimeScriptError,
    UnconsumedRealtimeSteps,
    UnexpectedRealtimeSend,
    matches,
)

HIDDEN = "***"
"""What stands in `connect_calls` for the value of a header."""


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
    without, it is only kept in `sent_events`. `connect_events` follow on connecting; `connect_error` and `close_error`
    are raised instead of connecting and closing. The model may be connected again after it was closed; the script
    goes on where it was.
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
        self._connect_error = connect_error
        self._close_error = close_error
        self._strict = strict
        self._listeners: list[RealtimeModelListener] = []
        self._sent: list[RealtimeModelSendEvent] = []
        self._connect_calls: list[RealtimeModelConfig] = []
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
        """Everything that was sent, expected or not."""
        return tuple(self._sent)

    @property
    def connect_calls(self) -> tuple[RealtimeModelConfig, ...]:
        """The options of each `connect`, without the API key, and with `***` for the values of headers."""
        return tuple(self._connect_calls)

    @property
    def listeners(self) -> tuple[RealtimeModelListener, ...]:
        """Who hears from the model now."""
        return tuple(self._listeners)

    @property
    def remaining_steps(self) -> tuple[RealtimeStep, ...]:
        """The steps that were not reached yet."""
        return tuple(self._steps)

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
            raise UnconsumedRealtimeSteps(self._steps)

    async def emit(self, *events: RealtimeModelEvent) -> None:
        """Tell every listener of `events`, in order, behind what is being told already.

        Raises:
            Exception: what a listener raised, after all of them were told; a group where several did.
        """
        self._outgoing.extend(events)
        if self._delivering is not None:
            return  # a listener sent something: its answers come after the events that it is being told of
        self._delivering = asyncio.current_task()
        errors: list[Exception] = []
        try:
            while self._outgoing:
                event = self._outgoing.popleft()
                for listener in tuple(self._listeners):
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
        if self._connected:
            raise AssertionError("Already connected")
        self._connect_calls.append(_without_secrets(options))
        if self._connect_error is not None:
            raise self._connect_error
        self._connected, self._closed = True, False
        await self.emit(*self._connect_events)

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
            UnexpectedRealtimeSend: `event` does not fit the next step, and the script is strict.
            BaseException: the step's `error`.
        """
        if not self._connected:
            raise AssertionError("Not connected")
        self._sent.append(event)
        step = self._fitting(event)
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
        """Count the call, then raise `close_error` or close."""
        self._close_calls += 1
        if self._close_error is not None:
            raise self._close_error
        self._connected, self._closed = False, True

    def _fitting(self, event: RealtimeModelSendEvent) -> RealtimeStep | None:
        """The next step, taken from the script, if it expects `event`."""
        cause: Exception | None = None
        if self._steps:
            try:
                if matches(self._steps[0].expect, event):
                    return self._steps.popleft()
            except Exception as error:  # noqa: BLE001 - an `assert` in a step's function says no, and why
                cause = error
        if not self._strict:
            return None
        unexpected = UnexpectedRealtimeSend(event, self._steps[0].expect if self._steps else None)
        unexpected.__cause__ = cause
        self._broken = self._broken or unexpected
        raise unexpected


def _check_error(where: str, argument: str, error: object) -> None:
    if error is not None and not isinstance(error, BaseException):
        checking.refuse(where, argument, "an exception (an object, not its class) or None", error)


def _without_secrets(options: RealtimeModelConfig) -> RealtimeModelConfig:
    kept: dict[str, Any] = {name: value for name, value in options.items() if name != "api_key"}
    if "headers" in kept:
        kept["headers"] = dict.fromkeys(kept["headers"], HIDDEN)
    return cast("RealtimeModelConfig", kept)
