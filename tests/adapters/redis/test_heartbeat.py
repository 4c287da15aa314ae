"""A heartbeat whose Redis is away, or has lost it."""

import itertools
import logging

import pytest
import redis

from support.servers import RedisServer
from support.waiting import wait_until
from voicebus.adapters.redis import heartbeat
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


async def test_a_redis_that_took_nothing_for_a_moment_is_steady_only_a_while_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.02)
    monkeypatch.setattr(heartbeat, "_WAITING_S", heartbeat._SLOW_S)
    taken: list[float] = []
    with RedisServer() as server, redis.Redis(port=server.port) as client:
        beating = Heartbeat(server.url, "tried:heartbeat", dict, renewed=taken.append)
        await beating.start()
        try:
            await wait_until(lambda: beating.steady, description="a first beat")
            client.execute_command("CLIENT", "PAUSE", 3_600_000, "WRITE")
            await wait_until(lambda: not beating.steady, description="the beat that is not taken")
            monkeypatch.setattr(heartbeat, "_SETTLED_S", 3600.0)
            client.execute_command("CLIENT", "UNPAUSE")
            before = len(taken)
            await wait_until(lambda: len(taken) > before + 1, description="beats that are")
            assert not beating.steady
            monkeypatch.setattr(heartbeat, "_SETTLED_S", 0.0)
            await wait_until(lambda: beating.steady, description="a beat at once")
        finally:
            await beating.stop()


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
