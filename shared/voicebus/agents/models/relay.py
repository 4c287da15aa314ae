"""Delivers a model's events to its listeners: in order, one at a time, and whatever they do harms nobody."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from voicebus.agents import checking
from voicebus.agents.error_details import RealtimeModelErrorDetails
from voicebus.agents.functions import answer_of
from voicebus.agents.models.events import RealtimeModelErrorEvent, RealtimeModelEvent
from voicebus.agents.models.model import RealtimeModelListener
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

# Events that may wait for a slow listener, some minutes of speech. What comes beyond is dropped, newest first, and an
# `error` event says so in its place.
_MAX_WAITING: Final = 10_000
_CLOSE_TIMEOUT_S: Final = 1.0

LISTENER_FAILED: Final = "listener_failed"
LISTENER_OVERFLOW: Final = "listener_overflow"


class ListenerRelay:
    """`publish` never waits; a task delivers as long as there is something to deliver.

    `failed(error)` is told what a listener raised, but for errors that it raised at an `error` event: telling those
    would come round again.
    """

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._listeners: list[RealtimeModelListener] = []
        self._waiting: deque[RealtimeModelEvent] = deque()
        self._dropped = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def listeners(self) -> Sequence[RealtimeModelListener]:
        """They themselves, also those to come."""
        return self._listeners

    def add(self, listener: RealtimeModelListener) -> None:
        checking.hears("add_listener", "listener", listener, "on_event")
        if listener not in self._listeners:
            self._listeners.append(listener)

    def remove(self, listener: RealtimeModelListener) -> None:
        checking.hears("remove_listener", "listener", listener, "on_event")
        if listener in self._listeners:
            self._listeners.remove(listener)

    def publish(self, event: RealtimeModelEvent) -> None:
        if not self._listeners:
            return
        if len(self._waiting) >= _MAX_WAITING:
            self._dropped += 1
            return
        self._waiting.append(event)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._deliver(), name="model-listeners")

    async def aclose(self) -> None:
        """Deliver nothing more. A listener that calls this is not waited for."""
        self._waiting.clear()
        self._dropped = 0
        task, self._task = self._task, None
        if task is None or task is asyncio.current_task():
            return
        task.cancel()
        _, stuck = await asyncio.wait({task}, timeout=_CLOSE_TIMEOUT_S)
        if stuck:
            log.warning("a listener of the model does not stop", waited_s=_CLOSE_TIMEOUT_S)

    async def _deliver(self) -> None:
        while self._waiting:
            event = self._waiting.popleft()
            for listener in tuple(self._listeners):
                try:
                    await answer_of("it", listener.on_event, event)
                except Exception as error:  # a program's listener may raise anything
                    log.warning("a listener of the model failed", event_type=event.type, exc_info=error)
                    if not isinstance(event, RealtimeModelErrorEvent):
                        self._failed(error)
            if self._dropped and not self._waiting:
                message = f"{self._dropped} events were not delivered: a listener of the model is too slow."
                self._dropped = 0
                self._waiting.append(
                    RealtimeModelErrorEvent(RealtimeModelErrorDetails({"code": LISTENER_OVERFLOW, "message": message}))
                )
