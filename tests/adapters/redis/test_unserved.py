"""Calls whose workers are all gone: answered before their deadline, and not started by a worker that comes later."""

import asyncio
from typing import Any

import pytest

from support.tasks import running
from support.tool_calls import Caller
from support.waiting import wait_until
from voicebus import ToolWorker, function_tool
from voicebus.adapters.redis.dispatch import RedisToolDispatch
from voicebus.adapters.redis.heartbeat import new_incarnation
from voicebus.adapters.redis.unserved import GONE_S, UnservedCalls
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import Outcome, ToolResult
from voicebus.engine.outputs import DispatchTool


class Desk:
    """A gateway's calls, at a time that stands still."""

    def __init__(self, caller: Caller) -> None:
        self.now = 100.0
        self.caller = caller
        self.answers: list[Entry] = []
        self.tells_dead = True
        self.unserved = UnservedCalls(
            caller.bus, caller.keys, caller.clock, self.answers.append, tells_dead=self._tells_dead,
            monotonic=lambda: self.now,
        )  # fmt: skip
        self._dispatch = RedisToolDispatch(
            caller.bus, caller.tools._outbox, caller.clock, caller.keys, reply_to=caller.inbox.stream,
            following=self.unserved,
        )  # fmt: skip

    async def _tells_dead(self, heartbeat: str) -> bool:
        assert heartbeat.startswith(f"{self.caller.keys.prefix}:worker:")
        return self.tells_dead

    async def call(self, call_id: str) -> None:
        call = DispatchTool(call_id, "greet", "{}", "desk", "default", 60_000, idempotent=False)
        self._dispatch.dispatch(self.caller.session, call)
        await self.caller.tools._outbox.drain(5)

    async def after(self, seconds: float) -> list[tuple[str, Outcome, str]]:
        """What was answered by then, looking at the beginning and at the end."""
        await self.unserved.look()
        self.now += seconds
        await self.unserved.look()
        results = [ToolResult.of(entry) for entry in self.answers]
        return [(one.call_id, one.outcome, one.error.kind if one.error else "") for one in results]


async def _read(caller: Caller, consumer: str, count: int) -> None:
    stream = caller.keys.tools("default")
    await caller.bus.call("XGROUP", "CREATE", stream, "workers", "0", "MKSTREAM")
    await caller.bus.call("XREADGROUP", "GROUP", "workers", consumer, "COUNT", count, "STREAMS", stream, ">")


