"""Shards are read by one archiver at a time, and shared fairly."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.transcript_archiver.conftest import Bus
from support.waiting import wait_until
from voicebus.adapters.redis.contact import Contact
from voicebus.adapters.redis.scripts import Script
from voicebus.errors import BusError
from voicebus_services.transcript_archiver.leases import ShardLeases, fair_share


@given(st.sets(st.text(min_size=1), min_size=1, max_size=30), st.integers(min_value=1, max_value=1024))
def test_shares_cover_every_shard_and_differ_by_one_at_most(living: set[str], shards: int) -> None:
    shares = [fair_share(me, list(living), shards) for me in living]
    assert sum(shares) == shards
    assert max(shares) - min(shares) <= 1


@pytest.fixture
def pair(bus: Bus) -> tuple[ShardLeases, ShardLeases]:
    return ShardLeases(bus.connection, bus.keys, "a"), ShardLeases(bus.connection, bus.keys, "b")


async def test_the_only_archiver_holds_every_shard(pair: tuple[ShardLeases, ShardLeases]) -> None:
    a, _ = pair
    assert await a.refresh() == []
    assert a.held == [0, 1, 2, 3]


async def test_a_newcomer_waits_until_the_other_gives_its_surplus_up(pair: tuple[ShardLeases, ShardLeases]) -> None:
    a, b = pair
    await a.refresh()
    await b.refresh()
    assert b.held == [], "a lease that is held is never taken"
    surplus = await a.refresh()
    assert surplus == [2, 3]
    assert a.held == [0, 1, 2, 3], "a shard is read on until it is released"
    for shard in surplus:
        await a.release(shard)
    await b.refresh()
    assert (a.held, b.held) == ([0, 1], [2, 3])


async def test_who_leaves_is_inherited_from_at_once(pair: tuple[ShardLeases, ShardLeases]) -> None:
    a, b = pair
    await a.refresh()
    await a.leave()
    assert a.held == []
    await b.refresh()
    assert b.held == [0, 1, 2, 3]


async def test_a_lease_that_another_took_is_noticed(pair: tuple[ShardLeases, ShardLeases], bus: Bus) -> None:
    a, _ = pair
    await a.refresh()
    await bus.connection.call("SET", bus.keys.archiver_lease(1), "b", "PX", 60_000)
    await a.refresh()
    assert a.held == [0, 2, 3]
    await a.release(1)
    assert await bus.connection.call("GET", bus.keys.archiver_lease(1)) == "b", "only one's own lease is released"


async def test_who_died_before_the_servers_clock_was_set_back_holds_nothing_for_longer(
    pair: tuple[ShardLeases, ShardLeases], bus: Bus
) -> None:
    a, _ = pair
    seconds, _ = await bus.connection.call("TIME")
    hour_ms = 3_600_000
    await bus.connection.call("ZADD", bus.keys.archivers, int(seconds) * 1000 + hour_ms, "dead")
    for shard in range(4):
        await bus.connection.call("SET", bus.keys.archiver_lease(shard), "dead", "PX", hour_ms)

    async def holds_all() -> bool:
        await a.refresh()
        return a.held == [0, 1, 2, 3]

    await wait_until(holds_all, description="the shards of the dead one")


async def test_a_lease_that_was_not_renewed_is_not_relied_on(
    pair: tuple[ShardLeases, ShardLeases], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicebus_services.transcript_archiver.leases.LEASE_MS", 1)
    a, _ = pair
    await a.refresh()
    await wait_until(lambda: not a.held, description="the lease to run out on its holder's own clock")
    assert not a.holds(0)


@pytest.fixture
def hanging(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of which a master would tell that hangs."""
    keys, run = list[str](), bus.connection.script

    async def script(script: Script, names: list[str], *arguments: str | int) -> Any:
        if names[0] in keys:
            await asyncio.Event().wait()
        return await run(script, names, *arguments)

    monkeypatch.setattr(bus.connection, "script", script)
    monkeypatch.setattr("voicebus_services.transcript_archiver.leases._WAIT_S", 0.1)
    return keys


async def test_a_master_that_hangs_costs_the_shards_that_it_keeps_and_no_others(
    pair: tuple[ShardLeases, ShardLeases], bus: Bus, hanging: list[str]
) -> None:
    a, b = pair
    await a.refresh()
    hanging.append(bus.keys.archiver_lease(1))

    async def holds_the_others(archiver: ShardLeases) -> bool:
        with pytest.raises(BusError):
            await archiver.refresh()
        return archiver.held == [0, 2, 3]

    await wait_until(lambda: holds_the_others(a), description="the lease of one shard to run out")
    hanging.clear()
    await a.leave()
    hanging.append(bus.keys.archiver_lease(1))
    await wait_until(lambda: holds_the_others(b), description="the others to be taken")


@pytest.mark.parametrize("holds_one_of_it", [True, False])
async def test_a_master_that_hangs_is_waited_for_once_as_what_the_others_keep_would_run_out(
    pair: tuple[ShardLeases, ShardLeases],
    bus: Bus,
    hanging: list[str],
    monkeypatch: pytest.MonkeyPatch,
    holds_one_of_it: bool,
) -> None:
    a, _ = pair
    await a.refresh()
    far, asked = [bus.keys.archiver_lease(shard) for shard in (1, 2, 3)], list[str]()
    for shard in (2, 3) if holds_one_of_it else (1, 2, 3):
        await a.release(shard)
    hanging += far
    run = bus.connection.script

    async def script(script: Script, names: list[str], *arguments: str | int) -> Any:
        asked.append(names[0])
        return await run(script, names, *arguments)

    monkeypatch.setattr(bus.connection, "script", script)
    monkeypatch.setattr(bus.connection, "server_of", lambda key: "far" if key in far else "near")
    share = len(a.held) + 1
    monkeypatch.setattr("voicebus_services.transcript_archiver.leases.fair_share", lambda *_: share)
    with pytest.raises(BusError):
        await a.refresh()
    assert len(set(far) & set(asked)) == 1


async def test_shards_are_kept_while_nobody_tells_how_many_archivers_live(
    pair: tuple[ShardLeases, ShardLeases], bus: Bus, hanging: list[str]
) -> None:
    a, _ = pair
    await a.refresh()
    hanging.append(bus.keys.archivers)
    await bus.connection.call("DEL", bus.keys.archiver_lease(2))
    with pytest.raises(BusError):
        await a.refresh()
    assert await bus.connection.call("GET", bus.keys.archiver_lease(2)) == "a"


async def test_a_lease_that_redis_does_not_take_tells_that_heartbeats_may_not_have_been_taken_either(
    pair: tuple[ShardLeases, ShardLeases], bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    a, _ = pair
    a.contact = Contact(clock=lambda: now)
    server = bus.connection.server_of(bus.keys.archivers)
    await a.refresh()
    assert not a.contact.is_unbroken(server)
    now = 3.0
    await a.refresh()
    assert a.contact.is_unbroken(server)

    async def refused(*_: Any) -> Any:
        raise BusError("READONLY")

    monkeypatch.setattr(bus.connection, "script", refused)
    with pytest.raises(BusError):
        await a.refresh()
    assert not a.contact.is_unbroken(server)
