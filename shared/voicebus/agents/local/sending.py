"""Sends a custom model its events: in order, one at a time, in a task of its own."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

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

HELD_UP_S: Final = 1.0
"""How long a send is waited for that the model may take only when its reader goes on, which waits for a call (s)."""

Failed = Callable[[RealtimeModelSendEvent, Exception], None]


@dataclass(slots=True, eq=False)
class Job:
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
        self._queue: asyncio.Queue[Job] = asyncio.Queue(MAX_SENDS)
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # What is being sent, and above it what is sent meanwhile as the model waits, in that, for a call.
        self._now: list[Job] = []
        # How many of the model's events wait for a call.
        self._waiting = 0
        # Of what is not over: the outputs by call, and what no call comes to.
        self._outputs: dict[str, Job] = {}
        self._others: set[Job] = set()
        self._closed = False

    def start(self, session: str) -> None:
        """Begin to send; what was put before waits until now."""
        self._task = asyncio.create_task(self._run(), name=f"model-sends-{session}")

    def runs_here(self) -> bool:
        """Whether it is the model that is asking, in the middle of a send: it must not wait for what comes after."""
        return self._task is not None and asyncio.current_task() is self._task

    def put(self, event: RealtimeModelSendEvent, wanted: Callable[[], bool] | None = None) -> None:
        """Send `event` in its turn; with `wanted` only if that holds then."""
        self._enqueue(Job(event, wanted, None))

    def awaited(self, event: RealtimeModelSendEvent) -> Job:
        """Send `event` in its turn; what became of it must be awaited, by `taken`."""
        job = Job(event, None, asyncio.get_running_loop().create_future())
        self._enqueue(job)
        return job

    async def taken(self, jobs: Sequence[Job]) -> None:
        """Return once the model has taken these.

        While its reader waits for a call it may be that call's function that waits here, and the model may take
        nothing until its reader goes on: then `HELD_UP_S` at the most, and none at all before the sending begins. What
        becomes of the rest is told as of what nobody waits for.

        Raises:
            Exception: what the model raised.
        """
        sent = [job.sent for job in jobs if job.sent is not None]
        if self._waiting and sent:
            try:
                await asyncio.wait(sent, timeout=HELD_UP_S if self._task is not None else 0)
            finally:
                for job in jobs:
                    job.sent = job.sent if job.sent is not None and job.sent.done() else None
            sent = [job.sent for job in jobs if job.sent is not None]
        await asyncio.gather(*sent)

    async def answers(self, call_id: str, ended: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Return once a call of the model's has `ended`, and the model has taken, or refused, its output.

        At once after its end before the sending begins, and where another's send comes before the output: the model may
        be taking that until it has said something more, which it cannot say before this returns. Where the model makes
        the call in the middle of a send, it is sent meanwhile what comes, as the call may be waiting for that.
        """
        self._waiting += 1
        try:
            if not self.runs_here():
                await ended()
                output = self._outputs.get(call_id)
                if output is not None and not output.behind and self._task is not None:
                    await output.over.wait()
            elif len(self._now) == 1:  # further in, it is the first call that may be waiting for this one
                await self._send_until(ended())
                output = self._outputs.get(call_id)
                if output is not None:
                    await self._send_until(output.over.wait())
        finally:
            self._waiting -= 1

    async def _send_until(self, over: Coroutine[Any, Any, Any]) -> None:
        waiting = asyncio.ensure_future(over)
        try:
            while not waiting.done():
                if self._queue.empty():
                    self._news.clear()
                    news = asyncio.ensure_future(self._news.wait())
                    try:
                        await asyncio.wait({waiting, news}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        news.cancel()
                else:
                    await self._send(self._queue.get_nowait())
        finally:
            waiting.cancel()

    async def outputs_taken(self) -> None:
        """Return once the model has taken, or refused, the outputs that were put until now."""
        for job in [*self._outputs.values()]:
            await job.over.wait()

    async def aclose(self) -> None:
        """Send nothing more; whoever waits for a send is told so."""
        self._closed = True
        if self._task is not None and not self.runs_here():
            self._task.cancel()
            _, stuck = await asyncio.wait({self._task}, timeout=STOP_S)
            if stuck:
                log.warning("the model does not give up a send", waited_s=STOP_S)
        for job in self._now:
            self._fail(job, UserError("the session ended before the model had taken this"))
            self._end(job)
        while not self._queue.empty():
            job = self._queue.get_nowait()
            self._fail(job, UserError("the session ended before this could be sent"))
            self._end(job)

    def _enqueue(self, job: Job) -> None:
        if self._closed:
            self._fail(job, UserError("the session has ended"))
        elif self._queue.full():
            self._fail(job, RuntimeError(f"{MAX_SENDS} events wait for the model already"))
        else:
            self._queue.put_nowait(job)
            self._news.set()
            if isinstance(job.event, RealtimeModelSendToolOutput):
                job.behind = bool(self._others)
                self._outputs.setdefault(job.event.tool_call.call_id, job)
            elif not job.of_call:
                self._others.add(job)

    def _end(self, job: Job) -> None:
        self._others.discard(job)
        if isinstance(job.event, RealtimeModelSendToolOutput):
            call_id = job.event.tool_call.call_id
            if self._outputs.get(call_id) is job:
                del self._outputs[call_id]
        job.over.set()

    async def _run(self) -> None:
        while not self._closed:  # a model may swallow its cancelling, and this task's with it
            await self._send(await self._queue.get())

    async def _send(self, job: Job) -> None:
        self._now.append(job)
        try:
            if job.wanted is None:
                await answer_of("it", self._model.send_event, job.event)
            else:
                await answer_of("it", self._model.send_event_if, job.event, job.wanted)
        except Exception as error:  # noqa: BLE001 - a model of the program's may raise anything
            self._fail(job, error)
        except asyncio.CancelledError:
            ended = "session ended" if self._closed else "send that the model is in the middle of was given up"
            self._fail(job, UserError(f"the {ended} before the model had taken this"))
            raise
        else:
            if job.sent is not None and not job.sent.done():
                job.sent.set_result(None)
        finally:
            self._end(job)
            self._now.remove(job)

    def _fail(self, job: Job, error: Exception) -> None:
        if job.sent is None:
            self._failed(job.event, error)
        elif not job.sent.done():
            job.sent.set_exception(error)