async def test_calls_of_a_queue_whose_workers_are_gone_are_answered_and_never_started_later(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    started: list[str] = []

    @function_tool(queue="default")
    async def greet() -> str:
        """Greet."""
        started.append("once")
        return "hello"

    desk = Desk(caller)
    await desk.call("ran")
    await desk.call("waits")
    await _read(caller, new_incarnation(), 1)
    await caller.bus.call("HSET", keys.call("default", "s1", "ran"), "state", "running", "worker", "gone-1-aaaaaa")
    await caller.bus.call("EXPIRE", keys.call("default", "s1", "ran"), 60)
    assert await desk.after(GONE_S - 1) == []
    assert sorted(await desk.after(2)) == [
        ("ran", Outcome.UNKNOWN, "no_worker"), ("waits", Outcome.ERROR, "no_worker"),
    ]  # fmt: skip
    assert "not run" in ToolResult.of(desk.answers[1]).output

    async def emptied() -> bool:
        return await caller.pending(keys.tools("default")) == 0 and len(caller.received) >= 2

    async with ToolWorker([greet], redis_url=redis_url, stream_prefix=keys.prefix):
        await wait_until(emptied, description="the worker to be done with both")
    assert started == []


@pytest.mark.parametrize("consumer", [None, "a-node-worker"])
async def test_a_queue_that_waits_for_its_first_worker_or_has_one_without_heartbeats_is_left_alone(
    caller: Caller, consumer: str | None
) -> None:
    desk = Desk(caller)
    await desk.call("c1")
    if consumer is not None:
        await _read(caller, consumer, 1)
    assert await desk.after(GONE_S + 5) == []


async def test_nobody_is_given_up_while_it_may_be_redis_that_stood_still(caller: Caller) -> None:
    desk = Desk(caller)
    await desk.call("c1")
    await _read(caller, new_incarnation(), 1)
    desk.tells_dead = False
    assert await desk.after(GONE_S + 1) == []
    desk.tells_dead = True
    assert await desk.after(GONE_S - 1) == []
    desk.tells_dead = False
    assert await desk.after(2) == []
    desk.tells_dead = True
    assert await desk.after(0) == [("c1", Outcome.ERROR, "no_worker")]


async def test_a_call_that_had_come_to_an_end_is_answered_with_its_result(keys: Keys, caller: Caller) -> None:
    desk = Desk(caller)
    await desk.call("c1")
    await _read(caller, new_incarnation(), 1)
    stored = ToolResult(call_id="c1", outcome=Outcome.OK, output="hello", worker="gone", duration_ms=1)
    record: list[Any] = [keys.call("default", "s1", "c1"), "state", "finished", "result", stored.model_dump_json()]
    await asyncio.gather(caller.bus.submit("HSET", *record), caller.bus.submit("EXPIRE", record[0], 60))
    assert await desk.after(GONE_S + 1) == [("c1", Outcome.OK, "")]


async def test_what_a_worker_has_stored_and_nobody_can_read_ends_nothing(keys: Keys, caller: Caller) -> None:
    desk = Desk(caller)
    await desk.call("c1")
    await _read(caller, new_incarnation(), 1)
    record: list[Any] = [keys.call("default", "s1", "c1"), "state", "finished", "result", '{"outcome": "fine"}']
    await asyncio.gather(caller.bus.submit("HSET", *record), caller.bus.submit("EXPIRE", record[0], 60))
    ((call_id, _, kind),) = await desk.after(GONE_S + 1)
    assert (call_id, kind) == ("c1", "no_worker")


async def test_a_call_that_was_answered_or_cancelled_is_not_answered_again(keys: Keys, caller: Caller) -> None:
    desk = Desk(caller)
    await desk.call("c1")
    await _read(caller, new_incarnation(), 1)
    desk.unserved.ended("s1", "c1")
    assert await desk.after(GONE_S + 1) == []


async def test_what_waits_while_redis_will_not_read_the_gateways_inbox_is_answered_at_once(
    keys: Keys, caller: Caller
) -> None:
    """With what is stored, where a worker was done with it; as unknown, where one had started it."""
    desk = Desk(caller)
    for call_id in ("done", "runs", "waits"):
        await desk.call(call_id)
    stored = ToolResult(call_id="done", outcome=Outcome.OK, output="hello", worker="w", duration_ms=1)
    for call_id, *about in (
        ("done", "state", "finished", "result", stored.model_dump_json()),
        ("runs", "state", "running", "worker", "host-1-aaaaaa"),
    ):
        key = keys.call("default", "s1", call_id)
        await asyncio.gather(caller.bus.submit("HSET", key, *about), caller.bus.submit("EXPIRE", key, 60))
    async with running(desk.unserved.run()):
        desk.unserved.deaf("WRONGTYPE (key x)")
        await wait_until(lambda: len(desk.answers) == 3, description="the answers")
    results = [ToolResult.of(entry) for entry in desk.answers]
    assert [(one.call_id, one.outcome, one.error.kind if one.error else "") for one in results] == [
        ("done", Outcome.OK, ""), ("runs", Outcome.UNKNOWN, "bus_refused"), ("waits", Outcome.ERROR, "bus_refused"),
    ]  # fmt: skip
    call = DispatchTool("c2", "greet", "{}", "desk", "default", 60_000, idempotent=False)
    refusal = desk.unserved.refusal(call)
    assert refusal is not None
    assert refusal.message == "WRONGTYPE (key x)"
    desk.unserved.deaf(None)
    assert desk.unserved.refusal(call) is None
