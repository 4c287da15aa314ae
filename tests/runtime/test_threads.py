"""The pool of daemon threads."""

import threading

import pytest

from voicebus.runtime.threads import DaemonThreadPool


def test_no_more_threads_than_allowed_and_all_work_is_done() -> None:
    pool = DaemonThreadPool(3, name="t")
    go, names = threading.Event(), set()

    def work(number: int) -> int:
        names.add(threading.current_thread().name)
        go.wait(10)
        return number

    futures = [pool.submit(work, number) for number in range(10)]
    go.set()
    assert [future.result(10) for future in futures] == list(range(10))
    assert names <= {"t-1", "t-2", "t-3"}
    pool.shutdown()


def test_an_idle_thread_is_used_again() -> None:
    pool = DaemonThreadPool(8, name="t")
    names = set()
    for _ in range(20):
        names.add(pool.submit(lambda: threading.current_thread().name).result(10))
    assert len(names) <= 2  # the first may not have counted as idle yet when the second came
    pool.shutdown()


def test_errors_reach_who_waits_and_threads_end_with_the_process() -> None:
    pool = DaemonThreadPool(1, name="t")
    with pytest.raises(SystemExit):
        pool.submit(exit, 3).result(10)
    assert pool.submit(lambda: threading.current_thread().daemon).result(10)
    pool.shutdown()
