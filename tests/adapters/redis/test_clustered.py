"""Reads of streams on a Redis Cluster go on when one of its masters has died, whichever that is, and commands and reads
while slots are moved.
"""

import asyncio
from contextlib import nullcontext
from typing import Any

import pytest

from support.topologies import Replicated, address_of, giving_away, joining, patient_cluster, replicated_cluster
from support.waiting import wait_until
from voicebus.adapters.redis.client import connect
from voicebus.errors import BusError


def asked_first(reading: Any) -> str:
    """A key of the master that redis-py asks what it does not know itself."""
    return next(key for key in map(str, range(1000)) if reading.get_node_from_key(key) is reading.get_default_node())


def elsewhere(reading: Any) -> str:
    """A key of another master."""
    return next(
        key for key in map(str, range(1000)) if reading.get_node_from_key(key) is not reading.get_default_node()
    )


@pytest.mark.timeout(120)
@pytest.mark.parametrize("hangs", [False, True], ids=["that has died", "that hangs"])
async def test_streams_of_a_lost_master_and_of_the_others_are_read_on(hangs: bool) -> None:
    with replicated_cluster() as found:
        await reads_go_on(found, hangs=hangs)


async def reads_go_on(cluster: Replicated, *, hangs: bool) -> None:
    async with await connect(cluster.url) as bus:
        reading: Any = bus._clients[1]
        await reading.initialize()
        for key in (mine := asked_first(reading), other := elsewhere(reading)):
            await bus.call("XADD", key, "1-0", "text", "before")
            await bus.call("XGROUP", "CREATE", key, "workers", "0")
            assert await bus.read_blocking("XREAD", "BLOCK", 100, "STREAMS", key, "0")
        await asyncio.to_thread(cluster.in_step)  # a group that the replica does not have yet would be lost for good
        await asyncio.to_thread(cluster.fail_over, mine, hangs=hangs)

        async def is_read() -> bool:
            command = ("XREADGROUP", "GROUP", "workers", "w1", "COUNT", "1", "BLOCK", "100", "STREAMS", key, ">")
            try:
                await bus.call("XADD", key, "*", "text", "after")
                return bool(await bus.read_blocking(*command))
            except BusError:
                return False

        for key in (other, mine):
            await wait_until(is_read, description=f"the stream {key} to be read again", timeout=30)
            assert await bus.call("XREAD", "COUNT", "1", "STREAMS", key, "1-0")


@pytest.mark.timeout(90)
@pytest.mark.parametrize("joins", [False, True], ids=["that is known", "that nobody has heard of"])
async def test_a_slot_is_followed_while_it_is_moved_to_a_node(joins: bool) -> None:
    with patient_cluster() as cluster:
        async with await connect(address_of(cluster)) as bus:
            await bus.call("PING")
            key = next(key for key in map(str, range(1000)) if not bus.server_of(key).endswith(f":{cluster[0].port}"))
            there = next(key for key in map(str, range(1000)) if bus.server_of(key).endswith(f":{cluster[0].port}"))
            # Several connections to a node: what belongs together could go different ways.
            reads = (bus.read_blocking("XREAD", "BLOCK", 100, "STREAMS", f"{{{there}}}{n}", "0") for n in range(4))
            await asyncio.gather(*reads)
            counters, stream = [("INCR", f"{{{key}}}{n}") for n in range(5)], f"{{{key}}}stream"
            with joining(cluster) if joins else nullcontext(cluster[0]) as target:
                with giving_away(cluster, key, target):
                    assert await bus.call("XADD", stream, "1-0", "text", "while it is moved") == "1-0"
                    assert await bus.read_blocking("XREAD", "BLOCK", 100, "STREAMS", stream, "0")
                    assert await bus.submit_all(counters) == [1] * 5
                assert await bus.submit_all(counters) == [2] * 5
                assert await bus.read_blocking("XREAD", "BLOCK", 100, "STREAMS", stream, "0")
                assert bus.server_of(key).endswith(f":{target.port}")
