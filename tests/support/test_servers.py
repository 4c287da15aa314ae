"""The test servers themselves: they come back on the same port, with their data where that was asked for."""

import socket
from collections import deque
from pathlib import Path

import psycopg
import pytest
import redis

from support.servers import PostgresServer, RedisServer, free_port


def test_a_free_port_is_none_that_the_kernel_gives_to_who_asks_for_any() -> None:
    with socket.socket() as anybody:
        anybody.bind(("127.0.0.1", 0))
        given = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        assert int(given[0]) <= anybody.getsockname()[1] <= int(given[1])
    for _ in range(100):
        assert not {port := free_port(10_000), port + 10_000} & set(range(int(given[0]), int(given[1]) + 1))


def test_a_port_is_free_if_those_that_are_needed_beside_it_are_too(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = free_port(1), free_port(1), free_port(1)
    choices = iter([first, second, third])
    monkeypatch.setattr("support.servers._GIVEN", deque())
    monkeypatch.setattr("random.SystemRandom.randrange", lambda *_: next(choices))
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", first))
        other.bind(("127.0.0.1", second + 1))
        assert free_port(1) == third


def test_a_port_that_was_given_lately_is_not_given_again_before_anybody_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = free_port(), free_port()
    choices = iter([first, first, second])
    monkeypatch.setattr("support.servers._GIVEN", deque())
    monkeypatch.setattr("random.SystemRandom.randrange", lambda *_: next(choices))
    assert [free_port(), free_port()] == [first, second]


def test_a_persistent_redis_survives_a_kill() -> None:
    with RedisServer(persistent=True, password="tester") as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("kept", "1")
        server.kill()
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("kept") == b"1"


def test_postgresql_comes_from_the_wheel_where_debian_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda path, pattern: [] if "postgres" in str(path) else glob(path, pattern))
    monkeypatch.setenv("PATH", "/nowhere")
    with PostgresServer() as server:
        assert "pixeltable" in str(server._programs()) or server._programs().is_relative_to(server.folder)
        server.restart()
        with psycopg.connect(server.url.replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
