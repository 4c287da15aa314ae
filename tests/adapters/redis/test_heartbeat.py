"""A heartbeat whose Redis is away, or has lost it."""

import itertools
import logging
import re
from dataclasses import replace

import pytest
import redis

from support.servers import RedisServer
from support.topologies import address_of, patient_cluster
from support.waiting import wait_until
from voicebus.adapters.redis import contact, heartbeat
from voicebus.adapters.redis.client import connect
from voicebus.adapters.redis.heartbeat import Heartbeat


async def test_an_outage_of_redis_is_told_once_and_its_end_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.02)
    beats = itertools.count()
    tried = 0

    def fields() -> dict[str, str]:
        nonlocal tried
        tried = next(beats)
        return {}

    def told(what: str) -> int:
        return sum(f"heartbeat not sent{what}" in message for message in caplog.messages)

    with RedisServer() as server:
        beating = Heartbeat(server.url, "tried:heartbeat", fields)
        await beating.start()
        try:
            server.stop()
            await wait_until(lambda: told(" error=") == 1, description="the beginning of the outage")
            before = tried
            await wait_until(lambda: tried >= before + 3, description="more beats that cannot be sent")
            server.start()
            await wait_until(lambda: told(": over after_s=") == 1, description="the end of the outage")
            assert told(" error=") == 1
        finally:
            await beating.stop()


async def test_each_master_of_a_cluster_is_written_to_and_what_is_left_there_ends_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.02)
    monkeypatch.setattr(contact, "_SETTLED_S", 0.0)
    monkeypatch.setattr(contact, "_WAITING_S", contact._SLOW_S)
    with patient_cluster() as cluster:
        url = address_of(cluster)
        async with await connect(url) as bus:
            servers = {bus.server_of(str(n)) for n in range(100)}
            own = bus.server_of("tried:{mine}")
            (other, _) = sorted(servers - {own})
            beating = Heartbeat(url, "tried:{mine}", dict)
            await beating.start()
            try:
                unbroken = beating.contact.is_unbroken
                await wait_until(lambda: all(map(unbroken, servers)), description="contact with all")
                port = int(other.rpartition(":")[2])
                with redis.Redis(port=port) as client:
                    client.execute_command("CLIENT", "PAUSE", 3_600_000, "WRITE")
                    await wait_until(lambda: not unbroken(other), description="the write that is not taken")
                    assert unbroken(own)
                    monkeypatch.setattr(contact, "_SETTLED_S", 3600.0)
                    client.execute_command("CLIENT", "UNPAUSE")
                    await wait_until(lambda: other not in beating.contact._begun, description="the write to be taken")
                    assert not unbroken(other)
                    monkeypatch.setattr(contact, "_SETTLED_S", 0.0)
                    await wait_until(lambda: unbroken(other), description="a write at once")
            finally:
                await beating.stop()
            left = sorted([key async for key in bus.scan("*")])
            # Who may write heartbeats may write no other keys than such.
            assert [bool(re.fullmatch(r"tried:\{[^{}]*-mine\}", key)) for key in left] == [True, True]
            assert all([0 < await bus.call("PTTL", key) <= 5_000 for key in left])


async def test_a_heartbeat_that_redis_has_lost_is_noticed_by_the_next_and_the_first_misses_none(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, stream_prefix: str
) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.02)
    beats: list[float] = []
    lost: list[int] = []
    key = f"{stream_prefix}:heartbeat"
    beating = Heartbeat(redis_url, key, dict, renewed=beats.append, lost=lambda: lost.append(len(beats)))
    await beating.start()
    try:
        await wait_until(lambda: len(beats) >= 3, description="some beats")
        assert not lost
        async with await connect(redis_url) as bus:
            await bus.call("DEL", key)
        await wait_until(lambda: lost, description="the lost one")
        told = len(beats)
        await wait_until(lambda: len(beats) >= told + 3, description="more beats")
        assert len(lost) == 1
    finally:
        await beating.stop()


@pytest.mark.parametrize(
    ("left_ms", "of_later", "counts"),
    [
        (119_000, False, True),
        (170_000, True, True),
        (200_000, True, False),
        (3_600_000, True, False),
        pytest.param(3_600_000, False, True, id="a worker that gives its key longer to live"),
    ],
)
async def test_a_beat_that_a_clock_set_back_gives_a_long_life_does_not_count_for_as_long(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, stream_prefix: str, left_ms: int, *, of_later: bool, counts: bool
) -> None:
    monkeypatch.setattr(heartbeat, "HEARTBEAT_TTL_S", 120)
    monkeypatch.setattr(heartbeat, "ALIVE_MS", 60_000)
    async with await connect(redis_url) as bus:
        key = f"{stream_prefix}:beat"
        seconds, _ = await bus.call("TIME")
        await bus.call("HSET", key, "at", int(seconds) * 1000 + (left_ms if of_later else -1_000))
        await bus.call("PEXPIRE", key, left_ms)
        assert await heartbeat.living(bus, [key]) == [counts]
        assert (await heartbeat.lives_for_ms(bus, key) > 0) is counts


