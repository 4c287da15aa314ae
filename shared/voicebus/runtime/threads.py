"""A bounded pool of daemon threads for functions of users that are not async.

The standard pool joins its threads when the interpreter ends, so that one stuck tool would keep a drained worker from
exiting, and lets a function that hangs keep its thread from all others. These threads end with the process, and one
whose function nobody waits for any more is replaced.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class _Work(Future[T]):
    """A function on its way through a pool. `left` hears of it when nobody waits for it any more while it runs."""

    def __init__(self, call: Callable[[], T], left: "Callable[[_Work[Any]], None]") -> None:
        super().__init__()
        self.call = call
        self._left = left

    def cancel(self) -> bool:
        """Keep it from being run; one that runs cannot be stopped, and goes on for nobody."""
        if super().cancel():
            return True
        self._left(self)
        return False


class DaemonThreadPool(Executor):
    """At most `max_workers` threads, started when needed; further functions wait.

    A function that runs on after its future was cancelled, as by a time-out, has its thread for itself: the pool has
    another one instead, for up to `max_workers` of those at once. `on_left` is told how many there are, in any thread.
    """

    def __init__(self, max_workers: int, *, name: str, on_left: Callable[[int], object] | None = None) -> None:
        self._max_workers = max_workers
        self._name = name
        self._on_left = on_left
        self._work: SimpleQueue[_Work[Any] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._started = 0
        self._idle = 0
        self._waiting = 0
        self._running: set[_Work[Any]] = set()
        # Those that run for nobody: with a thread that the pool does not count any more, and in its own.
        self._beside: set[_Work[Any]] = set()
        self._within: set[_Work[Any]] = set()

    @property
    def stuck(self) -> bool:
        """Whether every thread there may be is held by a function that nobody waits for."""
        return len(self._within) >= self._max_workers

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        work = _Work(lambda: fn(*args, **kwargs), self._leave)
        with self._lock:
            start = self._idle == 0 and self._threads < self._max_workers
            if start:
                self._threads += 1
            elif self._idle:
                self._idle -= 1
            else:
                self._waiting += 1
        self._work.put(work)
        if start:
            self._start()
        return work

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let idle threads end; busy ones end after their function, or with the process. Never waits."""
        with self._lock:
            threads = self._threads
        for _ in range(threads):
            self._work.put(None)

    def _start(self) -> None:
        with self._lock:
            self._started += 1
            number = self._started
        threading.Thread(target=self._run, name=f"{self._name}-{number}", daemon=True).start()

    def _run(self) -> None:
        while True:
            work = self._work.get()
            if work is None:
                return
            beside = self._do(work)
            del work
            if beside:
                return
            with self._lock:
                if self._waiting:
                    self._waiting -= 1
                else:
                    self._idle += 1

    def _do(self, work: _Work[Any]) -> bool:
        """Run a function; whether its thread is none of the pool's by now."""
        with self._lock:
            if not work.set_running_or_notify_cancel():
                return False
            self._running.add(work)
        try:
            result = work.call()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            beside = self._end(work)
            work.set_exception(error)
        else:
            beside = self._end(work)
            work.set_result(result)
        return beside

    def _leave(self, work: _Work[Any]) -> None:
        """Nobody waits for `work` any more: give the pool another thread for the one that runs it."""
        with self._lock:
            if work not in self._running or work in self._beside or work in self._within:
                return
            start = False
            if len(self._beside) >= self._max_workers:
                self._within.add(work)
            else:
                self._beside.add(work)
                start = self._waiting > 0
                if start:
                    self._waiting -= 1
                else:
                    self._threads -= 1
            left = len(self._beside) + len(self._within)
        if start:
            self._start()
        self._told(left)

    def _end(self, work: _Work[Any]) -> bool:
        with self._lock:
            self._running.discard(work)
            beside, within = work in self._beside, work in self._within
            self._beside.discard(work)
            self._within.discard(work)
            left = len(self._beside) + len(self._within)
        if beside or within:
            self._told(left)
        return beside

    def _told(self, left: int) -> None:
        if self._on_left is not None:
            self._on_left(left)
