"""What waits beside a session: named tasks that end with it, within one deadline."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

CLEAN_UP_S: Final = 10.0
"""What a session that ended may take to write its last records, close its model and end its jobs."""


class Jobs:
    """The tasks of one session; `failed` hears of the first error of each."""

    def __init__(self, session: str, log: structlog.stdlib.BoundLogger, failed: Callable[[Exception], None]) -> None:
        self._session = session
        self._log = log
        self._failed = failed
        self._running: set[asyncio.Task[None]] = set()

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._task(name, work)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    async def end(self, **last: Coroutine[Any, Any, None]) -> None:
        """Cancel all, and do the `last` things beside that, by their names; at most `CLEAN_UP_S` in all."""
        closing = [task for task in self._running if not task.done()]
        for task in closing:
            task.cancel()
        closing += [self._task(name.replace("_", "-"), work) for name, work in last.items()]
        try:
            await asyncio.wait(closing, timeout=CLEAN_UP_S)
        finally:
            for task in closing:
                if not task.done():
                    self._log.warning("clean-up takes too long", task=task.get_name(), limit_s=CLEAN_UP_S)
                    task.cancel()
                elif not task.cancelled() and (error := task.exception()) is not None:
                    self._log.warning("clean-up failed", task=task.get_name(), error=str(error))

    def _task(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(work, name=f"{name}-{self._session}")

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error if isinstance(error, Exception) else RuntimeError(repr(error)))
