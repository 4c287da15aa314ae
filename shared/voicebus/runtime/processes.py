"""Functions of users in processes of their own: whatever one does there, it does to nobody else.

Each process runs one job at a time and is kept for the next one. A job that is cancelled is killed, and so ends at
once; a process that dies takes its own job along and no other. The standard executors share their queue and break as a
whole when one of their processes dies, none of them can stop a single job, and all of them run the program's main
script once more.
"""

import asyncio
import functools
import importlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import Any, Final

from voicebus.errors import ToolProcessError
from voicebus.runtime.threads import DaemonThreadPool
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

Said = Callable[[Any], None]
"""Takes what a job says while it runs."""

Job = Callable[[Any, Said], Any]
"""A function of a module, with one argument; what it says and returns is pickled."""

# What a process that has closed its socket may take to end (s).
_END_S: Final = 5.0
# What a process may take until it can take a job (s): a heavy library on a busy machine needs a part of it.
_START_S: Final = 60.0


def default_processes() -> int:
    """As many as this process may use processors."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ProcessPool:
    """At most `limit` jobs at once, in processes that are started when needed; more jobs wait.

    What every process does `first` is not the first job's: a job that is given up meanwhile leaves the process to the
    next one. Killed with it, a process that takes longer to begin than a job may take would never come to work. One
    that has not begun within 60 s is killed, and the next job has another one started. A process that does not begin
    fails no job for which another one is starting.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._slots = asyncio.Semaphore(limit)
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self._first: dict[bytes, None] = {}
        self._starting: set[asyncio.Task[None]] = set()
        # Jobs that wait for a process.
        self._waiting = 0
        # One that waits for each process: what it says may be long in coming. As many again may be starting for nobody.
        self._threads = DaemonThreadPool(2 * limit, name="process")
        self._closed = False

    def first(self, job: Job, argument: Any) -> None:
        """Have each process that is started from now on do this before its jobs. What it raises is logged."""
        self._first.setdefault(pickle.dumps((job, argument)))

    def imports(self, functions: Iterable[Callable[..., Any]]) -> None:
        """Have each process that is started from now on import the modules of `functions` before its jobs."""
        for module in sorted({function.__module__ for function in functions}):
            self.first(_import, module)

    async def prepare(self, functions: Iterable[Callable[..., Any]]) -> None:
        """Have a process ready that knows the modules of `functions`, so that the first job need not wait for it."""
        self.imports(functions)
        try:
            await self.ready()
        except ToolProcessError as error:  # each job will tell
            log.warning("no process is ready", error=str(error))

    async def ready(self) -> None:
        """Return once a process waits for a job.

        Raises:
            ToolProcessError: it died.
        """
        self._idle.append(await self._taken())

    async def run(self, job: Job, argument: Any, said: Said) -> Any:
        """What `job(argument, say)` returns, run elsewhere; `said` gets what it says, in a thread.

        Raises:
            ToolProcessError: the process died, or job or argument cannot be sent there.
            Exception: what the job raised.
        """
        try:
            request = pickle.dumps((job, argument))
        except Exception as error:  # whatever an object's own pickling raises
            raise ToolProcessError("not_sendable", f"its arguments cannot be sent to a process: {error}") from error
        async with self._slots:
            if self._closed:
                raise ToolProcessError("crashed", "its processes have been ended")
            process = await self._taken()
            self._busy.add(process)
            try:
                answer = await asyncio.get_running_loop().run_in_executor(
                    self._threads, process.converse, request, said
                )
            except BaseException:  # a cancellation, too: nobody would read the answer
                process.kill()
                raise
            finally:
                self._busy.discard(process)
            returned, raised = answer
            if self._closed or isinstance(raised, ToolProcessError):
                process.kill()
            else:
                self._idle.append(process)
        if raised is not None:
            raise raised
        return returned

    async def _taken(self) -> "_Process":
        """One that waits for a job, once there is one."""
        failure: Exception | None = None
        self._waiting += 1
        try:
            while (process := self._free()) is None:
                if not self._first:
                    return _Process()
                if failure is not None and not self._starting:
                    raise failure
                # None in place of one that failed: jobs that want each other's would go on like that for ever.
                if failure is None and len(self._starting) < self._waiting:
                    starting = asyncio.create_task(self._start(), name="process")
                    self._starting.add(starting)
                    starting.add_done_callback(self._started)
                done, _ = await asyncio.wait(self._starting, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    try:
                        one.result()
                    except Exception as error:  # noqa: BLE001 - raised where no other one is starting
                        failure = error
            return process
        finally:
            self._waiting -= 1

    def _started(self, starting: asyncio.Task[None]) -> None:
        self._starting.discard(starting)
        error = None if starting.cancelled() else starting.exception()
        if error is not None and not self._closed:
            log.warning("a process for tools or guardrails did not begin", error=str(error))

    def _free(self) -> "_Process | None":
        """Those that have died while they waited (for want of memory, say) are nobody's failure."""
        while self._idle:
            process = self._idle.pop()
            if process.lives:
                return process
            process.kill()
        return None

    async def _start(self) -> None:
        """Start a process and have it do what each does first, within 60 s: an import that hangs would keep all jobs
        waiting.

        Raises:
            ToolProcessError: it died, or took longer and was killed.
        """
        process = _Process()
        self._busy.add(process)
        try:
            async with asyncio.timeout(_START_S):
                for request in list(self._first):
                    _, raised = await asyncio.get_running_loop().run_in_executor(
                        self._threads, process.converse, request, _nobody
                    )
                    if raised is not None:  # the job that needs it will tell
                        log.warning("a process for tools or guardrails is not prepared", error=repr(raised))
        except TimeoutError:
            process.kill()
            raise ToolProcessError("crashed", f"its process did not begin within {_START_S:g} s") from None
        except BaseException:  # a cancellation, too: nobody would use it
            process.kill()
            raise
        finally:
            self._busy.discard(process)
        if self._closed:
            process.kill()
        else:
            self._idle.append(process)

    def close(self) -> None:
        """Kill every process."""
        self._closed = True
        for process in (*self._idle, *self._busy):
            process.kill()
        self._idle.clear()
        self._threads.shutdown()


def _import(module: str, say: Said) -> None:
    importlib.import_module(module)


def _nobody(what: Any) -> None:
    """Hears what a process says before its first job."""


class _Process:
    """One process. Used by one thread at a time; `kill` comes from any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._killed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None

    def converse(self, request: bytes, said: Said) -> tuple[Any, Exception | None]:
        """Have the process do a job; what it returned, or what it raised.

        Raises:
            ToolProcessError: the process has died.
        """
        try:
            connection = self._started()
            connection.send_bytes(request)
            while True:
                kind, what = connection.recv()
                if kind == "said":
                    said(what)
                else:
                    return (what, None) if kind == "returned" else (None, what)
        except (EOFError, OSError) as error:
            raise ToolProcessError("crashed", f"the process that ran it {self._end()}") from error

    @property
    def lives(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        with self._lock:
            self._killed = True
            process = self._process
        if process is not None:
            process.kill()
            threading.Thread(target=self._bury, args=(process,), name="bury", daemon=True).start()

    def _started(self) -> "Connection[Any, Any]":
        with self._lock:
            if self._killed:
                raise EOFError
            if self._connection is None:
                ours, theirs = socket.socketpair()
                with ours, theirs:
                    program = f"from voicebus.runtime.processes import serve; serve({theirs.fileno()})"
                    # In a session of its own: signals to the group, such as Ctrl-C, are for the parent.
                    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
                    self._process = subprocess.Popen(  # noqa: S603 - our own program
                        [sys.executable, "-c", program], pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL,
                        start_new_session=True, env=environment,
                    )  # fmt: skip
                    self._connection = Connection(ours.detach())
            return self._connection

    def _bury(self, process: "subprocess.Popen[bytes]") -> None:
        """Take note of the end, so that nothing is left of the process."""
        process.wait()
        with self._lock:
            if self._connection is not None:
                self._connection.close()

    def _end(self) -> str:
        """How the process has ended, in words."""
        if self._process is None:
            return "was not started"
        try:
            code = self._process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            return "does not answer any more"
        if code >= 0:
            return f"ended with exit code {code}"
        known = {entry.value: entry.name for entry in signal.Signals}
        memory = ", perhaps for want of memory" if -code == signal.SIGKILL and not self._killed else ""
        return f"was killed by signal {-code} ({known.get(-code, '?')}){memory}"


def serve(fd: int) -> None:
    """The life of a process: one job after the other from the socket `fd`, until its parent is gone."""
    connection: Connection[Any, Any] = Connection(fd)
    while True:
        try:
            request = connection.recv_bytes()
            connection.send_bytes(_answer(request, functools.partial(_say, connection)))
        except (EOFError, OSError):
            return


def _say(connection: "Connection[Any, Any]", what: Any) -> None:
    connection.send(("said", what))


def _answer(request: bytes, say: Said) -> bytes:
    try:
        job, argument = pickle.loads(request)  # noqa: S301 - our own parent's
        returned = job(argument, say)
    except Exception as error:  # noqa: BLE001 - whatever the user's function raises
        return _failure(error)
    except BaseException as error:  # noqa: BLE001 - SystemExit must not end the process
        return _failure(RuntimeError(f"the tool raised {type(error).__name__}"))
    try:
        return pickle.dumps(("returned", returned))
    except Exception as error:  # noqa: BLE001 - whatever an object's own pickling raises
        return _failure(ToolProcessError("not_sendable", f"its result cannot be sent from its process: {error}"))


def _failure(error: Exception) -> bytes:
    """An error as it can be sent: one that cannot be pickled, or not be unpickled, in its own words."""
    try:
        found = pickle.dumps(("raised", error))
        pickle.loads(found)  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - whatever its own pickling raises
        return pickle.dumps(("raised", RuntimeError(f"{type(error).__name__}: {error}")))
    return found


class SharedProcesses:
    """One pool for whoever borrows it on this event loop, ended when the last one has given it back."""

    def __init__(self) -> None:
        self._pool: ProcessPool | None = None
        self._borrowers: set[object] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def borrow(self, borrower: object) -> ProcessPool:
        loop = asyncio.get_running_loop()
        if self._pool is None or self._loop is not loop:
            # What a loop that is over has left behind ends with its sockets.
            self._pool, self._loop, self._borrowers = ProcessPool(default_processes()), loop, set()
        self._borrowers.add(borrower)
        return self._pool

    def give_back(self, borrower: object) -> None:
        self._borrowers.discard(borrower)
        if not self._borrowers and self._pool is not None:
            self._pool.close()
            self._pool = None


SHARED: Final = SharedProcesses()
"""The processes of the sessions that run in this program."""
