"""One master of a Redis Cluster that hangs holds up what belongs to it, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import redis

from support.servers import RedisServer
from support.tasks import running
from support.tool_calls import calling, worker
from support.topologies import address_of, giving_away, patient_cluster
from support.waiting import wait_until
from voicebus import ToolWorker, function_tool
from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.journal import RedisJournal
from voicebus.adapters.redis.scripts import script
from voicebus.contracts.journal import EventType, SessionEnded
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import Outcome
from voicebus.engine.outputs import Record
from voicebus.ports import SessionRef

KEYS = Keys("vb")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Sequence[RedisServer]]:
    with patient_cluster() as servers:
        yield servers


@pytest.fixture
async def bus(cluster: Sequence[RedisServer], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisConnection]:
    """A connection that waits for a server for longer than a test takes."""
    monkeypatch.setattr("voicebus.adapters.redis.client.COMMAND_TIMEOUT_S", 300.0)
    async with await connect(address_of(cluster)) as connection:
        for server in cluster:
            with redis.Redis(port=server.port) as node:
                node.flushall()
        yield connection


def of_each_master(bus: RedisConnection, names: Mapping[str, str]) -> dict[str, str]:
    """One of the names for each master, by that; `names` gives the key of each."""
    return {bus.server_of(key): name for name, key in names.items()}


def move_slot(cluster: Sequence[RedisServer], key: str, target: RedisServer) -> None:
    """Move the slot of a key, with what it has, to another master."""
    with giving_away(cluster, key, target):
        pass


@contextmanager
def hanging(cluster: Sequence[RedisServer], master: str) -> Iterator[None]:
    server = next(one for one in cluster if master.endswith(f":{one.port}"))
    server.pause()
    try:
        yield
    finally:
        server.resume()


def greet() -> str:
    """Greet."""
    return "hello"


@pytest.mark.timeout(90)
async def test_calls_in_the_queues_of_other_masters_go_on_while_one_hangs(
    bus: RedisConnection, cluster: Sequence[RedisServer]
) -> None:
    queues = of_each_master(bus, {f"q{n}": KEYS.tools(f"q{n}") for n in range(100)})
    tools = [function_tool(greet, queue=queue, name_override=f"greet_{queue}") for queue in queues.values()]
    async with calling(address_of(cluster), KEYS) as caller, worker(address_of(cluster), KEYS, *tools) as working:
        for queue in queues.values():
            caller.call(f"greet_{queue}", queue=queue, call_id=queue)
            await caller.result(queue)
        assert working.id is not None
        needed = {bus.server_of(key) for key in (caller.inbox.stream, KEYS.worker(working.id))}
        stuck = next(master for master in queues if master not in needed)
        lost = queues.pop(stuck)
        with hanging(cluster, stuck):
            caller.call(f"greet_{lost}", queue=lost, call_id="lost", timeout_ms=80_000)
            for n in range(5):
                for queue in queues.values():
                    caller.call(f"greet_{queue}", queue=queue, call_id=f"{queue}-{n}", timeout_ms=80_000)
                    assert (await caller.result(f"{queue}-{n}")).outcome is Outcome.OK
            assert not caller.results("lost")
        assert (await caller.result("lost")).outcome is Outcome.OK


@pytest.mark.timeout(90)
async def test_calls_in_a_queue_that_was_moved_go_on_while_its_former_master_hangs(
    bus: RedisConnection, cluster: Sequence[RedisServer]
) -> None:
    names = [f"q{n}" for n in range(100)]
    async with calling(address_of(cluster), KEYS) as caller:
        inbox = bus.server_of(caller.inbox.stream)
        stuck = next(master for master in (bus.server_of(KEYS.tools(name)) for name in names) if master != inbox)
        stays, moved = [name for name in names if bus.server_of(KEYS.tools(name)) == stuck][:2]
        tools = [function_tool(greet, queue=queue, name_override=f"greet_{queue}") for queue in (stays, moved)]
        async with worker_elsewhere(bus, cluster, stuck, *tools):
            for queue in (stays, moved):
                caller.call(f"greet_{queue}", queue=queue, call_id=queue)
                await caller.result(queue)
            target = next(server for server in cluster if inbox.endswith(f":{server.port}"))
            await asyncio.to_thread(move_slot, cluster, KEYS.tools(moved), target)
            for n in range(3):  # of which the first ones tell where it is now
                caller.call(f"greet_{moved}", queue=moved, call_id=f"moved-{n}", timeout_ms=80_000)
                assert (await caller.result(f"moved-{n}")).outcome is Outcome.OK
            with hanging(cluster, stuck):
                caller.call(f"greet_{stays}", queue=stays, call_id="stays", timeout_ms=80_000)
                for n in range(5):
                    caller.call(f"greet_{moved}", queue=moved, call_id=f"{n}", timeout_ms=80_000)
                    assert (await caller.result(f"{n}")).outcome is Outcome.OK
                assert not caller.results("stays")
            assert (await caller.result("stays")).outcome is Outcome.OK


@asynccontextmanager
async def worker_elsewhere(
    bus: RedisConnection, cluster: Sequence[RedisServer], stuck: str, *tools: Any
) -> AsyncIterator[ToolWorker]:
    """A worker whose heartbeat and whose control stream are not on the master `stuck`."""
    while True:
        async with worker(address_of(cluster), KEYS, *tools) as working:
            if working.id is not None and bus.server_of(KEYS.worker(working.id)) != stuck:
                yield working
                return


@pytest.mark.timeout(90)
async def test_sessions_of_other_masters_are_written_while_one_hangs(
    bus: RedisConnection, cluster: Sequence[RedisServer]
) -> None:
    journal = RedisJournal(bus, RedisClock(bus), KEYS, owner="g1", on_stale=lambda _: None)
    sessions = of_each_master(bus, {f"s{n}": KEYS.session_state(f"s{n}") for n in range(100)})
    owned = {master: SessionRef(name, await journal.open(name, state={})) for master, name in sessions.items()}
    stuck, *others = owned
    async with running(journal.run()):
        with hanging(cluster, stuck):
            journal.append(
                owned[stuck], Record(1, EventType.SESSION_ENDED, SessionEnded(reason="end", duration_ms=1)), 1
            )
            for seq in range(1, 6):
                for master in others:
                    written = asyncio.Event()
                    record = Record(seq, EventType.SESSION_ENDED, SessionEnded(reason="end", duration_ms=1))
                    journal.append(owned[master], record, 1)
                    journal.after(owned[master], written.set)
                    await wait_until(written.is_set, description="the event to be written")
        await journal.drain(20)
    for master, session in owned.items():
        seq = await bus.call("HGET", KEYS.session_state(session.id), "seq")
        assert seq == ("1" if master == stuck else "5")


async def test_a_script_behind_a_read_is_known_to_each_master_by_itself(bus: RedisConnection) -> None:
    count = script("count", "return redis.call('XLEN', KEYS[1])")
    streams = of_each_master(bus, {str(n): str(n) for n in range(100)}).values()
    for length in range(1, 4):
        for stream in streams:
            await bus.call("XADD", stream, f"{length}-0", "text", "new")
            read = ("XREAD", "COUNT", 1, "BLOCK", 1000, "STREAMS", stream, f"{length - 1}-0")
            _, counted = await bus.read_then_run(read, count, [stream])
            assert counted is not None
            assert await counted == length


async def test_replies_to_commands_for_several_masters_come_in_the_order_of_the_commands(bus: RedisConnection) -> None:
    keys = [f"counter{n % 7}" for n in range(600)]
    assert len({bus.server_of(key) for key in keys}) == 3
    assert await bus.submit_all([("INCR", key) for key in keys]) == [1 + n // 7 for n in range(600)]


async def test_commands_about_a_key_leave_in_order_also_while_its_slot_is_moved(
    bus: RedisConnection, cluster: Sequence[RedisServer]
) -> None:
    assert await bus.call("RPUSH", "line", 0) == 1
    replies: list[asyncio.Future[int]] = []
    moving: asyncio.Task[None] | None = None
    number = 0
    while moving is None or not moving.done() or len(replies) < 2000:
        for _ in range(20):
            number += 1
            replies.append(bus.submit("RPUSH", "line", number))
        if number == 500:
            target = next(server for server in cluster if not bus.server_of("line").endswith(f":{server.port}"))
            moving = asyncio.create_task(asyncio.to_thread(move_slot, cluster, "line", target))
        await asyncio.sleep(0)
    await moving
    assert await asyncio.gather(*replies) == list(range(2, number + 2))
    assert await bus.call("LRANGE", "line", 0, -1) == [str(n) for n in range(number + 1)]
