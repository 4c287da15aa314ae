"""Tools of other teams in a cluster of processes: their workers come and go while a call goes on."""

from pathlib import Path

import pytest

from services.gateway.clients import TestClient, native
from support.cluster import ClusterUnderTest, Service, running_cluster

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("cluster")]


async def offered(client: TestClient, *names: str) -> None:
    """Read until the model has confirmed that it has these tools and no others."""
    while True:
        event = (await client.until("raw_model_event"))["event"]
        if event["type"] == "session.updated" and [tool["name"] for tool in event["session"]["tools"]] == list(names):
            return


async def asks(client: TestClient, nights: int) -> None:
    await client.send("send_message", text=f"What does a room cost for {nights} nights?")
    await hears(client, f"{nights} nights cost {nights * 120} euros.")


async def hears(client: TestClient, text: str) -> None:
    while text not in (await client.until("item_recorded", role="assistant"))["text"]:
        pass


async def worker(cluster: ClusterUnderTest) -> Service:
    cluster.targets = ["support.house"]
    return await cluster.start("tool-worker")


@pytest.mark.parametrize("agent", ["clerk", "butler"])
async def test_a_call_that_goes_on_gets_the_tool_when_its_first_worker_comes_and_loses_it_with_the_last(
    redis_url: str, stream_prefix: str, tmp_path: Path, agent: str
) -> None:
    async with running_cluster(
        redis_url=redis_url,
        database_url=f"sqlite:///{tmp_path / 'v.db'}",
        stream_prefix=stream_prefix,
        targets=("support.remote_desk",),
        tool_workers=0,
        guardrail_workers=0,
        archivers=0,
    ) as cluster:
        async with native(cluster.gateway, f"?agent={agent}&raw=1") as client:
            await offered(client)
            await client.send("send_message", text="Hello [[say: Good day.]]")
            await hears(client, "Good day.")
            first = await worker(cluster)
            await offered(client, "room_price")
            await asks(client, 3)
            second = await worker(cluster)
            await cluster.stop(first)
            await asks(client, 4)
            await cluster.stop(second)
            await offered(client)
            third = await worker(cluster)
            await offered(client, "room_price")
            await cluster.kill(third)
            await offered(client)
            assert client.events("error") == []
