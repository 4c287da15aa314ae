"""`make chaos-archive`: calls through a cluster whose processes are killed at random, PostgreSQL and Redis among them.

Afterwards the archive is compared with what callers heard and with what the simulated model says that it said. Prints
what came of the storm; exit status 1 where a promise was broken.
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import redis.asyncio as aioredis

from support.callers import Caller, calling, fetch
from support.cluster import ClusterUnderTest, Service, running_cluster
from support.servers import PostgresServer, RedisServer
from support.waiting import wait_until
from voicebus.errors import RemoteError
from voicebus_services.dev.processes import ChildError

TARGETS: Final = ("support.storm_desk",)
WORDS: Final = "one two three four five six seven eight nine ten eleven twelve"

KINDS: Final = ("gateway", "transcript-archiver", "postgresql", "redis", "archiver and postgresql", "tool-worker")
_SERVERS_DOWN_S: Final = (0.2, 2.0)
_PATIENCE_S: Final = 90.0
_WITH_TOOL: Final = 0.4


@dataclass
class ArchiveStorm:
    """`calls` calls of `turns` turns, `at_once` at a time; every `every_s` something is killed: `fates` in this order,
    else at random. Each `crash_every`-th caller vanishes in the middle and never comes back.
    """

    calls: int = 200
    turns: int = 3
    at_once: int = 16
    every_s: float = 2.0
    crash_every: int = 6
    grace_s: float = 20.0
    seed: int = 1
    fates: Sequence[str] = ()


@dataclass
class Call:
    """What one caller knows of its call."""

    number: int
    vanishes: bool
    session: str = ""
    answered: list[int] = field(default_factory=list)
    """The turns whose answers were heard to their end."""
    said: list[int] = field(default_factory=list)
    failed: str = ""
    recorded: dict[str, tuple[str, str]] = field(default_factory=dict)

    def turn(self, number: int) -> str:
        return f"c{self.number}t{number}"

    def answer(self, number: int) -> str:
        return f"{self.turn(number)} {WORDS}"


@dataclass
class Outcomes:
    """What came of it."""

    calls: list[Call] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    found: dict[str, Any] = field(default_factory=dict)
    """The transcripts, by session."""
    ledger: list[dict[str, Any]] = field(default_factory=list)
    dead_letters: int = 0
    seconds: float = 0.0

    def problems(self) -> list[str]:
        """What must not be, each in a sentence; empty where all promises were kept."""
        found = [f"call {call.number} failed: {call.failed}" for call in self.calls if call.failed]
        said = _completed(self.ledger)
        for call in self.calls:
            if call.session:
                found += [f"call {call.number} ({call.session}): {why}" for why in self._wrong(call, said)]
        if self.dead_letters:
            found.append(f"{self.dead_letters} events are among the dead letters")
        strangers = self.found.keys() - {call.session for call in self.calls}
        return found + [f"nobody held the archived session {session}" for session in sorted(strangers)]

    def _wrong(self, call: Call, said: Mapping[str, int]) -> list[str]:
        archived = self.found.get(call.session)
        if archived is None:
            return ["it is not in the archive"]
        wrong = list(_marks(call, archived))
        if archived["gaps"]:
            wrong.append(f"gaps {archived['gaps']}")
        messages = [item for item in archived["items"] if item["type"] == "message"]
        twice = [each for each, count in Counter(item["item_id"] for item in messages).items() if count > 1]
        if twice:
            wrong.append(f"items {twice} are there twice")
        lines = {item["item_id"]: (item["role"], item["text"]) for item in messages}
        for item_id, line in call.recorded.items():
            # A gateway that dies while Redis is away takes its last records along: they are made anew, once.
            if line != lines.get(item_id, line) or line not in lines.values():
                wrong.append(f"the caller was told {line}, the archive has {lines.get(item_id)}")
        asked = [item["text"] for item in messages if item["role"] == "user"]
        for turn in call.said:
            times = sum(text.startswith(f"{call.turn(turn)} ") for text in asked)
            if times != 1 and (turn in call.answered or times):
                wrong.append(f"turn {turn} of the user is there {times} times")
        whole = Counter(item["text"] for item in messages if item["role"] == "assistant" and not item["truncated"])
        for turn in call.said:
            answer = call.answer(turn)
            if whole[answer] != (turn in call.answered) and not (call.vanishes and turn not in call.answered):
                wrong.append(f"the answer of turn {turn} is there {whole[answer]} times")
            if whole[answer] > said.get(answer, 0):
                wrong.append(f"the model never said {answer!r} to its end")
        texts = [item["text"] for item in messages if item["role"] == "assistant" and not item["truncated"]]
        if texts != [call.answer(turn) for turn in call.said if whole[call.answer(turn)]]:
            wrong.append(f"the answers stand in another order: {texts}")
        unknown = whole.keys() - {call.answer(turn) for turn in call.said}
        if unknown:
            wrong.append(f"nobody said {sorted(unknown)}")
        wrong += [
            f"{item['text']!r} was cut off, and is no beginning of an answer"
            for item in messages
            if item["role"] == "assistant" and item["truncated"]
            and not any(call.answer(turn).startswith(item["text"].strip()) for turn in call.said)
        ]  # fmt: skip
        calls = [item for item in archived["items"] if item["type"] == "tool_call"]
        for item in calls:
            if item["outcome"] is None:
                wrong.append(f"the tool call {item['call_id']} has no outcome")
            elif item["outcome"] != "ok" and not call.vanishes:
                wrong.append(f"the tool call {item['call_id']} came to {item['outcome']}: {item}")
        return wrong

    def __str__(self) -> str:
        marks = Counter(found["status"] for found in self.found.values())
        cut = sum(item["truncated"] or 0 for found in self.found.values() for item in found["items"])
        return (
            f"{len(self.calls)} calls in {self.seconds:.0f} s, killed {dict(self.kills)}, archived {dict(marks)}, "
            f"{sum(len(call.answered) for call in self.calls)} turns answered, {cut} answers cut off"
        )


def _marks(call: Call, archived: Mapping[str, Any]) -> list[str]:
    """What is wrong with how the archive says that a call ended."""
    status, reason = archived["status"], archived["end_reason"]
    if call.vanishes:
        fine = (status, reason) in {("interrupted", "interrupted"), ("ended", "hangup")}
        return [] if fine else [f"its caller vanished, and it is {status} ({reason})"]
    return [] if (status, reason) == ("ended", "ended") else [f"its caller hung up, and it is {status} ({reason})"]


def _completed(ledger: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """What the model has said to its end, and how often."""
    return Counter(
        line["text"]
        for session in ledger
        for line in session["lines"]
        if line["speaker"] == "agent" and line.get("status") == "completed"
    )


class FrontDoor:
    """The public address of the services of one command: connects to any of them that listens."""

    def __init__(self, cluster: ClusterUnderTest, command: str, chance: random.Random) -> None:
        self._cluster = cluster
        self._command = command
        self._chance = chance
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.url = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator["FrontDoor"]:
        """Listen until the end of the block, or until it is shut."""
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            await self.shut()

    async def shut(self) -> None:
        """Let nobody in any more, and drop every connection without a closing handshake."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await server.wait_closed()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name="front-door")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind = await self._connect()
            if behind is None:
                return
            there, upstream = behind
            try:
                await asyncio.gather(_pump(reader, upstream), _pump(there, writer))
            finally:
                upstream.close()
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        services = list(self._cluster.services.get(self._command, ()))
        for service in self._chance.sample(services, len(services)):
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", service.http_port)
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()


