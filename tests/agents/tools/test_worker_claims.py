"""Calls that are claimed as they are delivered: what a worker makes of them, and what becomes of them without it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from agents.tools.test_worker import Blocking, add, key
from support.cutting_proxy import CuttingProxy, cutting_proxy
from support.spans import TRACEPARENT, collected_spans
from support.tool_calls import Caller, worker
from support.waiting import wait_until
from voicebus import function_tool
from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.dispatch import new_entry
from voicebus.adapters.redis.new_calls import MOST, NewCalls
from voicebus.adapters.redis.scripts import APPEND, CLAIM, CLAIM_NEW, Script
from voicebus.agents.tools.limits import Turns
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import TOOL_CALL, Outcome, ToolCall
from voicebus.errors import BusError
from voicebus.ports import SessionRef


@pytest.fixture
async def network(redis_url: str) -> AsyncIterator[CuttingProxy]:
    """What lies between one worker and Redis."""
    async with cutting_proxy(urlsplit(redis_url).port or 6379) as proxy:
        yield proxy


@dataclass
class Held:
    """Reads of calls that are held up once what they brought is claimed, until they may `go`; then they are `lost`, or
    not."""

    claimed: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    lost: bool = False


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    found, read = Held(), NewCalls.read

    async def held_up(self: NewCalls, *command: Any, **about: Any) -> Any:
        reply, claims = await read(self, *command, **about)
        if claims and not found.go.is_set():
            await asyncio.wait(claims.values())
            found.claimed.set()
            await found.go.wait()
            if found.lost:
                raise BusError("the connection broke")
        return reply, claims

    monkeypatch.setattr(NewCalls, "read", held_up)
    return found


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scripts that are run by commands of their own."""
    names: list[str] = []
    script = RedisConnection.script

    def noted(self: RedisConnection, run: Script, keys: list[str], *arguments: str | int) -> Any:
        names.append(run.name)
        return script(self, run, keys, *arguments)

    monkeypatch.setattr(RedisConnection, "script", noted)
    return names


async def reading(caller: Caller, readers: int = 1) -> None:
    """Wait until so many workers wait for calls."""

    async def read() -> bool:
        clients = await caller.bus.call("CLIENT LIST")
        waiting = [one for one in clients if "b" in one["flags"] and one["cmd"].startswith("xreadgroup")]
        return len(waiting) == readers

    await wait_until(read, description=f"{readers} workers that wait for calls")


async def starts(caller: Caller, call_id: str = "c1") -> int:
    history = await caller.bus.call("HGET", caller.keys.call("default", "s1", call_id), "history")
    return len((history or "").splitlines())


async def test_a_lone_call_is_run_without_a_claim_of_its_own(
    redis_url: str, keys: Keys, caller: Caller, run: list[str]
) -> None:
    async with worker(redis_url, keys, add):
        await reading(caller)
        for number in range(3):
            caller.call("add", f'{{"a": {number}, "b": 3}}', call_id=f"c{number}")
            assert (await caller.result(f"c{number}")).output == str(number + 3)
            assert await starts(caller, f"c{number}") == 1
            await reading(caller)
    assert "claim" not in run


async def test_a_call_of_a_tool_with_a_limit_is_claimed_once_it_has_its_turn(
    redis_url: str, keys: Keys, caller: Caller, run: list[str]
) -> None:
    go = asyncio.Event()

    @function_tool(queue="default", concurrency=1)
    async def wait() -> str:
        """Wait."""
        await go.wait()
        return "done"

    async with worker(redis_url, keys, wait):
        await reading(caller)
        caller.call("wait")
        await caller.started()
        caller.call("wait", call_id="c2")

        async def delivered() -> bool:
            return await caller.pending(keys.tools("default")) == 2

        await wait_until(delivered, description="the second call to wait for its turn")
        assert await caller.bus.call("EXISTS", keys.call("default", "s1", "c2")) == 0
        go.set()
        assert (await caller.result("c2")).outcome is Outcome.OK
    assert run.count("claim") == 2


