"""A cluster whose gateway reaches the model through a proxy that cuts sockets at exact events (`phase_proxy.py`)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import redis

from support.cluster import ClusterUnderTest, running_cluster
from support.key_leaks import keys_without_end, remove_keys
from support.phase_proxy import PhaseProxy, phase_proxy


@asynccontextmanager
async def phased_cluster(
    target: str, redis_url: str, folder: Path, **settings: Any
) -> AsyncIterator[tuple[ClusterUnderTest, PhaseProxy]]:
    """The services of `target`, with a database in `folder`; their keys are removed, and none may be without an end."""
    prefix = f"t{folder.parent.name[-4:]}{id(folder) % 10_000}"
    async with (
        running_cluster(
            redis_url=redis_url,
            database_url=f"sqlite:///{folder / 'v.db'}",
            stream_prefix=prefix,
            targets=(target,),
            gateways=0,
            **settings,
        ) as cluster,
        phase_proxy(f"ws://127.0.0.1:{cluster.simulator.http_port}/openai/v1/realtime") as proxy,
    ):
        cluster.environment["VOICEBUS_MODEL_URL"] = proxy.url
        await cluster.start("gateway")
        yield cluster, proxy
    with redis.Redis.from_url(redis_url) as client:
        lasting = keys_without_end(client, prefix)
        remove_keys(client, prefix)
    assert not lasting, f"keys without TTL or trim rule: {lasting}"
