"""The tool worker as a process: readiness, metrics, the end by SIGTERM, and what happens when it is killed."""

import asyncio
import os
import signal
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from support.processes import service
from support.servers import RedisServer
from support.tool_calls import Caller
from support.waiting import wait_until
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import TOOL_STARTED, Outcome


@pytest.fixture
def environment(redis_url: str, keys: Keys) -> dict[str, str]:
    return {"VOICEBUS_REDIS_URL": redis_url, "VOICEBUS_STREAM_PREFIX": keys.prefix}


async def test_calls_run_in_the_workers_process_and_are_measured(caller: Caller, environment: dict[str, str]) -> None:
    async with service("tool-worker", "support.workers", environment=environment) as worker:
        await worker.ready()
        caller.call("process_id")
        assert (await caller.result()).output == str(worker.pid)
        samples = await worker.metrics()
        # What came of a call is counted by the gateway that accepted it.
        assert not [name for name in samples if name.startswith("voicebus_tool_outcomes_total{")]
        assert samples['voicebus_tool_duration_seconds_count{tool="process_id"}'] == 1
        assert samples['voicebus_message_queue_seconds_count{service="tool-worker"}'] == 1


async def test_calls_that_end_at_once_are_told_by_their_results_alone_however_busy_the_worker_is(
    caller: Caller, environment: dict[str, str]
) -> None:
    async with service("tool-worker", "support.workers", "--concurrency", "400", environment=environment) as worker:
        await worker.ready()
        for n in range(400):
            caller.call("process_id", call_id=f"c{n}")
        for n in range(400):
            assert (await caller.result(f"c{n}")).outcome is Outcome.OK
        caller.call("slow", '{"seconds": 0.2}', call_id="slow")
        assert (await caller.started("slow")).attempt == 1
    assert [entry.data["call_id"] for entry in caller.received if entry.type == TOOL_STARTED] == ["slow"]


async def test_sigterm_ends_it_after_the_work_in_hand(caller: Caller, environment: dict[str, str]) -> None:
    async with service("tool-worker", "support.workers", environment=environment) as worker:
        await worker.ready()
        caller.call("slow", '{"seconds": 0.5}')
        await caller.started()
        os.kill(worker.pid, signal.SIGTERM)
        assert await worker.ended() == 0
        assert (await caller.result()).outcome is Outcome.OK


async def test_the_calls_of_a_killed_worker_come_to_an_end_elsewhere(
    caller: Caller, environment: dict[str, str]
) -> None:
    async with (
        service("tool-worker", "support.workers", environment=environment) as first,
        service("tool-worker", "support.workers", environment=environment) as second,
    ):
        await asyncio.gather(first.ready(), second.ready())
        for n in range(8):
            caller.call("slow", '{"seconds": 1}', call_id=f"c{n}", idempotent=True)
        starts = [await caller.started(f"c{n}") for n in range(8)]
        killed = starts[0].worker
        pid = first.pid if f"-{first.pid}-" in killed else second.pid
        os.kill(pid, signal.SIGKILL)
        results = [await caller.result(f"c{n}") for n in range(8)]
    assert {result.outcome for result in results} == {Outcome.OK}
    assert killed not in {result.worker for result in results}


async def test_a_wrong_start_is_one_sentence_and_a_status(environment: dict[str, str]) -> None:
    for arguments, changed, what in (
        (["support.waiting"], {}, "defines no agent, tool or guardrail"),
        (["support.workers"], {"VOICEBUS_REDIS_URL": "redis://127.0.0.1:1/0"}, "cannot be reached"),
        (["support.workers"], {"VOICEBUS_EVENT_SHARDS": "many"}, "VOICEBUS_EVENT_SHARDS"),
    ):
        async with service("tool-worker", *arguments, environment=environment | changed) as worker:
            assert await worker.ended() in (1, 2)
            await wait_until(lambda: worker.lines, description="the error")
            last = worker.lines[-1]
            assert last.startswith("voicebus: ")
            assert what in last


async def test_a_second_cluster_shape_is_refused(caller: Caller, environment: dict[str, str]) -> None:
    async with service("tool-worker", "support.workers", environment=environment) as worker:
        await worker.ready()
        other = environment | {"VOICEBUS_EVENT_SHARDS": "8"}
        async with service("tool-worker", "support.workers", environment=other) as refused:
            assert await refused.ended() == 2
            await wait_until(lambda: refused.lines, description="the error")
            assert "VOICEBUS_EVENT_SHARDS: 8 was read" in refused.lines[-1]


async def test_a_worker_without_tools_is_ready_as_long_as_redis_is_there_and_ends_in_order(keys: Keys) -> None:
    with RedisServer(persistent=True) as redis:
        environment = {"VOICEBUS_REDIS_URL": redis.url, "VOICEBUS_STREAM_PREFIX": keys.prefix}
        async with service("tool-worker", "support.talker", environment=environment) as worker:
            await worker.ready()
            address = f"http://127.0.0.1:{await worker.ops_port()}/readyz"
            redis.kill()

            def refused() -> bool:
                try:
                    with urlopen(address, timeout=5):
                        return False
                except HTTPError as error:
                    return error.code == 503

            await wait_until(lambda: asyncio.to_thread(refused), description="the end of readiness", timeout=20)
            redis.start()
            await worker.ready()
            os.kill(worker.pid, signal.SIGTERM)
            assert await worker.ended() == 0