@pytest.mark.parametrize(("idempotent", "outcome"), [(False, Outcome.UNKNOWN), (True, Outcome.OK)])
async def test_a_worker_that_is_killed_between_the_claim_and_the_start(
    redis_url: str, keys: Keys, caller: Caller, idempotent: bool, outcome: Outcome
) -> None:
    """A call that is not idempotent is reported as unknown, an idempotent one runs elsewhere."""
    dead, stream = "host-1-abcdef", keys.tools("default")
    caller.call("wait", idempotent=idempotent)
    await wait_until(lambda: caller.stream(stream), description="the call")
    await caller.bus.call("XGROUP", "CREATE", stream, "workers", "0")
    command = ("XREADGROUP", "GROUP", "workers", dead, "COUNT", 1, "BLOCK", 5_000, "STREAMS", stream, ">")
    arguments = ("workers", dead, "0-0", 4, 60_000, 60, keys.calls("default"), keys.inboxes, "\nwait 1\n")
    _, claimed = await caller.bus.read_then_run(command, CLAIM_NEW, [stream], *arguments)
    assert claimed is not None
    assert len(await claimed) == 2
    blocking = Blocking(idempotent=idempotent)
    blocking.go.set()
    async with worker(redis_url, keys, blocking.tool):
        assert (await caller.result()).outcome is outcome
    assert blocking.starts == (1 if idempotent else 0)


@pytest.mark.parametrize(("idempotent", "outcome"), [(False, Outcome.UNKNOWN), (True, Outcome.OK)])
async def test_a_worker_that_was_frozen_as_it_claimed_a_call_does_not_start_what_another_has_taken(
    redis_url: str,
    keys: Keys,
    caller: Caller,
    network: CuttingProxy,
    held: Held,
    idempotent: bool,
    outcome: Outcome,
) -> None:
    frozen, other = Blocking(idempotent=idempotent), Blocking(idempotent=idempotent)
    frozen.go.set()
    other.go.set()
    async with worker(f"redis://127.0.0.1:{network.port}", keys, frozen.tool):
        await reading(caller)
        caller.call("wait", idempotent=idempotent)
        await held.claimed.wait()
        assert await starts(caller) == 1
        network.freeze()
        async with worker(redis_url, keys, other.tool):
            assert (await caller.result()).outcome is outcome
            network.thaw()
            held.go.set()
            # It asks anew, and passes on what the other one has stored.
            await wait_until(lambda: len(caller.results()) == 2, description="the answer of the one that was frozen")
    assert [result.outcome for result in caller.results()] == [outcome, outcome]
    assert (frozen.starts, other.starts) == (0, 1 if idempotent else 0)


