"""The environments of the real clients, and a cluster for them to talk to."""

import secrets
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import redis

from support import node, real_clients
from support.cluster import ClusterUnderTest, running_cluster
from support.key_leaks import keys_without_end, remove_keys
from support.real_clients import Served
from support.recording_proxy import Recording, recording_proxy
from support.tls import Authority


@pytest.fixture(scope="session", autouse=True)
def clients_environment() -> None:
    """Every test here runs programs in them; one that cannot be made is a failure, not a skip."""
    with ThreadPoolExecutor() as installers:
        made = [installers.submit(make) for make in (real_clients.ensure, real_clients.ensure_npm)]
    folders = [each.result() for each in made]
    npm = node.installed(folders[1])
    shown = {name: npm[name] for name in ("openai", "@openai/agents")}
    print(f"clients: PyPI {real_clients.installed()}, npm {shown} in Node {node.node().version}")


@dataclass(frozen=True)
class Shared:
    """A cluster without a gateway; the model of those that are started is behind a recording proxy."""

    cluster: ClusterUnderTest
    recording: Recording


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shared]:
    """A whole cluster of processes, shared by a module's tests."""
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
        async with recording_proxy(f"ws://127.0.0.1:{cluster.simulator.http_port}/v1/realtime") as recording:
            yield Shared(cluster, recording)
            for gateway in list(cluster.services["gateway"]):
                await cluster.stop(gateway)
    with redis.Redis.from_url(redis_url) as client:
        lasting = keys_without_end(client, prefix)
        remove_keys(client, prefix)
    assert not lasting, f"keys without TTL or trim rule: {lasting}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(shared: Shared) -> Served:
    gateway = await shared.cluster.start("gateway", model_url=shared.recording.url)
    return Served(f"{gateway.url}/v1", shared.recording)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secured(shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A gateway that serves TLS itself, by a certificate of its own authority."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    pair = authority.issue()
    gateway = await shared.cluster.start(
        "gateway", model_url=shared.recording.url, tls_cert=pair.certificate, tls_key=pair.key
    )
    return Served(f"https://localhost:{gateway.http_port}/v1", shared.recording, authority.file)
