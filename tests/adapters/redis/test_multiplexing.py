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


async def test_a_blocked_read_ends_with_its_connection_and_none_begins_after_it(
    bus: RedisConnection, redis_url: str, stream_prefix: str
) -> None:
    own = await connect(redis_url)
    name = f"{stream_prefix}-reader"
    command = ("XREAD", "BLOCK", 5000, "STREAMS", f"{stream_prefix}:none", "0")
    await own.read_blocking("XREAD", "BLOCK", 1, "STREAMS", f"{stream_prefix}:none", "0")
    before = await _readers(bus)
    reading = asyncio.create_task(own.read_blocking(*command), name=name)
    await wait_until(lambda: _more_readers(bus, before), description="the read reaching the server")
    await own.aclose()
    with pytest.raises(BusError):
        await reading
    with pytest.raises(BusError, match="was closed"):
        await own.read_blocking(*command)
    await wait_until(lambda: _as_many_readers(bus, before), description="the end of its connection")


async def _readers(bus: RedisConnection) -> int:
    return str(await bus.call("CLIENT", "LIST")).count("flags=b")


async def _more_readers(bus: RedisConnection, before: int) -> bool:
    return await _readers(bus) > before


async def _as_many_readers(bus: RedisConnection, before: int) -> bool:
    return await _readers(bus) <= before


async def test_a_handshake_that_was_given_up_leaves_no_reply_for_the_commands_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "COMMAND_TIMEOUT_S", 0.3)
    monkeypatch.setattr(client_module, "CONNECT_TIMEOUT_S", 0.3)
    with RedisServer() as server:
        async with await connect(server.url) as own:
            pid = int((await own.call("INFO", "server"))["process_id"])
            os.kill(pid, signal.SIGSTOP)
            try:
                for _ in range(2):  # on the connection that hangs, then on one that is never greeted
                    with pytest.raises(BusError, match=r"did not answer in time|cannot be reached"):
                        await own.call("PING")
            finally:
                os.kill(pid, signal.SIGCONT)
            await wait_until(lambda: _open_again_after(own), description="a connection that is greeted")
            assert [await own.call("ECHO", str(number)) for number in range(5)] == ["0", "1", "2", "3", "4"]


async def _open_again_after(own: RedisConnection) -> bool:
    try:
        return bool(await own.call("PING"))
    except BusError:
        return False


async def test_more_than_a_socket_takes_at_once_arrives_whole_and_in_order(
    own: RedisConnection, stream_prefix: str
) -> None:
    keys = [f"{stream_prefix}:large:{number}" for number in range(12)]
    written = [own.submit("SET", key, str(number) * 1_000_000, "EX", 60) for number, key in enumerate(keys)]
    read = [own.submit("GET", key) for key in keys]
    await asyncio.gather(*written)
    assert [len(text) for text in await asyncio.gather(*read)] == [len(str(number)) * 1_000_000 for number in range(12)]
    await own.call("DEL", *keys)


async def test_a_master_that_became_a_replica_is_left_for_whoever_is_found_as_the_master_then() -> None:
    with RedisServer() as server:
        async with await connect(server.url) as own:
            number = await own.call("CLIENT", "ID")
            await own.call("REPLICAOF", "127.0.0.1", "1")
            with pytest.raises(BusError, match="is a read-only replica"):
                await own.call("SET", "key", "value")
            assert await own.call("CLIENT", "ID") != number
            await own.call("REPLICAOF", "NO", "ONE")
            await own.call("SET", "key", "value")


async def test_a_server_with_too_many_clients_says_so_and_serves_once_there_is_room() -> None:
    with RedisServer() as server:
        async with await connect(server.url) as first, await connect(server.url) as second:
            await first.call("CONFIG", "SET", "maxclients", 1)
            await first.call("CLIENT", "KILL", "ID", await second.call("CLIENT", "ID"))
            await wait_until(lambda: _full(second), description="the refusal")
            await first.call("CONFIG", "SET", "maxclients", 100)
            await wait_until(lambda: _open_again_after(second), description="room for another client")


async def _full(own: RedisConnection) -> bool:
    try:
        await own.call("PING")
    except BusError as error:
        return "max number of clients reached" in str(error)
    return False


async def test_a_server_that_is_full_is_named_as_such(stream_prefix: str) -> None:
    with RedisServer() as server:
        async with await connect(server.url) as own:
            await own.call("SET", f"{stream_prefix}:large", "x" * 2_000_000)
            await own.call("CONFIG", "SET", "maxmemory", "1mb", "maxmemory-policy", "noeviction")
            with pytest.raises(BusError, match="is full and takes nothing more; raise its maxmemory"):
                await own.call("SET", f"{stream_prefix}:key", "value")
