"""Two gateways of a cluster, and a way that leads to the first one, which is to die: calls on it go on at the other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.cluster import ClusterUnderTest, Service, running_cluster
from support.cutting_proxy import CuttingProxy, cutting_proxy


@dataclass(frozen=True, slots=True)
class TwoGateways:
    """`url` leads to the `doomed` one while it lives, and then to the `other`."""

    cluster: ClusterUnderTest
    doomed: Service
    other: Service
    way: CuttingProxy

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.way.port}"

    async def kill(self) -> None:
        """SIGKILL for the first one; whoever was connected comes to the other."""
        self.way.target = self.other.port
        await self.cluster.kill(self.doomed)

    async def stop(self) -> None:
        """SIGTERM for the first one, and wait for its end."""
        self.way.target = self.other.port
        await self.cluster.stop(self.doomed)


@asynccontextmanager
async def two_gateways(
    redis_url: str, stream_prefix: str, folder: Path, *, target: str = "support.emergency_desk", **options: Any
) -> AsyncIterator[TwoGateways]:
    """A cluster whose archive lies in `folder`; `options` are those of `running_cluster`."""
    async with running_cluster(
        redis_url=redis_url,
        database_url=f"sqlite:///{folder / 'v.db'}",
        stream_prefix=stream_prefix,
        targets=(target,),
        gateways=2,
        guardrail_workers=0,
        **options,
    ) as cluster:
        doomed, other = cluster.services["gateway"]
        async with cutting_proxy(doomed.port) as way:
            yield TwoGateways(cluster, doomed, other, way)
