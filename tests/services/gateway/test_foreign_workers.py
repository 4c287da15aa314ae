"""Workers of other teams, in other languages and without Voicebus: the examples of the contract, as processes."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from services.gateway.clients import TestClient, native
from services.gateway.conftest import Gateways
from support.node import node
from support.servers import RedisServer
from support.tool_calls import Caller, calling
from support.waiting import wait_until
from voicebus import ToolWorker, function_tool
from voicebus.adapters.redis import consumer
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import Outcome

pytestmark = pytest.mark.timeout(120)

EXAMPLES = Path(__file__).parents[3] / "examples" / "workers"
QUEUE = "depot"
BASIC = ["basic_worker.py", "basic_worker.mjs"]
ALL = [*BASIC, "full_worker.py"]


@dataclass
class Worker:
    """A process of an example; `said` is what it wrote."""

    process: asyncio.subprocess.Process
    said: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"-{self.process.pid}-"

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(30):
            return await self.process.wait()


Workers = Callable[..., AbstractAsyncContextManager[Worker]]


@pytest.fixture
def python_path(tmp_path: Path) -> Path:
    """Where redis-py is and nothing else of ours."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "redis").symlink_to(Path(redis_py.__file__).parent)
    return folder


@pytest.fixture
def workers(redis_url: str, stream_prefix: str, python_path: Path) -> Workers:
    @asynccontextmanager
    async def start(program: str, *, name: str | None = None, url: str = redis_url) -> AsyncIterator[Worker]:
        # -S: no site-packages, so no Voicebus.
        command = [node().path] if program.endswith(".mjs") else [sys.executable, "-S"]
        environment = {
            "PATH": os.environ["PATH"], "PYTHONPATH": str(python_path), "REDIS_URL": url,
            "VOICEBUS_STREAM_PREFIX": stream_prefix, **({"WORKER": name} if name else {}),
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *command,
            EXAMPLES / program,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        worker = Worker(process)

        async def listen() -> None:
            assert process.stdout is not None
            async for line in process.stdout:
                worker.said.append(line.decode())

        listening = asyncio.create_task(listen(), name=f"output of {program}")
        try:
            yield worker
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            await listening
            print("".join(worker.said))

    return start


async def registered(caller: Caller, *names: str) -> dict[str, Any]:
    """The registration of `stock`, once these workers are in it."""

    async def look() -> dict[str, Any] | None:
        text = await caller.bus.call("HGET", caller.keys.registry_tools, "stock")
        known: dict[str, Any] = json.loads(text or "{}")
        there = known.get("workers", ())
        return known if all(any(name in worker for worker in there) for name in names) and there else None

    found: dict[str, Any] | None = await wait_until(look, description="the registration", timeout=30)
    assert found is not None
    return found


async def offered(client: TestClient) -> None:
    while True:
        event = (await client.until("raw_model_event"))["event"]
        if event["type"] == "session.updated" and "stock" in [tool["name"] for tool in event["session"]["tools"]]:
            return


def test_the_examples_need_nothing_of_ours(python_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(python_path)}
    for package, found in (("redis", True), ("voicebus", False), ("pydantic", False)):
        command = [sys.executable, "-S", "-c", f"import {package}"]
        ran = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert (ran.returncode == 0) is found, (package, ran.stderr)


# --- every one of them ----------------------------------------------------------------------------


@pytest.mark.parametrize("program", ALL)
async def test_a_worker_that_loses_redis_says_so_and_ends(program: str, workers: Workers, stream_prefix: str) -> None:
    """It must not stay, beat and read nothing."""
    keys = Keys(stream_prefix)
    with RedisServer() as server:
        async with calling(server.url, keys) as caller, workers(program, url=server.url) as worker:
            await registered(caller)
            server.kill()
            async with asyncio.timeout(60):
                assert await worker.process.wait() == 1
            await wait_until(lambda: any("worker ends: " in line for line in worker.said), description="why")


@pytest.mark.parametrize("program", ALL)
async def test_a_conversation_that_goes_on_gets_its_tool_and_calls_it(
    gateways: Gateways, workers: Workers, program: str
) -> None:
    async with gateways("support.depot") as gateway, native(gateway, "?agent=keeper&raw=1") as client:
        async with workers(program) as worker:
            await offered(client)
            text = '[[call: stock {"item": "bolts"}]][[next]][[say: {outputs}]]'
            await client.send("send_message", text=text)
            heard = await client.until("item_recorded", role="assistant")
            assert heard["text"] == "50 bolts in stock"
            assert await worker.end(signal.SIGTERM) == 0
        [end] = client.events("tool_end")
        assert (end["tool"], end["outcome"]) == ("stock", "ok")


@pytest.mark.parametrize("program", ALL)
async def test_what_a_worker_cannot_run_is_never_lost(
    caller: Caller, workers: Workers, redis_url: str, keys: Keys, program: str
) -> None:
    """A tool that it lacks reaches who has it, a newer contract version the dead letters, an error the model."""

    @function_tool(queue=QUEUE)
    async def move() -> str:
        """Move things."""
        return "moved"

    stream = keys.tools(QUEUE)
    async with workers(program) as worker:
        await registered(caller)
        async with ToolWorker([move], redis_url=redis_url, stream_prefix=keys.prefix):
            for n in range(5):
                caller.call("move", call_id=f"m{n}", queue=QUEUE)
            assert {(await caller.result(f"m{n}")).output for n in range(5)} == {"moved"}
        await caller.bus.call("XADD", stream, "*", "v", "2", "id", "new", "type", "tool.call", "data", "{}")
        caller.call("stock", '{"wrong": 1}', call_id="wrong", queue=QUEUE)
        assert (await caller.result("wrong")).outcome is Outcome.ERROR
        [fields] = [each for each in await caller.stream(stream) if '"wrong"' in each["data"]]
        late = {**fields, "id": "late", "deadline": "1", "data": fields["data"].replace('"wrong"', '"late"')}
        await caller.bus.call("XADD", stream, "*", *(text for pair in late.items() for text in pair))
        assert (await caller.result("late")).outcome is Outcome.EXPIRED

        async def letters() -> list[dict[str, Any]]:
            return await caller.stream(keys.dead(QUEUE))

        [letter] = await wait_until(letters, description="the dead letter")
        assert (letter["id"], letter["reason"]) == ("new", "unsupported_version")

        async def quiet() -> bool:
            return await caller.pending(stream) == 0

        await wait_until(quiet, description="every acknowledgement")
        assert await worker.end(signal.SIGTERM) == 0


# --- the basic level ------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ALL)
async def test_an_entry_that_cannot_be_read_or_answered_ends_no_worker(
    caller: Caller, workers: Workers, keys: Keys, program: str
) -> None:
    stream = keys.tools(QUEUE)
    call = {"call_id": "c0", "tool": "stock", "arguments": '{"item": "nuts"}', "agent": "desk", "reply_to": "no stream"}
    whole = {"v": "1", "id": "m", "type": "tool.call", "session": "s1", "epoch": "1", "at": "1", "data": "[]"}
    addressed = json.dumps({**call, "reply_to": caller.inbox.stream})
    unreadable = [
        whole,
        {**whole, "data": "{}"},
        {**whole, "data": json.dumps(call)},
        {"v": "1", "data": addressed},
        {**whole, "deadline": "soon", "data": addressed[:-1]},
    ]
    await caller.bus.call("SET", "no stream", "1")
    async with workers(program) as worker:
        await registered(caller)
        for entry in unreadable:
            await caller.bus.call("XADD", stream, "*", *(text for pair in entry.items() for text in pair))
        caller.call("stock", '{"item": "nuts"}', queue=QUEUE)
        assert (await caller.result()).outcome is Outcome.OK

        async def acknowledged() -> bool:
            return await caller.pending(stream) == 0

        await wait_until(acknowledged, description="every acknowledgement")
        assert [letter["reason"] for letter in await caller.stream(keys.dead(QUEUE))] == ["malformed"] * len(unreadable)
        assert await worker.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("program", BASIC)
async def test_a_call_that_an_earlier_run_may_have_begun_is_reported_as_unknown(
    caller: Caller, workers: Workers, keys: Keys, program: str
) -> None:
    stream = keys.tools(QUEUE)
    caller.call("stock", '{"item": "bolts"}', queue=QUEUE)
    await wait_until(lambda: caller.stream(stream), description="the call")
    await caller.bus.call("XGROUP", "CREATE", stream, "workers", "0")
    await caller.bus.call("XREADGROUP", "GROUP", "workers", "again", "STREAMS", stream, ">")
    async with workers(program, name="again"):
        assert (await caller.result()).outcome is Outcome.UNKNOWN


async def test_what_a_dead_basic_worker_holds_is_reported_by_another_after_its_time(
    caller: Caller, redis_url: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "CLAIM_IDLE_MS", 300)

    @function_tool(queue=QUEUE)
    async def stock(item: str) -> str:
        """Tell what there is."""
        return item

    stream = keys.tools(QUEUE)
    caller.call("stock", '{"item": "bolts"}', queue=QUEUE)
    await wait_until(lambda: caller.stream(stream), description="the call")
    await caller.bus.call("XGROUP", "CREATE", stream, "workers", "0")
    await caller.bus.call("XREADGROUP", "GROUP", "workers", "depot-python", "STREAMS", stream, ">")
    async with ToolWorker([stock], redis_url=redis_url, stream_prefix=keys.prefix):
        assert (await caller.result()).outcome is Outcome.UNKNOWN


# --- the full level -------------------------------------------------------------------------------


async def test_the_calls_of_a_killed_worker_come_to_an_end_on_another(caller: Caller, workers: Workers) -> None:
    async with workers("full_worker.py") as first, workers("full_worker.py") as second:
        await registered(caller, first.name, second.name)
        caller.call("stocktake", '{"seconds": 60}', call_id="once", queue=QUEUE, timeout_ms=90_000)
        started = await caller.started("once")
        killed = first if first.name in started.worker else second
        await killed.end(signal.SIGKILL)
        result = await caller.result("once")
        assert result.outcome is Outcome.UNKNOWN, "not marked idempotent: it must not start again"
        assert killed.name not in result.worker


async def test_a_long_call_stays_with_its_worker_and_can_be_cancelled(
    caller: Caller, workers: Workers, redis_url: str, keys: Keys
) -> None:
    @function_tool(queue=QUEUE)
    async def other() -> str:
        """Do something else."""
        return "other"

    async with workers("full_worker.py") as worker:
        await registered(caller, worker.name)
        async with ToolWorker([other], redis_url=redis_url, stream_prefix=keys.prefix):
            caller.call("stocktake", '{"seconds": 4}', queue=QUEUE, timeout_ms=60_000)
            started = await caller.started()
            assert worker.name in started.worker
            assert (await caller.result()).output == "everything is there"
            caller.call("stocktake", '{"seconds": 60}', call_id="c2", queue=QUEUE, timeout_ms=90_000)
            started = await caller.started("c2")
            caller.cancel("c2", queue=QUEUE, worker=started.worker)
            assert (await caller.result("c2")).outcome is Outcome.CANCELLED


async def test_a_call_published_twice_takes_effect_once_and_is_answered_twice(caller: Caller, workers: Workers) -> None:
    async with workers("full_worker.py"):
        await registered(caller)
        caller.call("stock", '{"item": "nuts"}', queue=QUEUE)
        first = await caller.result()
        caller.call("stock", '{"item": "nuts"}', queue=QUEUE)
        await wait_until(lambda: len(caller.results()) == 2, description="the second answer")
        assert {result.output for result in caller.results()} == {first.output}
        assert len([entry for entry in caller.received if entry.type == "tool.started"]) == 1


async def test_copies_of_a_call_that_runs_wait_for_its_result_and_start_nothing(
    caller: Caller, workers: Workers, keys: Keys
) -> None:
    async with workers("full_worker.py") as worker:
        await registered(caller, worker.name)
        for _ in range(3):
            caller.call("stocktake", '{"seconds": 60}', queue=QUEUE, timeout_ms=90_000)
        stream = keys.tools(QUEUE)

        async def has_all() -> bool:
            return await caller.pending(stream) == 3

        await wait_until(has_all, description="all copies to be with the worker")
        caller.cancel(queue=QUEUE, worker=(await caller.started()).worker)

        async def is_through() -> bool:
            return len(caller.results()) == 3 and await caller.pending(stream) == 0

        await wait_until(is_through, description="an answer to each copy", timeout=30)
        assert {result.outcome for result in caller.results()} == {Outcome.CANCELLED}
        assert len([entry for entry in caller.received if entry.type == "tool.started"]) == 1
