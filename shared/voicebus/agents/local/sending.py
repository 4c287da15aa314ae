"""Sends a custom model its events: in order, one at a time, in a task of its own."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from voicebus.agents.functions import answer_of
from voicebus.agents.models.model import RealtimeModel
from voicebus.agents.models.sends import (
    RealtimeModelSendEvent,
    RealtimeModelSendSessionUpdate,
    RealtimeModelSendToolOutput,
)
from voicebus.errors import UserError
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

MAX_SENDS: Final = 1_000
"""Send events that may wait for the model. Beyond that the newest is left out, and told of as a failure."""

STOP_S: Final = 1.0
"""What a model may take to notice that a send is given up (s)."""

Failed = Callable[[RealtimeModelSendEvent, Exception], None]


@dataclass(slots=True, eq=False)
class _Job:
    """A send event; `wanted` is asked when its turn has come, `sent` told what became of it.

    `behind`: something that no call comes to was to be sent before it.
    """

    event: RealtimeModelSendEvent
    wanted: Callable[[], bool] | None
    sent: asyncio.Future[None] | None
    behind: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def of_call(self) -> bool:
        """Whether a call comes to this: its output, or what a handoff has the model follow from now on."""
        if isinstance(self.event, RealtimeModelSendToolOutput):
            return True
        return self.sent is None and isinstance(self.event, RealtimeModelSendSessionUpdate)


class ModelSends:
    """The queue of one connection. `failed` is told of events that the model did not take, unless somebody waits."""

    def __init__(self, model: RealtimeModel, failed: Failed) -> None:
        self._model = model
        self._failed = failed
        self._queue: asyncio.Queue[_Job] = asyncio.Queue(MAX_SENDS)
        self._task: asyncio.Task[None] | None = None
        self._now: _Job | None = None
        # Of what is not over: the outputs by call, and what no call comes to.
        self._outputs: dict[str, _Job] = {}
        self._others: set[_Job] = set()
        self._closed = False

    def start(self, session: str) -> None:
        """Begin to send; what was put before waits until now."""
        self._task = asyncio.create_task(self._run(), name=f"model-sends-{session}")

    def runs_here(self) -> bool:
        """Whether it is the model that is asking, in the middle of a send: it must not wait for what comes after."""
        return self._task is not None and asyncio.current_task() is self._task

    def put(self, event: RealtimeModelSendEvent, wanted: Callable[[], bool] | None = None) -> None:
        """Send `event` in its turn; with `wanted` only if that holds then."""
        self._enqueue(_Job(event, wanted, None))

    def awaited(self, event: RealtimeModelSendEvent) -> asyncio.Future[None]:
        """Send `event` in its turn; the future is what became of it, and must be awaited."""
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enqueue(_Job(event, None, sent))
        return sent

    async def outputs_taken(self) -> None:
        """Return once the model has taken, or refused, the outputs that were put until now."""
        for job in [*self._outputs.values()]:
            await job.over.wait()

    async def answered(self, call_id: str) -> None:
        """Return once the model has taken, or refused, the output of a call; at once before the sending begins.

        At once, too, where another's send comes first: the model may be taking that until it has said something more,
        which it cannot say before this returns.
        """
        job = self._outputs.get(call_id)
        if job is not None and not job.behind and self._task is not None and not self.runs_here():
            await job.over.wait()

    async def aclose(self) -> None:
        """Send nothing more; whoever waits for a send is told so."""
        self._closed = True
        if self._task is not None and not self.runs_here():
            self._task.cancel()
            _, stuck = await asyncio.wait({self._task}, timeout=STOP_S)
            if stuck:
                log.warning("the model does not give up a send", waited_s=STOP_S)
        if self._now is not None:
            self._fail(self._now, UserError("the session ended before the model had taken this"))
            self._end(self._now)
        while not self._queue.empty():
            job = self._queue.get_nowait()
            self._fail(job, UserError("the session ended before this could be sent"))
            self._end(job)

    def _enqueue(self, job: _Job) -> None:
        if self._closed:
            self._fail(job, UserError("the session has ended"))
        elif self._queue.full():
            self._fail(job, RuntimeError(f"{MAX_SENDS} events wait for the model already"))
        else:
            self._queue.put_nowait(job)
            if isinstance(job.event, RealtimeModelSendToolOutput):
                job.behind = bool(self._others)
                self._outputs.setdefault(job.event.tool_call.call_id, job)
            elif not job.of_call:
                self._others.add(job)

    def _end(self, job: _Job) -> None:
        self._others.discard(job)
        if isinstance(job.event, RealtimeModelSendToolOutput):
            call_id = job.event.tool_call.call_id
            if self._outputs.get(call_id) is job:
                del self._outputs[call_id]
        job.over.set()

    async def _run(self) -> None:
        while not self._closed:  # a model may swallow its cancelling, and this task's with it
            job = self._now = await self._queue.get()
            try:
                if job.wanted is None:
                    await answer_of("it", self._model.send_event, job.event)
                else:
                    await answer_of("it", self._model.send_event_if, job.event, job.wanted)
            except Exception as error:  # noqa: BLE001 - a model of the program's may raise anything
                self._fail(job, error)
            else:
                if job.sent is not None and not job.sent.done():
                    job.sent.set_result(None)
            self._end(job)
            self._now = None

    def _fail(self, job: _Job, error: Exception) -> None:
        if job.sent is None:
            self._failed(job.event, error)
        elif not job.sent.done():
            job.sent.set_exception(error)