class _Rage:
    """Kills, and starts again what was killed."""

    def __init__(
        self,
        asked: ArchiveStorm,
        cluster: ClusterUnderTest,
        redis: RedisServer,
        postgres: PostgresServer,
        outcomes: Outcomes,
        chance: random.Random,
    ) -> None:
        self._asked = asked
        self._cluster = cluster
        self._servers = {"redis": redis, "postgresql": postgres}
        self._outcomes = outcomes
        self._chance = chance
        self._raised: set[asyncio.Task[None]] = set()
        self._down: set[str] = set()

    async def run(self) -> None:
        """Until cancelled, or until all `fates` that were asked for have come."""
        fates = list(self._asked.fates)
        while True:
            await asyncio.sleep(self._asked.every_s * self._chance.uniform(0.7, 1.3))
            if fates:
                await self._strike(fates.pop(0))
            elif self._asked.fates:
                return
            else:
                await self._strike(self._chance.choice(KINDS))

    async def settle(self) -> None:
        """Everything runs again."""
        await asyncio.gather(*self._raised)

    async def _strike(self, kind: str) -> None:
        struck: list[Awaitable[None]] = []
        if kind in ("transcript-archiver", "archiver and postgresql"):
            struck.append(self._kill_service("transcript-archiver"))
        if kind in ("gateway", "tool-worker"):
            struck.append(self._kill_service(kind))
        servers = [name for name in self._servers if name in kind and name not in self._down]
        struck += [self._kill_server(name) for name in servers]
        await asyncio.gather(*struck)

    async def _kill_service(self, command: str) -> None:
        services = self._cluster.services[command]
        running = [service for service in services if service.child.running]
        if not running:
            return
        victim: Service = self._chance.choice(running)
        services.remove(victim)
        self._outcomes.kills[command] += 1
        victim.signal(signal.SIGKILL)
        await victim.child.wait()
        await victim.child.stop()
        self._later(self._again(command))

    async def _again(self, command: str) -> None:
        """As Kubernetes does: started until it runs."""
        while True:
            try:
                await self._cluster.start(command)
            except ChildError:  # Redis or the database are away
                services = self._cluster.services[command]
                failed = [each for each in services if not each.child.running]
                services[:] = [each for each in services if each.child.running]
                for service in failed:
                    await service.child.stop()
                await asyncio.sleep(0.3)
            else:
                return

    async def _kill_server(self, name: str) -> None:
        server = self._servers[name]
        self._down.add(name)
        self._outcomes.kills[name] += 1
        await asyncio.to_thread(server.kill)

        async def again() -> None:
            await asyncio.sleep(self._chance.uniform(*_SERVERS_DOWN_S))
            await asyncio.to_thread(server.start)
            self._down.discard(name)

        self._later(again())

    def _later(self, work: Any) -> None:
        task = asyncio.create_task(work, name="start again")
        self._raised.add(task)


