"""Tool calls in a storm: real worker processes that are killed and frozen, deliveries that come twice, and the ledgers
that tell what took effect how often.
"""

import asyncio
import contextlib
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from support.storm_worker import QUEUES, main
from support.tasks import running
from support.waiting import wait_until
from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.dispatch import RedisToolDispatch
from voicebus.adapters.redis.heartbeat import living
from voicebus.adapters.redis.inbox import RedisInbox
from voicebus.adapters.redis.outbox import Outbox
from voicebus.adapters.redis.replication import MasterWatch
from voicebus.adapters.redis.trimming import pairs
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import WORKERS_GROUP, Keys
from voicebus.contracts.tools import TOOL_RESULT, Outcome, ToolResult
from voicebus.engine.outputs import DispatchTool
from voicebus.ports import SessionRef

FREEZE_S: Final = 10.0

_GRACE_S: Final = 2.0
"""So long after its deadline a session answers a call itself that nobody has answered."""

_PROCESSES: Final = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["support.storm_worker"])


@dataclass
class Storm:
    """`calls` calls over `seconds`, `workers` processes, any one of which is killed or frozen each `every_s`.

    One that was killed is replaced at once, one that was frozen goes on after `FREEZE_S`. The storm lasts until all
    calls are sent and `kills` workers were killed. `fate` is awaited once, half way, for what else is to happen (a
    fail-over).
    """

    url: str
    folder: Path
    prefix: str = "vb"
    calls: int = 1_000
    seconds: float = 20.0
    workers: int = 8
    duplicates: float = 0.05
    every_s: float = 1.0
    deadline_ms: int = 60_000
    kills: int = 0
    seed: int = 1
    fate: Callable[[], Awaitable[None]] | None = None


