"""A blocked event loop is noticed from beside, and what blocks it is named."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable

import pytest
import uvloop

from support.tasks import running
from support.waiting import wait_until
from voicebus.telemetry.blocking import LoopGuard


def compute() -> None:
    time.sleep(0.3)


def wander() -> None:
    time.sleep(0.3)


async def test_a_function_that_blocks_the_loop_is_named_and_others_are_not_blamed() -> None:
    told: list[tuple[str, float]] = []
    guard = LoopGuard({compute.__code__: "compute"}, lambda name, seconds: told.append((name, seconds)), after_s=0.1)
    async with running(guard.run()):
        await asyncio.sleep(0.01)  # its thread has begun
        compute()
        await wait_until(lambda: told, description="word of the block")
        assert told[0][0] == "compute"
        assert told[0][1] > 0.1
        wander()
        await wait_until(lambda: len(told) == 2, description="word of the other")
        assert told[1][0] == ""


async def test_a_loop_that_waits_is_not_blocked() -> None:
    told: list[str] = []
    guard = LoopGuard({}, lambda name, _: told.append(name), after_s=30)
    async with running(guard.run()):
        await asyncio.sleep(0.2)
    assert told == []


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_that_is_late_on_a_busy_machine_is_not_taken_for_a_blocked_one(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """What its thread is seen at is its own waiting."""
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def wait() -> None:
        ended = asyncio.Event()
        loops.append((asyncio.get_running_loop(), ended))
        await ended.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(wait())

    thread = threading.Thread(target=run)
    thread.start()
    guard = LoopGuard({}, lambda *_: None)
    try:
        deadline = time.monotonic() + 10
        while not loops or guard._look(sys._current_frames()[thread.ident or 0]) is not None:
            assert time.monotonic() < deadline, "an idle loop is taken for a busy one"
            time.sleep(0.01)
    finally:
        loop, ended = loops[0]
        loop.call_soon_threadsafe(ended.set)
        thread.join()
