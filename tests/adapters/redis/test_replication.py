"""A master that dies: what was written last is written again, and what must not be forgotten is confirmed before."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis import exceptions as vendor

from support.servers import RedisServer
from support.tasks import running
from support.tool_calls import calling
from support.topologies import Guarded, bus_port, guarded_redis
from support.waiting import wait_until
from voicebus import ToolWorker, function_tool
from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.outbox import Outbox
from voicebus.adapters.redis.replication import MasterWatch, Replicas
from voicebus.adapters.redis.tail import StreamTail
from voicebus.agents.tools.done import DoneCalls
from voicebus.agents.tools.handling import Ending
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import Outcome, ToolResult
from voicebus.errors import BusError


class Masters:
    """A bus whose master is said to be this or that one."""

    def __init__(self) -> None:
        self.said: dict[str, dict[str, Any]] = {}

    async def masters(self) -> dict[str, dict[str, Any]]:
        return self.said

    def server_of(self, key: str) -> str:
        return key


async def test_another_master_is_noticed_once_with_the_time_since_which_writes_may_be_lost() -> None:
    bus, heard = Masters(), list[float]()
    watch = MasterWatch(bus, service="test")  # type: ignore[arg-type]
    watch.on_change(heard.append)
    bus.said = {"one": {"run_id": "a", "connected_slaves": 1}}
    await watch.look()
    before = time.monotonic()
    await watch.look()
    bus.said = {"one": {"run_id": "a", "connected_slaves": 0}}
    await watch.look()
    assert (heard, watch.has_replicas("one")) == ([], True), "a replica that is away is one all the same"
    bus.said = {"one": {"run_id": "b", "connected_slaves": 0}}
    await watch.look()
    await watch.look()
    assert watch.has_replicas("one") is False
    (since,) = heard
    assert before - 6 < since < before


async def test_a_server_that_has_died_and_is_back_is_noticed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicebus.adapters.redis.replication.LOOK_S", 3600.0)
    heard = list[float]()
    with RedisServer() as server:
        async with await connect(server.url) as bus:
            watch = MasterWatch(bus, service="test")
            await watch.begin()
            watch.on_change(heard.append)
            async with running(watch.run()):
                for deaths in (1, 2):
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
                    await wait_until(lambda: len(heard) == deaths, description="another server to be the master")  # noqa: B023 - awaited within the turn


async def test_who_may_not_ask_asks_no_more_often_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, slept = 0, list[float]()

    class Closed:
        async def masters(self) -> dict[str, dict[str, Any]]:
            nonlocal asked
            asked += 1
            raise BusError("refused") from vendor.NoPermissionError("NOPERM this user has no permissions")

        async def broke(self, within_s: float) -> bool:
            slept.append(within_s)
            await asyncio.sleep(0)
            return False

    async with running(MasterWatch(Closed(), service="test").run()):  # type: ignore[arg-type]
        await wait_until(lambda: asked >= 3, description="three looks")
    assert len(slept) >= asked


async def test_each_master_of_a_cluster_has_replicas_or_has_none() -> None:
    bus = Masters()
    watch = MasterWatch(bus, service="test")  # type: ignore[arg-type]
    bus.said = {name: {"run_id": name, "connected_slaves": 1} for name in ("one", "two")}
    await watch.look()
    assert watch.has_replicas("one")
    bus.said = {"two": {"run_id": "two", "connected_slaves": 0}, "three": {"run_id": "three", "connected_slaves": 0}}
    await watch.look()
    assert [watch.has_replicas(name) for name in ("two", "three")] == [True, False]
    assert watch.has_replicas("unknown"), "of a server that is not known yet the worst is thought"
    bus.said["three"]["connected_slaves"] = 1
    await watch.look()
    assert watch.has_replicas("three")


async def test_a_server_that_does_not_tell_is_worked_with_and_a_line_says_so(caplog: pytest.LogCaptureFixture) -> None:
    class Silent:
        async def masters(self) -> dict[str, dict[str, Any]]:
            raise BusError("NOPERM no permissions to run the 'info' command")

        def server_of(self, key: str) -> str:
            return ""

    watch = MasterWatch(Silent(), service="test")  # type: ignore[arg-type]
    await watch.begin()
    assert watch.has_replicas("any") is False
    assert "would not be noticed" in caplog.text


def entry(name: str) -> Entry:
    return Entry(id=name, type="t", session="s", epoch=1, at=1, data={})


async def test_what_was_sent_lately_is_sent_again(bus: RedisConnection, clock: RedisClock, keys: Keys) -> None:
    outbox, stream = Outbox(bus, clock, service="test"), keys.inbox("g1")

    async def names() -> list[str]:
        return [fields["id"] for _, fields in await bus.call("XRANGE", stream, "-", "+")]

    async with running(outbox.run()):
        await outbox.deliver(stream, entry("old"), ttl_s=60)
        between = time.monotonic()
        await outbox.deliver(stream, entry("new"), ttl_s=60)
        outbox.resend(between)
        await outbox.drain(5)
        assert await names() == ["old", "new", "new"]
        outbox.resend(between)
        await outbox.drain(5)
        assert (await names()).count("new") == 3


async def test_a_reader_that_rewinds_gets_what_the_new_master_wrote_before_what_it_had_read(
    bus: RedisConnection, keys: Keys
) -> None:
    stream, got = keys.inbox("g1"), list[str]()

    async def route(entry_id: str, fields: dict[str, str]) -> None:
        got.append(entry_id)

    tail = StreamTail(bus, stream, route, ttl_s=60, service="test")
    async with running(tail.run()):
        await bus.call("XADD", stream, "100000-0", "id", "x")
        await wait_until(lambda: "100000-0" in got, description="the entry")
        await bus.call("DEL", stream)
        await bus.call("XADD", stream, "90000-0", "id", "y")
        await bus.call("EXPIRE", stream, 60)
        tail.rewind()
        await bus.call("XADD", stream, "100001-0", "id", "z")
        await wait_until(lambda: "90000-0" in got, description="the lower id")


async def test_results_of_the_last_minute_are_known_and_repeated() -> None:
    finished: list[str] = []

    async def finish(ending: Ending) -> None:
        finished.append(ToolResult.model_validate_json(ending.text).call_id)

    def result(name: str, output: str = "") -> ToolResult:
        return ToolResult(call_id=name, outcome=Outcome.OK, output=output, worker="w", duration_ms=1)

    def ending(name: str, output: str = "") -> Ending:
        return Ending("record", "stream", "s", 1, None, "inbox", result(name, output).model_dump_json())

    done = DoneCalls()
    done.add(("s", "c1"), ending("c1"))
    between = time.monotonic()
    done.add(("s", "c2"), ending("c2"))
    assert done.find(("s", "c1")) == result("c1")
    await done.repeat(between, finish)
    assert finished == ["c2"]
    for n in range(3):
        done.add(("s", f"l{n}"), ending(f"l{n}", "x" * 20_000_000))
    assert [done.find(("s", name)) is not None for name in ("c1", "l0", "l1", "l2")] == [False, False, False, True]


# --- with real replicas ------------------------------------------------------------------------------


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    with guarded_redis() as found:
        yield found


@function_tool(queue="default")
async def pay() -> str:
    """Pay."""
    return "paid"


@function_tool(queue="default", idempotent=True)
async def look() -> str:
    """Look."""
    return "seen"


@pytest.mark.timeout(90)
async def test_a_call_that_may_start_once_does_so_only_where_a_replica_remembers_it(guarded: Guarded) -> None:
    keys = Keys("vb")
    async with calling(guarded.url, keys) as caller, ToolWorker([pay, look], redis_url=guarded.url):
        caller.call("pay")
        assert (await caller.result()).output == "paid"
        guarded.replica.pause()
        caller.call("pay", call_id="c2")
        result = await caller.result("c2")
        assert (result.outcome, result.error and result.error.kind) == (Outcome.ERROR, "bus_not_durable")
        caller.call("look", call_id="c3", idempotent=True)
        assert (await caller.result("c3")).output == "seen"
        guarded.replica.resume()

        async def safe() -> bool:
            caller.call("pay", call_id=f"d{time.monotonic_ns()}")
            await asyncio.sleep(0.3)
            return any(
                one.data.get("output") == "paid" and one.data["call_id"].startswith("d") for one in caller.received
            )

        await wait_until(safe, description="the replica to confirm again", timeout=30)


@pytest.mark.timeout(60)
async def test_without_a_replica_nothing_has_to_be_confirmed(bus: RedisConnection, keys: Keys) -> None:
    watch = MasterWatch(bus, service="test")
    await watch.look()
    assert await Replicas(bus, watch, ttl_s=60).have(keys.call("default", "s", "c"))


@pytest.mark.timeout(60)
async def test_a_replica_of_a_cluster_confirms_too() -> None:
    arguments = ("--cluster-enabled", "yes", "--repl-diskless-sync-delay", "0")
    with (
        RedisServer(bus_port(), arguments=arguments) as master,
        RedisServer(bus_port(), arguments=arguments) as other,
        redis.Redis(port=master.port, decode_responses=True) as first,
        redis.Redis(port=other.port, decode_responses=True) as second,
    ):
        first.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        second.execute_command("CLUSTER", "MEET", "127.0.0.1", master.port)
        name = first.execute_command("CLUSTER", "MYID")

        def follows() -> bool:
            try:
                second.execute_command("CLUSTER", "REPLICATE", name)
            except redis.exceptions.ResponseError:
                return False
            up = second.info("replication")["master_link_status"] == "up"
            return up and "cluster_state:ok" in str(first.execute_command("CLUSTER", "INFO"))

        await wait_until(lambda: asyncio.to_thread(follows), description="the replica", timeout=30)
        url = f"redis+cluster://127.0.0.1:{master.port}"

        async def up() -> Any:
            try:
                return await connect(url)
            except BusError:
                return None

        async with await wait_until(up, description="the cluster", timeout=30) as bus:
            watch = MasterWatch(bus, service="test")

            async def replicated() -> bool:
                await watch.look()
                return watch.has_replicas(Keys("vb").call("default", "s", "c"))

            await wait_until(replicated, description="the replica to be known", timeout=20)
            key, replicas = Keys("vb").call("default", "s", "c"), Replicas(bus, watch, ttl_s=60)
            await bus.call("HSET", key, "state", "running")
            assert await asyncio.gather(*(replicas.have(key) for _ in range(5))) == [True] * 5
            other.pause()
            await bus.call("HSET", key, "state", "running again")
            assert await replicas.have(key) is False
            other.resume()
