"""One master of a Redis Cluster that hangs holds up what belongs to it, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from support.servers import RedisServer
from support.tasks import running
from support.tool_calls import calling, worker
from support.topologies import address_of, patient_cluster
from support.waiting import wait_until
from voicebus import function_tool
from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.journal import RedisJournal
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
            moving = asyncio.create_task(asyncio.to_thread(move_slot, cluster, "line"))
        await asyncio.sleep(0)
    await moving
    assert await asyncio.gather(*replies) == list(range(2, number + 2))
    assert await bus.call("LRANGE", "line", 0, -1) == [str(n) for n in range(number + 1)]


def move_slot(cluster: Sequence[RedisServer], key: str) -> None:
    """Move the slot of a key, with what it has, to another master."""
    nodes: list[Any] = [redis.Redis(port=server.port, decode_responses=True) for server in cluster]
    slot = nodes[0].execute_command("CLUSTER", "KEYSLOT", key)
    source = next(node for node in nodes if node.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot))
    target = next(node for node in nodes if node is not source)
    names = {node: node.execute_command("CLUSTER", "MYID") for node in (source, target)}
    target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
    source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
    port = target.connection_pool.connection_kwargs["port"]
    source.execute_command("MIGRATE", "127.0.0.1", port, key, 0, 5000)
    for node in (target, source, *nodes):
        node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[target])
    for node in nodes:
        node.close()