async def storm(asked: ArchiveStorm) -> Outcomes:
    """Raise it, wait until every call has ended in the archive, and read that."""
    chance, outcomes = random.Random(asked.seed), Outcomes()
    async with AsyncExitStack() as stack:
        # What the servers have confirmed they keep, also on a disk that takes seconds to sync. There, with `everysec`,
        # what Redis loses may be gone with the gateway that is killed next (docs/operations.md).
        redis = stack.enter_context(RedisServer(persistent=True, arguments=("--appendfsync", "always")))
        postgres = stack.enter_context(PostgresServer(durable=True))
        cluster = await stack.enter_async_context(
            running_cluster(
                redis_url=redis.url,
                database_url=postgres.url,
                stream_prefix="vb",
                targets=TARGETS,
                gateways=2,
                archivers=2,
                tool_workers=2,
                simulator=("--ledger", "--pace", "4"),
                resume_grace=f"{asked.grace_s:g}s",
                log_level="error",
            )
        )
        began = time.monotonic()
        reading = FrontDoor(cluster, "transcript-archiver", random.Random(asked.seed))
        await stack.enter_async_context(reading.open())
        rage = _Rage(asked, cluster, redis, postgres, outcomes, chance)
        raging = asyncio.create_task(rage.run(), name="rage")
        try:
            room = asyncio.Semaphore(asked.at_once)
            outcomes.calls = [Call(number, number % asked.crash_every == 1) for number in range(asked.calls)]

            async def held(call: Call) -> None:
                async with room:
                    try:
                        chance = random.Random(f"{asked.seed} {call.number}")
                        async with FrontDoor(cluster, "gateway", chance).open() as door:
                            await _hold(call, asked, door, chance)
                    except (AssertionError, RemoteError, TimeoutError) as error:
                        call.failed = f"{type(error).__name__}: {error}"[:2000]

            await asyncio.gather(*(held(call) for call in outcomes.calls))
            if asked.fates:
                await asyncio.wait({raging})
        finally:
            raging.cancel()
            (fault,) = await asyncio.gather(raging, return_exceptions=True)
        if isinstance(fault, Exception):
            raise fault  # a storm that abates by itself is none
        await rage.settle()
        for call in outcomes.calls:
            if call.session:
                found = await _finished(reading.url, call.session, asked.grace_s)
                if found is not None:
                    outcomes.found[call.session] = found
        outcomes.ledger = (await fetch(f"{cluster.simulator.url}/ledger"))["data"]
        outcomes.dead_letters = int(await _dead_letters(redis))
        outcomes.seconds = time.monotonic() - began
    return outcomes


