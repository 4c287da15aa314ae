"""The one connection of all commands: what happens to each where it breaks, hangs, or a command is odd."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from support.servers import RedisServer
from support.waiting import wait_until
from voicebus.adapters.redis import client as client_module
from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.errors import BusError


@pytest.fixture
async def own(redis_url: str) -> AsyncIterator[RedisConnection]:
    async with await connect(redis_url) as connection:
        yield connection


async def test_a_connection_that_the_server_closed_while_idle_is_made_anew_unnoticed(
    bus: RedisConnection, own: RedisConnection
) -> None:
    await bus.call("CLIENT", "KILL", "ID", await own.call("CLIENT", "ID"))
    await wait_until(lambda: _open_again(own), description="a command on a new connection")


async def _open_again(own: RedisConnection) -> bool:
    return bool(await own.call("PING"))


async def test_what_was_under_way_on_a_broken_connection_fails_and_the_next_command_passes(
    bus: RedisConnection, own: RedisConnection, stream_prefix: str
) -> None:
    number = await own.call("CLIENT", "ID")
    blocked = [own.submit("BLPOP", f"{stream_prefix}:none", 30), own.submit("PING")]
    await wait_until(lambda: _blocked(bus, number), description="the command reaching the server")
    await bus.call("CLIENT", "KILL", "ID", number)
    for future in blocked:
        with pytest.raises(BusError, match="cannot be reached"):
            await future
    assert await own.call("PING")


async def _blocked(bus: RedisConnection, number: int) -> bool:
    listed = str(await bus.call("CLIENT", "LIST", "ID", number))
    return "cmd=blpop" in listed


async def test_a_server_that_hangs_fails_its_commands_in_time_and_serves_again_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "COMMAND_TIMEOUT_S", 0.5)
    with RedisServer() as server:
        async with await connect(server.url) as own:
            pid = int((await own.call("INFO", "server"))["process_id"])
            os.kill(pid, signal.SIGSTOP)
            try:
                with pytest.raises(BusError, match="did not answer in time"):
                    await own.call("PING")
            finally:
                os.kill(pid, signal.SIGCONT)
            assert await own.call("PING")


async def test_a_cancelled_caller_leaves_the_replies_of_others_in_their_order(
    own: RedisConnection, stream_prefix: str
) -> None:
    key = f"{stream_prefix}:counter"
    futures = [own.submit("INCR", key) for _ in range(10)]
    futures[3].cancel()
    replies = await asyncio.gather(*(future for future in futures if not future.cancelled()))
    assert replies == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    await own.call("DEL", key)


async def test_text_that_is_no_unicode_does_not_harm_its_neighbours(own: RedisConnection, stream_prefix: str) -> None:
    key = f"{stream_prefix}:odd"
    set_it, get_it = own.submit("SET", key, "a\udce9b", "EX", 60), own.submit("GET", key)
    assert (await set_it, await get_it) == (True, "a?b")


async def test_commands_of_a_closed_connection_fail_at_once(redis_url: str, stream_prefix: str) -> None:
    own = await connect(redis_url)
    waiting = own.submit("BLPOP", f"{stream_prefix}:none", 30)
    await own.aclose()
    for future in (waiting, own.submit("PING")):
        with pytest.raises(BusError, match="was closed"):
            await future
