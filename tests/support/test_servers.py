"""The test servers themselves: they come back on the same port, with their data where that was asked for."""

from pathlib import Path

import psycopg
import pytest
import redis

from support.servers import PostgresServer, RedisServer


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
