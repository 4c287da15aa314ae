"""Redis Cluster and Sentinel: the same work on each, with real servers."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from adapters.redis.test_former import check_calls, check_following, check_in_hand
from support.servers import RedisServer
from support.tasks import running
from support.tool_calls import calling
from support.topologies import bus_port
from support.waiting import wait_until
from voicebus import ToolWorker, function_tool
from voicebus.adapters.redis.client import connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.directory import SessionDirectory, Status
from voicebus.adapters.redis.journal import RedisJournal
from voicebus.adapters.redis.scripts import ENDED
from voicebus.contracts.journal import EventType, SessionEnded
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import Outcome
from voicebus.engine.outputs import Record
from voicebus.errors import BusError, StaleOwnerError
from voicebus.ports import SessionRef

KEYS = Keys("vb")


@function_tool(queue="a")
async def first() -> str:
    """First."""
    return "first"


@function_tool(queue="b")
async def second() -> str:
    """Second."""
    return "second"


@pytest.fixture
def cluster() -> Iterator[str]:
    """A cluster of one node: it refuses commands across slots as any cluster does."""
    with RedisServer(bus_port(), arguments=("--cluster-enabled", "yes")) as server:
        with redis.Redis(port=server.port) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            deadline = time.monotonic() + 20
            while "cluster_state:ok" not in str(client.execute_command("CLUSTER", "INFO")):
                assert time.monotonic() < deadline, "the cluster did not come up"
                time.sleep(0.05)
        yield f"redis+cluster://127.0.0.1:{server.port}"


class Sentinel(RedisServer):
    """A sentinel that watches `master` under the name `mymaster`."""

    def __init__(self, master: RedisServer) -> None:
        super().__init__()
        self._config: Path = self.folder / "sentinel.conf"
        self._config.write_text(f"port {self.port}\nsentinel monitor mymaster 127.0.0.1 {master.port} 1\n")

    def _command(self) -> list[str]:
        return [super()._command()[0], str(self._config), "--sentinel"]


@pytest.fixture
def sentinel() -> Iterator[str]:
    with RedisServer() as master, Sentinel(master) as watcher:
        yield f"redis+sentinel://127.0.0.1:1,127.0.0.1:{watcher.port}/mymaster"


async def test_a_script_that_only_reads_finds_its_node_of_a_cluster(cluster: str) -> None:
    async with await connect(cluster) as bus:
        end = KEYS.session_end("s1")
        await bus.call("SET", end, 1)
        others = [KEYS.session_end(f"s{number}") for number in range(5)]
        asked = await asyncio.gather(*(bus.script(ENDED, [key]) for key in (end, *others)))
        assert [ended for (ended,) in asked] == [1, 0, 1, 0, 0, 0]


@pytest.mark.parametrize("topology", ["cluster", "sentinel"])
async def test_calls_and_journals_work_on(topology: str, request: pytest.FixtureRequest) -> None:
    url: str = request.getfixturevalue(topology)

    async def up() -> bool:
        try:
            await (await connect(url)).aclose()
        except BusError:
            return False
        return True

    await wait_until(up, description=f"the {topology} to be up")
    async with calling(url, KEYS) as caller, ToolWorker([first, second], redis_url=url):
        caller.call("first", queue="a", call_id="c1")
        caller.call("second", queue="b", call_id="c2")
        caller.call("missing", queue="b", call_id="c3")
        results = await asyncio.gather(*(caller.result(call_id) for call_id in ("c1", "c2", "c3")))
        assert [result.output for result in results[:2]] == ["first", "second"]
        assert results[2].outcome is Outcome.ERROR

        stale: list[StaleOwnerError] = []
        journal = RedisJournal(caller.bus, RedisClock(caller.bus), KEYS, owner="g1", on_stale=stale.append)
        async with running(journal.run()):
            sessions = [SessionRef(f"s{n}", await journal.open(f"s{n}", state={})) for n in range(10)]
            for session in sessions:
                ended = SessionEnded(reason="hangup", duration_ms=1)
                journal.append(session, Record(1, EventType.SESSION_ENDED, ended), 1)
            await asyncio.gather(*(journal.close(session) for session in sessions))
        for session in sessions:
            assert await caller.bus.call("HGET", KEYS.session_state(session.id), "seq") == "1"
        listed = await SessionDirectory(caller.bus, KEYS, RedisClock(caller.bus)).page("local", limit=20)
        assert {(one.id, one.status) for one in listed.sessions} == {(f"s{n}", Status.ENDED) for n in range(10)}
        assert stale == []
        await check_following(caller.bus, KEYS)
        await check_in_hand(caller.bus, KEYS)
        await check_calls(caller.bus, KEYS)