@dataclass
class Outcomes:
    """What came of it."""

    answers: dict[str, list[ToolResult]] = field(default_factory=dict)
    unsent: set[str] = field(default_factory=set)
    """Calls whose time was over before Redis took them: their session answers them, as nobody else knows of them."""
    starts: Counter[str] = field(default_factory=Counter)
    effects: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, str] = field(default_factory=dict)
    killed: int = 0
    frozen: int = 0
    duplicated: int = 0
    seconds: float = 0.0
    consumers: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By queue: how many of the listed consumers live, and how many are listed."""

    def unanswered(self) -> list[str]:
        return [call for call, answers in self.answers.items() if not answers]

    def problems(self) -> list[str]:
        """What must not be, each in a sentence; empty where all promises were kept."""
        found = [f"{call} was never answered" for call in self.unanswered() if call not in self.unsent]
        for queue, (alive, listed) in self.consumers.items():
            if alive != listed:
                found.append(f"group of {queue}: {listed} consumers are listed, {alive} live")
        for call, count in self.effects.items():
            if count > 1:
                found.append(f"{call} ({self.kinds[call]}) took effect {count} times")
        for call, count in self.starts.items():
            if count > 1 and self.kinds[call] != "book":
                found.append(f"{call} ({self.kinds[call]}) started {count} times")
        for call, answers in self.answers.items():
            given = {answer.outcome for answer in answers}
            if len(given) > 1:
                found.append(f"{call} ({self.kinds[call]}) was answered in different ways: {sorted(given)}")
            if Outcome.OK in given and not self.effects[call]:
                found.append(f"{call} ({self.kinds[call]}) is said to be done and took no effect")
            if Outcome.UNKNOWN in given and self.kinds[call] == "book":
                found.append(f"{call} may start again, and its outcome is unknown")
        return found

    def __str__(self) -> str:
        given = {call: answers[0].outcome for call, answers in self.answers.items() if answers}
        outcomes = Counter(outcome.value for outcome in given.values())
        never = sum(outcome is Outcome.UNKNOWN and not self.starts[call] for call, outcome in given.items())
        return (
            f"{len(self.answers)} calls in {self.seconds:.0f} s, {self.killed} workers killed, {self.frozen} frozen, "
            f"{self.duplicated} delivered twice, {sum(self.starts.values())} starts, outcomes {dict(outcomes)}, "
            f"{never} of unknown outcome never started, {len(self.unsent)} not sent before their deadline"
        )


async def storm(asked: Storm) -> Outcomes:
    """Raise it, wait until every call is answered or is far past its deadline, and count."""
    chance, keys, outcomes = random.Random(asked.seed), Keys(asked.prefix), Outcomes()
    (asked.folder / "booked").mkdir()
    workers = [_start(asked) for _ in range(asked.workers)]

    def ready() -> bool:
        return all((asked.folder / f"ready-{worker.pid}").exists() for worker in workers)

    await wait_until(ready, description="the workers", timeout=90, interval=0.1)
    async with await connect(asked.url) as bus:
        clock = RedisClock(bus)
        await clock.synchronise()
        outbox, inbox = Outbox(bus, clock, service="gateway"), RedisInbox(bus, keys, "storm")
        tools = RedisToolDispatch(bus, outbox, clock, keys, reply_to=inbox.stream)
        masters = MasterWatch(bus, service="gateway")
        await masters.begin()
        masters.on_change(outbox.resend)
        masters.on_change(lambda _: inbox.rewind())
        sessions = [SessionRef(f"s{n}", 1) for n in range(50)]
        queues: dict[str, str] = {}

        def arrived(entry: Entry) -> None:
            if entry.type == TOOL_RESULT:
                result = ToolResult.of(entry)
                outcomes.answers[f"{entry.session}:{result.call_id}"].append(result)

        for session in sessions:
            inbox.subscribe(session.id, arrived)
        began = time.monotonic()
        async with running(outbox.run(), inbox.run(), clock.keep(), masters.run()):
            raging = asyncio.create_task(_rage(asked, workers, chance, outcomes), name="rage")
            fated = False
            try:
                for n in range(asked.calls):
                    due = began + asked.seconds * n / asked.calls
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    session, kind, queue = (
                        chance.choice(sessions),
                        chance.choice(("pay", "book", "stamp")),
                        chance.choice(QUEUES),
                    )
                    call = DispatchTool(
                        f"c{n}", f"{kind}_{queue}", "{}", "desk", queue, asked.deadline_ms, idempotent=kind == "book"
                    )
                    outcomes.answers[f"{session.id}:c{n}"] = []
                    outcomes.kinds[f"{session.id}:c{n}"] = kind
                    queues[f"{session.id}:c{n}"] = queue
                    tools.dispatch(session, call)
                    if chance.random() < asked.duplicates:
                        outcomes.duplicated += 1
                        tools.dispatch(session, call)
                    if asked.fate is not None and not fated and n >= asked.calls // 2:
                        fated = True
                        await asked.fate()
                over = time.monotonic() + asked.deadline_ms / 1000 + _GRACE_S

                async def settled() -> bool:
                    if time.monotonic() > over:
                        outcomes.unsent = {
                            call for call in outcomes.unanswered() if not await _is_known(bus, keys, call, queues[call])
                        }
                    return outcomes.unsent.issuperset(outcomes.unanswered())

                with contextlib.suppress(AssertionError):  # those that were never answered are among the problems
                    await wait_until(
                        settled, description="the answers", interval=0.05, timeout=asked.deadline_ms / 1000 + 10
                    )
                await wait_until(
                    lambda: outcomes.killed >= asked.kills,
                    description="the last kill",
                    timeout=asked.kills * 20,
                    interval=0.5,
                )
                raging.cancel()
                await asyncio.gather(raging, return_exceptions=True)
                for worker in workers:
                    _send(worker, signal.SIGCONT)
                with contextlib.suppress(AssertionError):
                    await wait_until(lambda: _agree(bus, keys, outcomes, asked.workers), description="x", timeout=30)
            finally:
                raging.cancel()
                await asyncio.gather(raging, return_exceptions=True)
                for worker in workers:
                    worker.kill()
                    worker.join()
                await tools.aclose()
        outcomes.seconds = time.monotonic() - began
    _read(asked, outcomes)
    return outcomes


async def _is_known(bus: RedisConnection, keys: Keys, call: str, queue: str) -> bool:
    """Whether Redis has this call, in its queue or as one that was claimed or answered."""
    session, _, call_id = call.partition(":")
    if await bus.call("EXISTS", keys.call(queue, session, call_id)):
        return True
    entries = [Entry.parse(fields) for _, fields in await bus.call("XRANGE", keys.tools(queue), "-", "+")]
    return any(entry.session == session and entry.data["call_id"] == call_id for entry in entries)


async def _agree(bus: RedisConnection, keys: Keys, outcomes: Outcomes, workers: int) -> bool:
    """Whether the consumers that each group lists are the workers that live."""
    outcomes.consumers = {}
    for queue in QUEUES:
        rows = [pairs(row) for row in await bus.call("XINFO", "CONSUMERS", keys.tools(queue), WORKERS_GROUP)]
        beats = await living(bus, [keys.worker(row["name"]) for row in rows])
        outcomes.consumers[queue] = (sum(beats), len(rows))
    return all(found == (workers, workers) for found in outcomes.consumers.values())


def _start(asked: Storm) -> BaseProcess:
    # Forked from one that has loaded everything: a slow machine would take longer to start workers than to kill them.
    worker = _PROCESSES.Process(target=main, args=(asked.folder, asked.url, asked.prefix), daemon=True)
    worker.start()
    return worker


def _send(worker: BaseProcess, number: signal.Signals) -> None:
    if worker.pid is not None and worker.is_alive():
        os.kill(worker.pid, number)


async def _rage(asked: Storm, workers: list[BaseProcess], chance: random.Random, outcomes: Outcomes) -> None:
    thaws: set[asyncio.Task[None]] = set()
    still: set[BaseProcess] = set()

    async def thaw(frozen: BaseProcess) -> None:
        await asyncio.sleep(FREEZE_S)
        still.discard(frozen)
        _send(frozen, signal.SIGCONT)

    try:
        while True:
            await asyncio.sleep(asked.every_s)
            number = chance.randrange(len(workers))
            victim = workers[number]
            if victim in still or chance.random() < 0.5:
                victim.kill()
                await asyncio.to_thread(victim.join)
                outcomes.killed += 1
                workers[number] = _start(asked)
            else:
                _send(victim, signal.SIGSTOP)
                still.add(victim)
                outcomes.frozen += 1
                thaws.add(asyncio.create_task(thaw(victim), name="thaw"))
    finally:
        for task in thaws:
            task.cancel()
        await asyncio.gather(*thaws, return_exceptions=True)


def _read(asked: Storm, outcomes: Outcomes) -> None:
    for name, counts in (("starts", outcomes.starts), ("effects", outcomes.effects)):
        file = asked.folder / name
        if file.exists():
            counts.update(line.partition(" ")[0] for line in file.read_text().splitlines())
    # The file is the effect: whoever makes one that is there already has none.
    outcomes.effects.update(file.name for file in (asked.folder / "booked").iterdir())
