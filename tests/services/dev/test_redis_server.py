"""Where the Redis server binary is found."""

from pathlib import Path

import pytest

from voicebus.errors import SettingsError
from voicebus_services.dev.redis_server import find_redis_server


def _program(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_named_binary_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = _program(tmp_path / "named", "my-redis")
    _program(tmp_path / "path", "redis-server")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("REDIS_SERVER_BIN", str(named))
    assert find_redis_server() == named


def test_valkey_on_the_path_is_taken_where_there_is_no_redis(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    valkey = _program(tmp_path / "path", "valkey-server")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv("REDIS_SERVER_BIN", raising=False)
    assert find_redis_server() == valkey


def test_the_wheel_is_the_last_resort(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("REDIS_SERVER_BIN", raising=False)
    assert find_redis_server().name == "valkey-server"


def test_a_named_binary_that_is_none_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_SERVER_BIN", "/no/such/redis")
    with pytest.raises(SettingsError, match=r"^REDIS_SERVER_BIN: '/no/such/redis' is no executable file"):
        find_redis_server()
