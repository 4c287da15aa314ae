"""The image, really built and run, where there is an engine and a base image; else the skip says what was missing.

VOICEBUS_BASE_IMAGE=NAME    a base that the engine has, instead of the Dockerfile's
"""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Final

import pytest
import yaml

from deploy.engines import Engine
from deploy.helm import ROOT

pytestmark = [pytest.mark.timeout(1800), pytest.mark.xdist_group("image")]

HARDENED: Final = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")
LARGEST_MB: Final = 400
"""What the image may add to its base: dependencies, compiled once, and the sources."""

Image = tuple[Engine, str, str]


def in_container(built: Image, *command: str, user: str | None = None) -> CompletedProcess[str]:
    """Run a command in the image as a cluster does: its own user or another, nothing writable but /tmp."""
    engine, name, _ = built
    if engine.name != "buildah":
        options = [
            *HARDENED,
            "--network=none",
            *([] if user is None else [f"--user={user}"]),
            "--entrypoint",
            command[0],
        ]
        return engine.run("run", "--rm", *options, name, *command[1:])
    made = engine.run("from", name)
    assert made.returncode == 0, made.stderr
    container = made.stdout.strip()
    try:
        options = ["--isolation=chroot", *([] if user is None else [f"--user={user}"])]
        return engine.run("run", *options, container, "--", *command)
    finally:
        engine.run("rm", container)


def test_every_service_starts_in_it_as_far_as_its_help(built: Image) -> None:
    for command in ("gateway", "tool-worker", "guardrail-worker", "transcript-archiver", "model-simulator", "migrate"):
        result = in_container(built, "voicebus", command, "--help")
        assert result.returncode == 0, result.stderr
        assert command in result.stdout


def test_it_runs_as_nobody_in_particular_and_has_no_compiler_and_no_pip(built: Image) -> None:
    told = in_container(built, "sh", "-c", "id -u; command -v gcc cc make pip pip3 || echo none")
    assert told.stdout.split() == ["10001", "none"], told.stderr


@pytest.mark.parametrize("user", [None, "1000650000:0"], ids=["its own user", "a user that a cluster gives"])
def test_a_database_is_migrated_in_it(built: Image, user: str | None) -> None:
    url = "sqlite:////tmp/calls.db"
    told = in_container(built, "sh", "-c", f"VOICEBUS_DATABASE_URL={url} voicebus migrate", user=user)
    assert told.returncode == 0, told.stderr
    assert "up to date" in told.stdout


def test_memory_lies_in_huge_pages_where_the_host_leaves_that_to_its_programs(built: Image) -> None:
    program = (
        "kept = [bytes(1000) for _ in range(50_000)]; "
        "print(*(line.split()[1] for line in open('/proc/self/smaps_rollup') if line.startswith('AnonHugePages')))"
    )
    told = in_container(built, "python", "-c", program)
    assert told.returncode == 0, told.stderr
    has_any = "[never]" not in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    assert (int(told.stdout) > 0) == has_any


def test_nothing_of_the_speech_extra_is_in_it(built: Image) -> None:
    program = "from importlib.metadata import distributions as d; print(sorted(x.name.lower() for x in d()))"
    told = in_container(built, "python3", "-c", program)
    names: Mapping[str, None] = dict.fromkeys(re.findall(r"'([^']+)'", told.stdout))
    assert "voicebus" in names, told.stderr
    assert not names.keys() & {"espeakng-loader", "faster-whisper", "av", "piper-tts"}


def test_it_is_small_beside_its_base(built: Image) -> None:
    engine, name, base = built
    if engine.name == "buildah":
        pytest.skip("buildah tells no sizes of images")
    sizes = [int(engine.run("image", "inspect", "--format={{.Size}}", image).stdout) for image in (name, base)]
    assert (sizes[0] - sizes[1]) / 1e6 < LARGEST_MB


def test_a_service_in_it_is_healthy_by_the_check_of_compose_and_stops_in_order(built: Image) -> None:
    engine, name, _ = built
    if engine.name == "buildah":
        pytest.skip("buildah keeps no container running")
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    service = compose["services"]["model-simulator"]
    started = engine.run("run", "--detach", "--network=none", *HARDENED, name, *service["command"])
    assert started.returncode == 0, started.stderr
    container = started.stdout.strip()
    try:
        until = time.monotonic() + 60
        while (check := engine.run("exec", container, *service["healthcheck"]["test"][1:])).returncode != 0:
            assert time.monotonic() < until, check.stderr + engine.run("logs", container).stderr
            time.sleep(0.2)
        # PID 1 is python, which gets SIGTERM itself: it was killed if it ends with 137.
        assert engine.run("stop", "--time=60", container).returncode == 0
        assert engine.run("inspect", "--format={{.State.ExitCode}}", container).stdout.strip() == "0"
    finally:
        engine.run("rm", "--force", container)
