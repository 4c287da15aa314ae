"""`make chaos`: what the deaths of tool workers cost, with real processes.

    python -m chaos.worker_deaths [held] [long] [restarts]

`held` kills a worker that holds 20 calls: all are answered within 3 s, by another worker or as unknown. `long` leaves a
call of 60 s to its healthy worker while another one is idle. `restarts` exchanges workers a hundred times, every second
one by a kill: then the consumers that are listed are those that live. Exit status 1 where a promise was broken.
"""

import argparse
import asyncio
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from support.held_worker import QUEUE, main
from support.servers import RedisServer
from support.tool_calls import Caller, calling
from support.waiting import wait_until
from voicebus.adapters.redis.heartbeat import living
from voicebus.adapters.redis.trimming import pairs
from voicebus.contracts.streams import WORKERS_GROUP, Keys
from voicebus.contracts.tools import Outcome

PROMISED_S: Final = 3.0

_PROCESSES: Final = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["support.held_worker"])


@dataclass
class Crew:
    """Workers on one Redis, and whoever calls them."""

    url: str
    folder: Path
    caller: Caller
    workers: list[BaseProcess] = field(default_factory=list)

    async def hire(self) -> BaseProcess:
        """One more worker, once it takes calls."""
        worker = _PROCESSES.Process(target=main, args=(self.folder, self.url), daemon=True)
        worker.start()
        self.workers.append(worker)
        ready = self.folder / f"ready-{worker.pid}"
        await wait_until(ready.exists, description=f"worker {worker.pid}", timeout=60)
        return worker

    async def dismiss(self, worker: BaseProcess, number: signal.Signals) -> None:
        assert worker.pid is not None
        os.kill(worker.pid, number)
        await asyncio.to_thread(worker.join)
        self.workers.remove(worker)

    async def consumers(self) -> tuple[int, int]:
        """How many of the group's consumers live, and how many are listed."""
        bus, keys = self.caller.bus, self.caller.keys
        rows = [pairs(row) for row in await bus.call("XINFO", "CONSUMERS", keys.tools(QUEUE), WORKERS_GROUP)]
        return sum(await living(bus, [keys.worker(row["name"]) for row in rows])), len(rows)


async def held(crew: Crew, count: int = 20) -> tuple[str, bool]:
    first, calls = await crew.hire(), [f"c{n}" for n in range(count)]
    for number, call in enumerate(calls):
        again = number % 2 == 0
        crew.caller.call("look" if again else "pay", call_id=call, queue=QUEUE, timeout_ms=120_000, idempotent=again)
    for call in calls:
        await crew.caller.started(call)
    await crew.hire()
    killed = time.monotonic()
    await crew.dismiss(first, signal.SIGKILL)
    results = [await crew.caller.result(call) for call in calls]
    took = time.monotonic() - killed
    outcomes = Counter(result.outcome for result in results)
    good = outcomes == {Outcome.OK: count - count // 2, Outcome.UNKNOWN: count // 2} and took <= PROMISED_S
    return f"{count} calls of a killed worker ended {took:.2f} s later: {_told(outcomes)}", good


async def long(crew: Crew, seconds: float = 60.0) -> tuple[str, bool]:
    await crew.hire()
    crew.caller.call("wait", f'{{"seconds": {seconds}}}', queue=QUEUE, timeout_ms=120_000, idempotent=True)
    started = await crew.caller.started()
    await crew.hire()
    await asyncio.sleep(seconds)
    result = await crew.caller.result()
    history = await crew.caller.bus.call("HGET", crew.caller.keys.call(QUEUE, "s1", "c1"), "history")
    good = (result.worker, result.output, len(history.splitlines())) == (started.worker, "start 1", 1)
    return f"a call of {seconds:g} s: {result.output}, {len(history.splitlines())} start, by its own worker", good


async def restarts(crew: Crew, count: int = 100) -> tuple[str, bool]:
    for _ in range(4):
        await crew.hire()
    for number in range(count):
        crew.caller.call("wait", '{"seconds": 0.05}', call_id=f"c{number}", queue=QUEUE, idempotent=True)
        await crew.dismiss(crew.workers[0], signal.SIGKILL if number % 2 else signal.SIGTERM)
        await crew.hire()
    for number in range(count):
        await crew.caller.result(f"c{number}")

    async def agree() -> bool:
        return await crew.consumers() == (4, 4)

    await wait_until(agree, description="the consumers that are listed to be those that live", timeout=30)
    return f"after {count} restarts 4 workers live and {(await crew.consumers())[1]} consumers are listed", True


def _told(outcomes: Counter[Outcome]) -> str:
    return ", ".join(f"{count} {outcome.value}" for outcome, count in sorted(outcomes.items()))


@asynccontextmanager
async def _crew(folder: Path) -> AsyncIterator[Crew]:
    with RedisServer() as server:
        async with calling(server.url, Keys("vb")) as caller:
            crew = Crew(server.url, folder, caller)
            try:
                yield crew
            finally:
                for worker in crew.workers:
                    worker.kill()
                    worker.join()


PARTS: Final[dict[str, Callable[[Crew], Awaitable[tuple[str, bool]]]]] = {
    "held": held, "long": long, "restarts": restarts
}  # fmt: skip


async def _part(name: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        async with _crew(Path(folder)) as crew:
            try:
                text, good = await PARTS[name](crew)
            except AssertionError as error:
                text, good = str(error), False
    print(f"{name}: {text}\n{name}: {'kept' if good else 'BROKEN'}", flush=True)
    return good


def run() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    given = parser.parse_args()
    if odd := set(given.parts) - PARTS.keys():
        parser.error(f"there is no part {', '.join(sorted(odd))}; there are {', '.join(PARTS)}")
    kept = [asyncio.run(_part(name)) for name in given.parts or PARTS]  # each, also after one that was broken
    return int(not all(kept))


if __name__ == "__main__":
    sys.exit(run())
