"""`voicebus top` as an operator calls it, in a terminal and without one."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.servers import RedisServer

VOICEBUS = [sys.executable, "-m", "voicebus_services.cli", "top"]


@pytest.fixture
def environment(redis_url: str, stream_prefix: str) -> dict[str, str]:
    return {**os.environ, "VOICEBUS_REDIS_URL": redis_url, "VOICEBUS_STREAM_PREFIX": stream_prefix, "TERM": "xterm"}


def test_one_look_is_printed_as_tables_or_as_json(environment: dict[str, str]) -> None:
    tables = subprocess.run([*VOICEBUS, "--once"], env=environment, capture_output=True, text=True, check=True)
    assert "none lives" in tables.stdout
    assert tables.stderr == ""
    looked = subprocess.run(
        [*VOICEBUS, "--once", "--json"], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(looked.stdout)["gateways"] == []


def test_in_a_terminal_it_looks_again_until_it_is_interrupted(environment: dict[str, str]) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(VOICEBUS[0], [*VOICEBUS, "--every", "0.2"], environment)
    seen = b""
    while seen.count(b"none lives") < 2:
        seen += os.read(terminal, 65536)
    os.write(terminal, b"\x03")
    try:
        while part := os.read(terminal, 65536):
            seen += part
    except OSError:
        pass  # Linux says so of a terminal whose process has gone
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 130
    assert b"Traceback" not in seen


def test_an_outage_of_redis_is_told_above_what_was_seen_last_and_is_seen_to_end(environment: dict[str, str]) -> None:
    with RedisServer(persistent=True) as redis:
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(VOICEBUS[0], [*VOICEBUS, "--every", "0.2"], {**environment, "VOICEBUS_REDIS_URL": redis.url})
        try:
            read_until(terminal, b"none lives")
            redis.stop()
            seen = read_until(terminal, b"was seen last")
            assert b"Redis" in seen
            redis.start()
            read_until(terminal, b"none lives", without=b"was seen last")
        finally:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
            os.close(terminal)


def read_until(terminal: int, wanted: bytes, *, without: bytes = b"\0") -> bytes:
    """What a terminal shows in one piece, as a screen is written, once `wanted` is in it and `without` is not."""
    while not (wanted in (seen := os.read(terminal, 65536)) and without not in seen):
        pass
    return seen


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_takes_no_commands_gets_plain_text(term: str, environment: dict[str, str]) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(VOICEBUS[0], [*VOICEBUS, "--every", "0.2"], {**environment, "TERM": term})
    seen = b""
    try:
        while seen.count(b"none lives") < 2:
            seen += os.read(terminal, 65536)
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        os.close(terminal)
    assert b"\x1b" not in seen


@pytest.mark.parametrize(
    ("arguments", "sentence", "code"),
    [
        (["--every", "0"], "voicebus: usage: --every: '0' was read", 2),
        (["--redis-url", "redis://127.0.0.1:1"], "voicebus: redis: Redis at redis://127.0.0.1:1 cannot be reached", 1),
    ],
)
def test_what_is_wrong_is_one_sentence(
    arguments: list[str], sentence: str, code: int, environment: dict[str, str], tmp_path: Path
) -> None:
    ran = subprocess.run(
        [*VOICEBUS, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, len(ran.stderr.splitlines())) == (code, 1)
    assert ran.stderr.startswith(sentence)
