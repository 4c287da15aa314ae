"""A bounded pool of daemon threads for functions of users that are not async.

The standard pool joins its threads when the interpreter ends, so that one stuck tool would keep a drained worker from
exiting. These threads end with the process.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DaemonThreadPool(Executor):
    """At most `max_workers` threads, started when needed. A stuck function keeps its thread; others wait."""

    def __init__(self, max_workers: int, *, name: str) -> None:
        self._max_workers = max_workers
        self._name = name
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0
        self._waiting = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            start = self._idle == 0 and self._threads < self._max_workers
            if start:
                self._threads += 1
                number = self._threads
            elif self._idle:
                self._idle -= 1
            else:
                self._waiting += 1
        self._work.put((future, lambda: fn(*args, **kwargs)))
        if start:
            threading.Thread(target=self._run, name=f"{self._name}-{number}", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let idle threads end; busy ones end after their function, or with the process. Never waits."""
        with self._lock:
            threads = self._threads
        for _ in range(threads):
            self._work.put(None)

    def _run(self) -> None:
        while True:
            work = self._work.get()
            if work is None:
                return
            future, call = work
            if future.set_running_or_notify_cancel():
                try:
                    result = call()
                except BaseException as error:  # noqa: BLE001 - handed to whoever waits
                    future.set_exception(error)
                else:
                    future.set_result(result)
            del work, future, call
            with self._lock:
                if self._waiting:
                    self._waiting -= 1
                else:
                    self._idle += 1
