"""What the drivers of all queues share: calls one after another, then many at once, told as one line of JSON."""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Coroutine

import uvloop


def run(main: Coroutine[None, None, None]) -> None:
    """Run a driver, or a worker that has no command of its own, on the loop that all of them are deployed on."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def arguments() -> argparse.Namespace:
    """`ROLE REDIS_URL [COUNT]`; the role is `work`, `low` or `load`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["work", "low", "load"])
    parser.add_argument("url")
    parser.add_argument("count", type=int, nargs="?", default=1)
    return parser.parse_args()


async def one_by_one(call: Callable[[int], Awaitable[object]], count: int) -> None:
    """Print the round trips (ms) of `count` calls, each made when the one before is answered and a pause is over."""
    pause_s = float(os.environ.get("BENCH_PAUSE_MS", "0")) / 1000
    for number in range(min(50, count)):  # connections, caches and lazy imports of both sides
        await call(-1 - number)
    took = []
    for number in range(count):
        if pause_s:
            await asyncio.sleep(pause_s)
        began = time.perf_counter()
        await call(number)
        took.append((time.perf_counter() - began) * 1000)
    took.sort()
    report = {"p50_ms": took[len(took) // 2], "p99_ms": took[int(len(took) * 0.99)]}
    print(json.dumps(report))


async def at_once(send: Callable[[], Awaitable[object]], answered: Callable[[], Awaitable[object]], count: int) -> None:
    """Print how long (s) it took from the first of `count` messages until all were answered."""
    began = time.perf_counter()
    await send()
    await answered()
    print(json.dumps({"messages": count, "wall_s": time.perf_counter() - began}))
