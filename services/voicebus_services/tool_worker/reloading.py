"""`voicebus tool-worker --reload`: a worker in a process of its own, started anew when its files change.

The old one is asked to end, and finishes the calls that it has in hand; then the new one registers its tools. Where it
cannot start, what it says is shown, and the next change is waited for; so it is told where one dies of a tool.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from voicebus.adapters.redis.heartbeat import ALIVE_MS
from voicebus.errors import UsageError
from voicebus.runtime.lifecycle import stop_event
from voicebus.telemetry.logging import get_logger
from voicebus_services.settings import DIE_WITH_PARENT, ENV_PREFIX

log: Final = get_logger(__name__)

# What a worker may take beyond its own drain limit before it is killed.
_KILL_AFTER_S: Final = 5.0
# One that was killed counts as alive until its last heartbeat is that old: with a schema of its own for the same tools.
_COUNTS_FOR_S: Final = ALIVE_MS / 1000 + 0.5


async def reloading(targets: Sequence[str], *, drain_timeout_s: float, watched: Path | None = None) -> None:
    """Run `voicebus tool-worker` with these targets, and again after each change below `watched` (the working
    directory), until SIGINT or SIGTERM.

    Raises:
        UsageError: `watchfiles` is not installed.
    """
    try:
        from watchfiles import PythonFilter, awatch
    except ModuleNotFoundError as error:
        raise UsageError(f"--reload needs the package {error.name}; install voicebus[reload]") from error
    stop = stop_event()
    folder = watched or Path.cwd()
    changes = awatch(folder, watch_filter=PythonFilter(), stop_event=stop, step=100)
    worker = await _Worker.start(targets)
    try:
        log.info("watching for changes", folder=str(folder))
        async for changed in changes:
            log.info("files changed, the worker is started anew", files=sorted(_shown(changed, folder))[:10])
            await worker.end(drain_timeout_s)
            worker = await _Worker.start(targets)
    finally:
        await worker.end(drain_timeout_s)


def _shown(changed: set[tuple[Any, str]], folder: Path) -> list[str]:
    relative: Callable[[str], str] = lambda path: os.path.relpath(path, folder)  # noqa: E731
    return [relative(path) for _, path in changed]


class _Worker:
    """The process of a worker. Made by `start`, ended by `end`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._is_asked = False
        # Until when the others take a worker that was killed for a living one (monotonic s).
        self._counts_until = 0.0
        self._watch = asyncio.create_task(self._tell_its_end(), name=f"worker {process.pid}")

    @classmethod
    async def start(cls, targets: Sequence[str]) -> "_Worker":
        environment = {**os.environ, f"{ENV_PREFIX}RELOAD": "false", DIE_WITH_PARENT: "1"}
        command = [sys.executable, "-m", "voicebus_services.cli", "tool-worker", *targets]
        # A session of its own: Ctrl-C reaches this process, which ends the worker in order.
        return cls(await asyncio.create_subprocess_exec(*command, env=environment, start_new_session=True))

    async def end(self, drain_timeout_s: float) -> None:
        """Have it end, unless it has; returns once its tools may be registered by another one."""
        self._is_asked = True
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(drain_timeout_s + _KILL_AFTER_S):
                await asyncio.shield(self._watch)
        except TimeoutError:
            log.warning("the worker does not end and is killed", pid=self._process.pid)
            self._process.kill()
            await self._watch
        await asyncio.sleep(self._counts_until - time.monotonic())

    async def _tell_its_end(self) -> None:
        status = await self._process.wait()
        if status < 0:
            self._counts_until = time.monotonic() + _COUNTS_FOR_S
        if not self._is_asked:
            how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
            log.warning("the worker has ended, the next change starts it anew", by=how)
