"""The environment of the real clients, and a cluster for them to talk to."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import redis

from support import real_clients
from support.cluster import running_cluster
from support.key_leaks import keys_without_end, remove_keys
from support.real_clients import Served
from support.recording_proxy import recording_proxy


@pytest.fixture(scope="session", autouse=True)
def clients_environment() -> None:
    """Every test here runs programs in it; one that cannot be made is a failure, not a skip."""
    real_clients.ensure()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A whole cluster of processes, shared by a module's tests; the gateway's model is behind a recording proxy."""
    prefix = f"t{secrets.token_hex(5)}"
    folder: Path = tmp_path_factory.mktemp("cluster")
    async with running_cluster(
        redis_url=redis_url,
        database_url=f"sqlite:///{folder / 'voicebus.db'}",
        stream_prefix=prefix,
        targets=("support.hotline:runner",),
        gateways=0,
        pace=4,
    ) as cluster:
        model = f"ws://127.0.0.1:{cluster.simulator.http_port}/v1/realtime"
        async with recording_proxy(model) as recording:
            gateway = await cluster.start("gateway", model_url=recording.url)
            yield Served(f"{gateway.url}/v1", recording)
            await cluster.stop(gateway)
    with redis.Redis.from_url(redis_url) as client:
        lasting = keys_without_end(client, prefix)
        remove_keys(client, prefix)
    assert not lasting, f"keys without TTL or trim rule: {lasting}"
