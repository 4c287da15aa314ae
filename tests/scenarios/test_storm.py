"""Tool calls keep their promises while workers are killed and frozen and entries come twice: `make chaos`, in small."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.servers import RedisServer
from support.storm import Storm, storm
from support.storm_worker import QUEUES
from support.topologies import Guarded, address_of, guarded_redis, patient_cluster, redis_cluster
from voicebus.adapters.redis.client import connect
from voicebus.contracts.streams import Keys


@pytest.fixture
def single() -> Iterator[str]:
    with RedisServer(persistent=True) as server:
        yield server.url


@pytest.fixture
def cluster() -> Iterator[str]:
    with redis_cluster() as url:
        yield url


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    with guarded_redis() as found:
        yield found


async def raise_a(asked: Storm, *, sends_all: bool = True) -> None:
    outcomes = await storm(asked)
    assert outcomes.problems() == [], str(outcomes)
    assert sends_all is not bool(outcomes.unsent), str(outcomes)
    assert outcomes.killed + outcomes.frozen > 0
    assert outcomes.duplicated > 0


@pytest.mark.timeout(180)
async def test_no_call_is_lost_or_takes_effect_twice_where_workers_die_and_freeze(single: str, tmp_path: Path) -> None:
    await raise_a(Storm(single, tmp_path, calls=600, seconds=15, workers=8))


@pytest.mark.timeout(180)
async def test_nor_on_a_cluster_of_three_masters(cluster: str, tmp_path: Path) -> None:
    await raise_a(Storm(cluster, tmp_path, calls=200, seconds=8, workers=4))


@pytest.mark.timeout(180)
async def test_nor_where_a_master_stands_for_longer_than_a_call_may_take(tmp_path: Path) -> None:
    standing: set[asyncio.Task[None]] = set()
    with patient_cluster() as servers:
        async with await connect(address_of(servers)) as bus:
            master = bus.server_of(Keys("vb").tools(QUEUES[0]))
        server = next(one for one in servers if master.endswith(f":{one.port}"))

        async def stand() -> None:
            await asyncio.sleep(8)
            server.resume()

        async def stop() -> None:
            server.pause()
            standing.add(asyncio.create_task(stand()))

        asked = Storm(address_of(servers), tmp_path, calls=240, seconds=6, workers=4, deadline_ms=4_000, fate=stop)
        await raise_a(asked, sends_all=False)


@pytest.mark.timeout(180)
async def test_nor_where_the_master_dies_and_its_replica_takes_over(guarded: Guarded, tmp_path: Path) -> None:
    async def fail_over() -> None:
        await asyncio.to_thread(guarded.fail_over)

    await raise_a(Storm(guarded.url, tmp_path, calls=200, seconds=8, workers=4, fate=fail_over))