async def test_a_worker_that_was_frozen_while_it_waited_has_claimed_nothing(
    redis_url: str, keys: Keys, caller: Caller, network: CuttingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that another one may run the call that was delivered to it."""
    monkeypatch.setattr("voicebus.runtime.consumer.BLOCK_MS", 5_000)
    frozen, other = Blocking(), Blocking()
    frozen.go.set()
    other.go.set()
    async with worker(f"redis://127.0.0.1:{network.port}", keys, frozen.tool):
        await reading(caller)
        network.freeze()
        caller.call("wait")

        async def delivered() -> bool:
            return await caller.pending(keys.tools("default")) == 1

        await wait_until(delivered, description="the call to be delivered to the one that is frozen")
        async with worker(redis_url, keys, other.tool):
            assert (await caller.result()).outcome is Outcome.OK
            network.thaw()
            await wait_until(lambda: len(caller.results()) == 2, description="the answer of the one that was frozen")
    assert [result.outcome for result in caller.results()] == [Outcome.OK, Outcome.OK]
    assert (frozen.starts, other.starts) == (0, 1)


async def test_a_call_whose_delivery_was_lost_with_its_connection_is_started_once(
    redis_url: str, keys: Keys, caller: Caller, held: Held
) -> None:
    blocking = Blocking()
    blocking.go.set()
    held.lost = True
    async with worker(redis_url, keys, blocking.tool):
        caller.call("wait")
        await held.claimed.wait()
        held.go.set()
        assert (await caller.result()).outcome is Outcome.OK
    assert blocking.starts == 1


async def test_a_call_that_was_claimed_for_a_tool_which_the_worker_has_no_more_runs_on_another(
    redis_url: str, keys: Keys, caller: Caller, run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As for a worker that has changed its tools while it waits for calls, and this all the time.
    monkeypatch.setattr(Turns, "unlimited", lambda self: {"add": "1", "key": "1"})
    async with worker(redis_url, keys, key), worker(redis_url, keys, add) as has:
        for number in range(20):
            await reading(caller, readers=2)
            caller.call("add", f'{{"a": {number}, "b": 1}}', call_id=f"c{number}")
            assert (await caller.result(f"c{number}")).output == str(number + 1)
        assert {caller.results(f"c{number}")[0].worker for number in range(20)} == {has.id}
        assert "release" in run


async def test_a_claim_that_has_grown_old_is_asked_for_again(
    redis_url: str, keys: Keys, caller: Caller, run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a tool has blocked the event loop meanwhile: the call may be over its deadline, or another worker's."""
    read = NewCalls.read

    async def long_ago(self: NewCalls, *command: Any, **about: Any) -> Any:
        reply, claims = await read(self, *command, **about)
        old = {entry_id: asyncio.get_running_loop().create_future() for entry_id in claims}
        for entry_id, claim in claims.items():
            claimed_at = await claim
            old[entry_id].set_result(None if claimed_at is None else claimed_at - 1_600)
        return reply, old

    monkeypatch.setattr(NewCalls, "read", long_ago)
    async with worker(redis_url, keys, add):
        await reading(caller)
        caller.call("add", '{"a": 1, "b": 1}')
        assert (await caller.result()).output == "2"
    assert run.count("claim") == 1


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("times", [2, MOST + 1])  # the first is claimed as it comes; all are claimed together
async def test_a_call_that_comes_several_times_at_once_runs_once(
    redis_url: str, keys: Keys, caller: Caller, traced: bool, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocking = Blocking()
    session = SessionRef("s1", 1, TRACEPARENT)
    call = ToolCall(call_id="c1", tool="wait", arguments="{}", agent="greeter", reply_to=caller.inbox.stream)
    copies = [new_entry(session, TOOL_CALL, call, caller.clock).sealed().flat() for _ in range(times)]
    counted: list[str | int] = []
    for flat in copies:
        counted += [len(flat), *flat]

    async def all_others_are_done() -> bool:
        return await caller.pending(keys.tools("default")) == 1

    with collected_spans(monkeypatch) if traced else nullcontext() as spans:
        async with worker(redis_url, keys, blocking.tool):
            await reading(caller)
            await caller.bus.call("SCRIPT LOAD", CLAIM.text)  # else it is run for one after the other, this time
            await caller.bus.script(APPEND, [keys.tools("default")], *counted)
            await wait_until(all_others_are_done, description="all others to be recognised")
            blocking.go.set()
            assert (await caller.result()).outcome is Outcome.OK
        assert spans is None or spans.get_finished_spans()
    assert blocking.starts == 1


async def test_a_call_that_is_cancelled_as_it_is_claimed_does_not_start(
    redis_url: str, keys: Keys, caller: Caller, held: Held
) -> None:
    blocking = Blocking()
    held.lost = True
    async with worker(redis_url, keys, blocking.tool):
        caller.call("wait")
        await held.claimed.wait()
        caller.cancel()
        record = keys.call("default", "s1", "c1")

        async def marked() -> bool:
            return bool(await caller.bus.call("HEXISTS", record, "cancelled"))

        await wait_until(marked, description="the cancel")
        held.go.set()
        assert (await caller.result()).outcome is Outcome.CANCELLED
    assert blocking.starts == 0
