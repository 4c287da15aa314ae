"""Connecting: every scheme, and one clear sentence for everything that can be wrong."""

import asyncio
import time

import pytest

from support.servers import RedisServer, free_port
from support.waiting import wait_until
from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.adapters.redis.scripts import ENDED, script
from voicebus.errors import BusError, SettingsError


async def test_commands_of_one_turn_are_answered_in_order(bus: RedisConnection, stream_prefix: str) -> None:
    key = f"{stream_prefix}:counter"
    replies = await asyncio.gather(*(bus.call("INCR", key) for _ in range(600)))
    assert list(replies) == list(range(1, 601))
    await bus.call("DEL", key)


async def test_one_refused_command_does_not_harm_its_neighbours(bus: RedisConnection, stream_prefix: str) -> None:
    key = f"{stream_prefix}:list"
    replies = await asyncio.gather(
        bus.call("SET", key, "text", "EX", 60), bus.call("LPUSH", key, "x"), bus.call("GET", key),
        return_exceptions=True,
    )  # fmt: skip
    assert replies[2] == "text"
    assert isinstance(replies[1], BusError)
    assert "WRONGTYPE" in str(replies[1])


async def test_half_a_pair_of_surrogates_is_replaced_and_harms_no_neighbour(
    bus: RedisConnection, stream_prefix: str
) -> None:
    key = f"{stream_prefix}:text"
    replies = await asyncio.gather(bus.call("SET", key, "x\ud800y", "EX", 60), bus.call("GET", key))
    assert list(replies) == [True, "x?y"]


async def test_a_reader_that_left_in_the_middle_leaves_no_reply_to_the_next(
    bus: RedisConnection, stream_prefix: str
) -> None:
    first, second = f"{stream_prefix}:first", f"{stream_prefix}:second"
    reading = asyncio.create_task(bus.read_blocking("XREAD", "BLOCK", 5_000, "STREAMS", first, "0"))
    await wait_until(lambda: is_blocked(bus), description="a reader waits")
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await bus.call("XADD", first, "*", "of", "first")
    await bus.call("XADD", second, "*", "of", "second")
    ((stream, ((_, fields),)),) = await bus.read_blocking("XREAD", "BLOCK", 5_000, "STREAMS", second, "0")
    assert (stream, fields) == (second, {"of": "second"})
    await bus.call("DEL", first, second)


async def is_blocked(bus: RedisConnection) -> bool:
    """Whether a client of the server waits in a blocking read."""
    return "cmd=xread" in await bus.call("CLIENT", "LIST")


async def test_a_script_that_the_server_does_not_know_is_sent_in_full(bus: RedisConnection, stream_prefix: str) -> None:
    made = script("twice", f"-- {stream_prefix}\nreturn ARGV[1] * 2")
    assert await bus.scripts(made, [([f"{stream_prefix}:{number}"], [number]) for number in range(3)]) == [0, 2, 4]


async def test_of_several_runs_of_a_script_one_that_fails_harms_no_other(
    bus: RedisConnection, stream_prefix: str
) -> None:
    made = script("number", "return ARGV[1] + 1")
    first, wrong, last = await bus.scripts(made, [([f"{stream_prefix}:x"], [word]) for word in (1, "none", 3)])
    assert (first, last) == (2, 4)
    assert isinstance(wrong, BusError)


async def test_a_blocking_read_outlasts_the_vendors_default_timeout(bus: RedisConnection, stream_prefix: str) -> None:
    started = time.monotonic()
    reply = await bus.read_blocking("XREAD", "BLOCK", 5_000, "STREAMS", f"{stream_prefix}:none", "0")
    assert not reply
    assert time.monotonic() - started >= 4.9


async def test_nothing_listens_is_one_clear_sentence() -> None:
    port = free_port()
    with pytest.raises(BusError, match=rf"^Redis at redis://127\.0\.0\.1:{port}/0 cannot be reached \(.*\); start it"):
        await connect(f"redis://:hidden@127.0.0.1:{port}/0")


async def test_passwords_are_judged_and_never_shown() -> None:
    with RedisServer(password="right-one") as server:
        async with await connect(server.url) as bus:
            assert await bus.call("PING")
        for url, what in (
            (f"redis://:wrong-one@127.0.0.1:{server.port}/0", "refused the user or password"),
            (f"redis://127.0.0.1:{server.port}/0", "wants a password"),
        ):
            with pytest.raises(BusError, match=rf"{what}; correct VOICEBUS_REDIS_URL$") as caught:
                await connect(url)
            assert "wrong-one" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://localhost", "redis+sentinel://localhost:26379", "redis+cluster://:0/", "redis://localhost:port"]
)
async def test_a_malformed_address_is_a_settings_error(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^VOICEBUS_REDIS_URL: .* is no Redis address"):
        await connect(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hun?ter2@localhost:6379",
        "redis://user:hun/ter2@localhost:6379",
        "redis+cluster://user:hun/ter2@localhost:6379",
        "redis+sentinel://user:hun/ter2@localhost:6379/main",
        "redis://localhost:port?password=hun@ter2",
        "redis:/user:hunter2@localhost",
    ],
)
async def test_a_malformed_address_shows_no_piece_of_its_password(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        await connect(url)
    assert "is no Redis address" in str(caught.value)
    assert "hun" not in str(caught.value)
    assert "ter2" not in str(caught.value)


async def test_a_unix_socket_works() -> None:
    with RedisServer() as server:
        async with await connect(f"unix://{server.socket_path}") as bus:
            assert await bus.call("PING")


async def test_a_connection_comes_back_after_a_restart() -> None:
    with RedisServer() as server:
        async with await connect(server.url) as bus:
            server.kill()
            with pytest.raises(BusError):
                await bus.call("PING")
            server.start()

            async def answers() -> bool:
                try:
                    return bool(await bus.call("PING"))
                except BusError:
                    return False

            await wait_until(answers, description="Redis to answer again")


async def test_waiting_commands_fail_when_the_connection_is_closed() -> None:
    with RedisServer() as server:
        bus = await connect(server.url)
        server.pause()
        waiting = asyncio.create_task(bus.call("PING"))
        await asyncio.sleep(0)
        await bus.aclose()
        with pytest.raises(BusError, match="was closed"):
            await waiting
        server.resume()


async def test_a_script_on_a_connection_that_was_closed_is_refused_and_opens_none(redis_url: str) -> None:
    bus = await connect(redis_url)
    await bus.script(ENDED, ["vb:{0}:ended"])
    waiting = [bus.script(ENDED, ["vb:{0}:ended"]), bus.script(ENDED, ["vb:{1}:ended"])]
    await bus.aclose()
    for reply in (*waiting, bus.script(ENDED, ["vb:{0}:ended"])):
        with pytest.raises(BusError, match="was closed"):
            await reply
    assert "open=0" in repr(bus)