async def _dead_letters(redis: RedisServer) -> int:
    async with aioredis.from_url(redis.url) as bus:
        return int(await bus.xlen("vb:dead:{events}"))


async def _finished(url: str, session: str, grace_s: float) -> Any:
    """The transcript once it is over and has no gap that is looked into; as it is after the time for that."""
    last: Any = None

    async def over() -> bool:
        nonlocal last
        try:
            last = await fetch(f"{url}/v1/transcripts/{session}")
        except OSError:
            return False
        return bool(last and last["status"] != "active")

    with contextlib.suppress(AssertionError):
        await wait_until(over, description="the end", timeout=grace_s + 30, interval=0.2)
    return last


async def _hold(call: Call, asked: ArchiveStorm, door: FrontDoor, chance: random.Random) -> None:
    """One call: its turns one after the other, each until its answer was heard to its end.

    A caller who vanishes does so by `door`, which is its own then.
    """
    async with AsyncExitStack() as stack:
        caller = await _connected(call, stack, door.url)
        vanishing = chance.randrange(asked.turns) if call.vanishes else None
        for turn in range(asked.turns):
            call.said.append(turn)
            words = f"{call.turn(turn)} is said"
            if chance.random() < _WITH_TOOL:
                words += f" [[call: look_up {json.dumps({'word': call.turn(turn)})}]] [[next]]"
            await caller.conversation.say(f"{words} [[say: {call.answer(turn)}]]")
            if turn == vanishing:
                await asyncio.sleep(chance.uniform(0.0, 1.0))
                await door.shut()
                return
            await caller.until(partial(_heard, call.answer(turn)), f"the answer of turn {turn}", timeout=_PATIENCE_S)
            call.answered.append(turn)
        await caller.hangs_up()
        call.recorded = {event["item_id"]: (event["role"], event["text"]) for event in caller.of("item_recorded")}


def _heard(answer: str, caller: Caller) -> bool:
    said = [event for event in caller.of("item_recorded") if event["role"] == "assistant" and not event["truncated"]]
    return any(event["text"] == answer for event in said)


async def _connected(call: Call, stack: AsyncExitStack, url: str) -> Caller:
    """A caller; who finds nobody there tries again."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            caller = await stack.enter_async_context(calling(url))
        except (RemoteError, AssertionError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.3)
        else:
            call.session = caller.session
            return caller


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two kills, about")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    asked = ArchiveStorm(calls=given.calls, at_once=given.at_once, every_s=given.every, seed=given.seed)
    outcomes = asyncio.run(storm(asked))
    problems = outcomes.problems()
    print(outcomes)
    for problem in problems[:40]:
        print(f"  {problem}")
    print("kept" if not problems else f"BROKEN, {len(problems)} problems", flush=True)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
