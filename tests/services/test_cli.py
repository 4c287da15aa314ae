"""The command line: help, exit statuses, and one clear sentence for each wrong input."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.commands import environment, voicebus
from support.servers import RedisServer

COMMANDS = (
    "gateway",
    "tool-worker",
    "guardrail-worker",
    "transcript-archiver",
    "model-simulator",
    "dev",
    "call",
    "doctor",
    "test",
    "migrate",
)
TARGET = "examples.front_desk"
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    """A folder with modules that cannot be served."""
    (tmp_path / "twice.py").write_text(
        "from voicebus import RealtimeAgent, function_tool\n"
        "@function_tool\ndef look(a: str) -> str: return a\n"
        "@function_tool(name_override='look')\ndef other(a: str) -> str: return a\n"
        "agent = RealtimeAgent('a', tools=[look, other])\n",
        encoding="utf-8",
    )
    (tmp_path / "number.py").write_text("agent = 42\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
async def test_every_command_has_help(command: str) -> None:
    ran = await voicebus(command, "--help")
    assert ran.status == 0
    assert ran.out.startswith("Usage: voicebus")


@pytest.mark.parametrize("arguments", [["nonsense"], ["gateway", "--nonsense"], ["dev", "--gateways", "none"]])
async def test_a_wrong_command_line_is_one_sentence_and_status_2(arguments: list[str]) -> None:
    ran = await voicebus(*arguments)
    assert ran.status == 2
    assert ran.complaint.startswith("voicebus: usage: ")


@pytest.mark.parametrize("setting", ["model-fallbacks", "model-headers"])
async def test_what_may_hold_keys_is_not_taken_from_the_command_line(setting: str) -> None:
    ran = await voicebus("gateway", TARGET, f"--{setting}", '{"api-key": "hunter2"}')
    variable = f"VOICEBUS_{setting.replace('-', '_').upper()}"
    assert ran.status == 2
    assert ran.complaint == (
        f"voicebus: usage: --{setting} may hold secrets, and everybody on this machine sees its command line; "
        f"set {variable}, or {variable}_FILE to a file with the value"
    )
    shown = await voicebus("gateway", "--help")
    assert f"--{setting}" not in shown.out
    assert variable in shown.out


@pytest.mark.parametrize("service", ["gateway", "tool-worker", "guardrail-worker"])
@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("no_such_module", "TARGET 'no_such_module': there is no module 'no_such_module'"),
        ("number:agent", "TARGET 'number:agent' is a int; a RealtimeRunner or a RealtimeAgent is needed"),
        ("twice", "two tools are named 'look'"),
    ],
)
async def test_a_wrong_target_is_one_sentence(
    service: str, target: str, sentence: str, targets: Path, redis_url: str, stream_prefix: str
) -> None:
    ran = await voicebus(
        service,
        target,
        cwd=targets,
        redis_url=redis_url,
        stream_prefix=stream_prefix,
        model_url="ws://127.0.0.1:1/v1/realtime",
        http_port=0,
        ops_port=0,
    )
    assert ran.status == 2
    assert ran.complaint.startswith("voicebus: target: ")
    assert sentence in ran.complaint


@pytest.mark.parametrize("service", ["gateway", "tool-worker", "guardrail-worker", "transcript-archiver"])
async def test_an_unreachable_redis_is_one_sentence(service: str, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'v.db'}"
    assert (await voicebus("migrate", database_url=database)).status == 0
    arguments = [service] if service == "transcript-archiver" else [service, TARGET]
    ran = await voicebus(
        *arguments,
        redis_url=NOWHERE,
        database_url=database,
        model_url="ws://127.0.0.1:1/v1/realtime",
        http_port=0,
        ops_port=0,
    )
    assert ran.status == 1
    assert ran.complaint.startswith("voicebus: redis: ")
    assert "127.0.0.1:1" in ran.complaint
    assert "VOICEBUS_REDIS_URL" in ran.complaint


async def test_a_wrong_redis_password_is_one_sentence_without_the_password(tmp_path: Path) -> None:
    server = RedisServer(password="right")
    server.start()
    try:
        ran = await voicebus("tool-worker", TARGET, redis_url=f"redis://:hunter2@127.0.0.1:{server.port}/0", ops_port=0)
    finally:
        server.stop()
    assert ran.status == 1
    assert ran.complaint.startswith("voicebus: redis: ")
    assert "password" in ran.complaint
    assert "hunter2" not in ran.err


async def test_a_database_that_is_not_migrated_names_the_command_that_helps(
    tmp_path: Path, redis_url: str, stream_prefix: str
) -> None:
    ran = await voicebus(
        "transcript-archiver",
        redis_url=redis_url,
        stream_prefix=stream_prefix,
        database_url=f"sqlite:///{tmp_path / 'new.db'}",
        http_port=0,
        ops_port=0,
    )
    assert ran.status == 1
    assert ran.complaint.startswith("voicebus: database: ")
    assert "voicebus migrate" in ran.complaint


async def test_a_public_port_in_use_is_one_sentence(
    taken_port: int, tmp_path: Path, redis_url: str, stream_prefix: str
) -> None:
    database = f"sqlite:///{tmp_path / 'v.db'}"
    await voicebus("migrate", database_url=database)
    common: dict[str, Any] = {
        "redis_url": redis_url,
        "stream_prefix": stream_prefix,
        "database_url": database,
        "model_url": "ws://127.0.0.1:1/v1/realtime",
        "http_port": taken_port,
        "ops_port": 0,
    }
    for arguments in (["gateway", TARGET], ["transcript-archiver"], ["model-simulator"]):
        ran = await voicebus(*arguments, **common)
        assert ran.status == 2, arguments
        assert f"VOICEBUS_HTTP_PORT: 127.0.0.1:{taken_port} cannot be opened" in ran.complaint


async def test_an_ops_port_in_use_is_one_sentence(taken_port: int, redis_url: str, stream_prefix: str) -> None:
    ran = await voicebus("tool-worker", TARGET, redis_url=redis_url, stream_prefix=stream_prefix, ops_port=taken_port)
    assert ran.status == 2
    assert f"VOICEBUS_OPS_PORT: 127.0.0.1:{taken_port} cannot be opened" in ran.complaint


async def test_a_model_address_that_is_no_websocket_is_one_sentence() -> None:
    ran = await voicebus("gateway", TARGET, model_url="https://api.openai.com/v1/realtime")
    assert ran.status == 2
    assert ran.complaint.startswith("voicebus: settings: VOICEBUS_MODEL_URL: 'https://api.openai.com/v1/realtime'")


async def test_a_real_model_address_without_a_key_is_one_sentence(redis_url: str, stream_prefix: str) -> None:
    ran = await voicebus("gateway", TARGET, redis_url=redis_url, stream_prefix=stream_prefix, http_port=0, ops_port=0)
    assert ran.status == 2
    assert ran.complaint.startswith("voicebus: settings: VOICEBUS_MODEL_API_KEY: ")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"", "no WAV audio"), (b"this is text, not sound", "no WAV audio"), (None, "there is no such file")],
)
async def test_a_wav_that_is_no_audio_is_one_sentence(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "in.wav"
    if content is not None:
        path.write_bytes(content)
    for arguments in (["call", "--wav", str(path)], ["dev", TARGET, "--once", "--wav", str(path)]):
        ran = await voicebus(*arguments, cwd=tmp_path, timeout_s=20)
        assert ran.status == 2
        assert sentence in ran.complaint
        assert str(path) in ran.complaint


async def test_a_gateway_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    ran = await voicebus("call", "--text", "hello", "--url", "http://127.0.0.1:1")
    assert ran.status == 1
    assert "no gateway answers at ws://127.0.0.1:1/v1/sessions/connect" in ran.complaint


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_end_no_command(closed: str) -> None:
    """A socket got their numbers, and libuv ended the process (SIGABRT), a service when it stopped or at once."""
    call = f"{sys.executable} -m voicebus_services.cli call --text hello --url http://127.0.0.1:1 {closed}"
    ran = subprocess.run(["sh", "-c", call], env=environment(), check=False, capture_output=True, text=True, timeout=45)
    assert ran.returncode == 1, ran.stderr
    assert ("no gateway answers" in ran.stderr) == ("2>&-" not in closed)


async def test_call_takes_one_way_of_speaking(tmp_path: Path) -> None:
    ran = await voicebus("call", "--text", "hello", "--mic")
    assert ran.status == 2
    assert "exclude each other" in ran.complaint


async def test_doctor_says_what_is_wrong_and_how_to_mend_it(tmp_path: Path) -> None:
    ran = await voicebus(
        "doctor",
        "no_such_module",
        cwd=tmp_path,
        redis_url=NOWHERE,
        model_url="ws://127.0.0.1:1/v1/realtime",
        model_api_key="k",
    )
    assert ran.status == 1
    found = {line.split()[1].rstrip(":"): line for line in ran.out.splitlines()}
    assert found["python"].startswith("ok ")
    assert found["settings"].startswith("ok ")
    assert "VOICEBUS_REDIS_URL" in found["redis"]
    assert "voicebus migrate" in found["database"]
    assert found["model"].startswith("FAILED ")
    assert "no_such_module" in found["targets"]


async def test_a_misspelled_variable_is_told_by_the_doctor_and_where_a_service_starts(tmp_path: Path) -> None:
    doctor = await voicebus("doctor", "--for", "tool-worker", cwd=tmp_path, redis_url=NOWHERE, concurrent="5")
    assert "settings: nothing reads VOICEBUS_CONCURRENT (did you mean VOICEBUS_CONCURRENCY?)" in doctor.out
    (tmp_path / "worker.py").write_text(
        "from voicebus import function_tool\n@function_tool\ndef look(a: str) -> str: return a\n", encoding="utf-8"
    )
    worker = await voicebus("tool-worker", "worker", cwd=tmp_path, redis_url=NOWHERE, ops_port=0, concurrent="5")
    assert "nothing reads this variable" in worker.out + worker.err
    assert "did_you_mean=VOICEBUS_CONCURRENCY" in worker.out + worker.err


async def test_the_doctor_of_one_service_asks_for_its_own_settings_alone(tmp_path: Path) -> None:
    (tmp_path / "only_tools.py").write_text(
        "from voicebus import function_tool\n@function_tool\ndef look(a: str) -> str: return a\n", encoding="utf-8"
    )
    found: dict[str, dict[str, str]] = {}
    for service in ("gateway", "tool-worker"):
        ran = await voicebus(
            *("doctor", "--for", service, "only_tools"),
            cwd=tmp_path, redis_url=NOWHERE, max_sessions="many", concurrency=5,
            model_url="ws://127.0.0.1:1/v1/realtime", model_api_key="k",
        )  # fmt: skip
        assert ran.status == 1
        found[service] = {line.split()[1].rstrip(":"): line for line in ran.out.splitlines()}
    gateway, worker = found["gateway"], found["tool-worker"]
    assert "VOICEBUS_MAX_SESSIONS" in gateway["settings"]
    assert "defines no agent" in gateway["targets"]
    assert worker.keys() == {"python", "settings", "redis", "targets"}
    assert worker["settings"].startswith("ok ")
    assert worker["targets"].startswith("ok ")
    assert "VOICEBUS_REDIS_URL" in worker["redis"]
    wrong = await voicebus("doctor", "--for", "database")
    assert wrong.status == 2
    assert "transcript-archiver" in wrong.complaint


async def test_dev_without_a_target_says_what_to_give(tmp_path: Path) -> None:
    ran = await voicebus("dev", cwd=tmp_path)
    assert ran.status == 2
    assert "no TARGET was given" in ran.complaint
