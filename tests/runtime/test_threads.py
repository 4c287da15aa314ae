"""The pool of daemon threads."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from support.waiting import wait_until
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


class Hanging:
    """Functions that end when they are let go; `left` is what the pool has told."""

    def __init__(self, pool_size: int) -> None:
        self.go = threading.Event()
        self.left: list[int] = []
        self.pool = DaemonThreadPool(pool_size, name="t", on_left=self.left.append)

    async def begun(self, count: int) -> list[Future[None]]:
        begun = [threading.Event() for _ in range(count)]

        def hang(event: threading.Event) -> None:
            event.set()
            self.go.wait(30)

        futures = [self.pool.submit(hang, event) for event in begun]
        for event in begun:
            await wait_until(event.is_set, description="the start")
        return futures


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    hanging = Hanging(2)
    yield hanging
    hanging.go.set()
    hanging.pool.shutdown()


async def test_functions_that_nobody_waits_for_any_more_take_no_thread_from_others(hanging: Hanging) -> None:
    futures = await hanging.begun(2)
    waited = hanging.pool.submit(lambda: "done")
    for future in futures:
        assert not future.cancel()
    assert waited.result(10) == "done"
    assert hanging.pool.submit(lambda: "done, too").result(10) == "done, too"
    assert hanging.left == [1, 2]
    hanging.go.set()
    await wait_until(lambda: hanging.left[-1] == 0, description="their ends")


async def test_there_is_an_end_to_the_threads_of_functions_that_hang(hanging: Hanging) -> None:
    for _ in range(2):
        for future in await hanging.begun(2):
            assert not hanging.pool.stuck
            future.cancel()
    assert hanging.left == [1, 2, 3, 4]
    assert hanging.pool.stuck
    waits = hanging.pool.submit(lambda: "at last")
    hanging.go.set()
    assert waits.result(10) == "at last"
    await wait_until(lambda: hanging.left[-1] == 0, description="their ends")
    assert not hanging.pool.stuck


async def test_a_function_that_is_left_twice_or_after_its_end_is_left_once(hanging: Hanging) -> None:
    (first,) = await hanging.begun(1)
    first.cancel()
    first.cancel()
    assert hanging.left == [1]
    done = hanging.pool.submit(lambda: "done")
    assert done.result(10) == "done"
    done.cancel()
    assert hanging.left == [1]