async def test_a_beat_that_does_not_tell_its_time_counts_as_long_as_its_key_says(
    redis_url: str, stream_prefix: str
) -> None:
    async with await connect(redis_url) as bus:
        key = f"{stream_prefix}:beat"
        await bus.call("SET", key, "beat", "PX", 60_000)
        assert await heartbeat.living(bus, [key]) == [True]


@pytest.mark.parametrize("left_ms", [7_200_000, 1_000, 0])
async def test_nobody_counts_as_dead_where_the_servers_clock_has_jumped_or_heartbeats_were_removed(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, stream_prefix: str, left_ms: int
) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 3600.0)
    monkeypatch.setattr(heartbeat, "HEARTBEAT_TTL_S", 3600)
    monkeypatch.setattr(contact, "_SETTLED_S", 0.0)
    own, other = f"{stream_prefix}:own", f"{stream_prefix}:other"
    beating = Heartbeat(redis_url, own, dict)
    await beating.start()
    try:
        async with await connect(redis_url) as bus:
            assert await beating.tells_dead(bus, other)
            await bus.call("PEXPIRE", own, left_ms)
            assert not await beating.tells_dead(bus, other)
    finally:
        await beating.stop()


async def test_nobody_counts_as_dead_on_another_master_whose_clock_has_jumped_or_whose_heartbeats_were_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 3600.0)
    monkeypatch.setattr(heartbeat, "HEARTBEAT_TTL_S", 3600)
    monkeypatch.setattr(contact, "_SETTLED_S", 0.0)
    with patient_cluster() as cluster:
        url = address_of(cluster)
        async with await connect(url) as bus:
            own = bus.server_of("tried:{mine}")
            others = [key for key in (f"tried:{{{n}}}" for n in range(100)) if bus.server_of(key) != own]
            there = bus.server_of(others[0])
            elsewhere = next(key for key in others if bus.server_of(key) != there)
            beating = Heartbeat(url, "tried:{mine}", dict)
            await beating.start()
            try:
                await wait_until(lambda: len(beating._written) == 2, description="the first writes")
                await wait_until(lambda: not beating._writing, description="their end")
                witness = beating._written[there].key
                for left_ms in (7_200_000, 1_000, 0):
                    await bus.call("HSET", witness, "at", 0)  # there again, where it was removed
                    await bus.call("PEXPIRE", witness, 3_600_000)
                    assert await beating.tells_dead(bus, others[0])
                    await bus.call("PEXPIRE", witness, left_ms)
                    assert not await beating.tells_dead(bus, others[0])
                    assert await beating.tells_dead(bus, elsewhere)
            finally:
                await beating.stop()


async def test_a_jump_of_another_masters_clock_or_a_removal_there_is_noticed_by_the_next_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.1)
    monkeypatch.setattr(heartbeat, "_JUMP_S", 60.0)
    broke: list[str | None] = []
    with patient_cluster() as cluster:
        url = address_of(cluster)
        async with await connect(url) as bus:
            own = bus.server_of("tried:{mine}")
            there = min({bus.server_of(str(n)) for n in range(100)} - {own})
            beating = Heartbeat(url, "tried:{mine}", dict)
            monkeypatch.setattr(beating.contact, "broke", lambda server=None: broke.append(server))
            await beating.start()
            try:
                await wait_until(lambda: there in beating._written, description="the first write")
                for jump_ms in (-240_000, 120_000, 0):
                    last = beating._written[there]
                    if jump_ms:  # as if the server had told of the last one by a clock that was set since
                        beating._written[there] = replace(last, at=last.at - jump_ms)
                    else:
                        await bus.call("DEL", last.key)
                    await wait_until(lambda: broke, description="it to be noticed")
                    assert set(broke) == {there}
                    broke.clear()
            finally:
                await beating.stop()


@pytest.mark.parametrize("jump_ms", [-240_000, 120_000])
async def test_a_jump_of_the_servers_clock_is_noticed_by_the_next_beat_and_others_are_given_time_for_theirs(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, stream_prefix: str, jump_ms: int
) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.02)
    monkeypatch.setattr(heartbeat, "_JUMP_S", 60.0)
    beats: list[float] = []
    broke: list[int] = []
    jumped: list[int] = []
    key = f"{stream_prefix}:heartbeat"
    beating = Heartbeat(redis_url, key, dict, renewed=beats.append, jumped=lambda: jumped.append(len(beats)))
    monkeypatch.setattr(beating.contact, "broke", lambda: broke.append(len(beats)))
    await beating.start()
    try:
        await wait_until(lambda: len(beats) >= 3, description="some beats")
        assert not jumped
        beating._at -= jump_ms  # as if the server had told of the last beat by a clock that was set since
        await wait_until(lambda: jumped, description="the jump to be noticed")
        told = len(beats)
        await wait_until(lambda: len(beats) >= told + 3, description="more beats")
        assert (len(jumped), len(broke)) == (1, 1)
    finally:
        await beating.stop()
