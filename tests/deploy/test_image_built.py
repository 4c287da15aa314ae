"""The image, really built and run, where there is an engine and a base image; else the skip says what was missing.

    VOICEBUS_BASE_IMAGE=NAME    a base that the engine has, instead of the Dockerfile's

Tried in order: docker with its daemon, podman, buildah with chroot isolation (for machines where no container may be
made). A base image is taken from the engine's own storage, else pulled. Without a registry one is made of Debian:

    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm rootfs
    export STORAGE_DRIVER=vfs; made=$(buildah from scratch)
    buildah add $made rootfs / && buildah commit $made localhost/debian-python:base
"""

import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pytest

from deploy.helm import ROOT

pytestmark = [pytest.mark.timeout(1800), pytest.mark.xdist_group("image")]

DOCKERFILE: Final = ROOT / "deploy/docker/Dockerfile"
DEFAULT_BASE: Final = "python:3.11-slim-bookworm"


@dataclass(frozen=True)
class Engine:
    """A way to build and run; `probe` tells whether it works here."""

    name: str
    probe: Sequence[str]
    has: Sequence[str]
    pull: Sequence[str]
    build: Sequence[str]


ENGINES: Final = (
    Engine("docker", ("info",), ("image", "inspect"), ("pull",), ("build",)),
    Engine("podman", ("info",), ("image", "exists"), ("pull",), ("build",)),
    Engine("buildah", ("info",), ("inspect", "--type=image"), ("pull",), ("bud", "--isolation=chroot")),
)


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=1500, env={**os.environ, **environment}
    )


def last_line(result: subprocess.CompletedProcess[str]) -> str:
    return (result.stderr.strip() or result.stdout.strip() or f"status {result.returncode}").splitlines()[-1]


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[Engine, str]]:
    """The engine, and the name of the image that it has built of this checkout."""
    base, missing = os.environ.get("VOICEBUS_BASE_IMAGE", DEFAULT_BASE), []
    for engine in ENGINES:
        if shutil.which(engine.name) is None:
            missing.append(f"{engine.name} is not on PATH")
        elif (probe := run(engine.name, *engine.probe)).returncode != 0:
            missing.append(f"{engine.name} does not work here ({last_line(probe)})")
        elif run(engine.name, *engine.has, base).returncode != 0 and (
            (pulled := run(engine.name, *engine.pull, base)).returncode != 0
        ):
            missing.append(f"{engine.name} has no base image {base} and cannot pull it ({last_line(pulled)})")
        else:
            name = f"localhost/voicebus-test:{uuid.uuid4().hex[:12]}"
            arguments = [f"--build-arg=BASE_IMAGE={base}", f"--file={DOCKERFILE}", f"--tag={name}", str(ROOT)]
            result = run(engine.name, *engine.build, *arguments)
            assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
            yield engine, name
            run(engine.name, "rmi", name)
            return
    pytest.skip("the image is not built here: " + "; ".join(missing))


def in_container(built: tuple[Engine, str], *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the image as a cluster does: its own user, nothing writable but /tmp."""
    engine, name = built
    if engine.name != "buildah":
        hardened = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")
        return run(engine.name, "run", "--rm", *hardened, "--entrypoint", command[0], name, *command[1:])
    made = run("buildah", "from", name)
    assert made.returncode == 0, made.stderr
    container = made.stdout.strip()
    try:
        return run("buildah", "run", "--isolation=chroot", container, "--", *command)
    finally:
        run("buildah", "rm", container)


def test_every_service_starts_in_it_as_far_as_its_help(built: tuple[Engine, str]) -> None:
    for command in ("gateway", "tool-worker", "guardrail-worker", "transcript-archiver", "model-simulator", "migrate"):
        result = in_container(built, "voicebus", command, "--help")
        assert result.returncode == 0, result.stderr
        assert command in result.stdout


def test_it_runs_as_nobody_in_particular_and_has_no_compiler_and_no_pip(built: tuple[Engine, str]) -> None:
    told = in_container(built, "sh", "-c", "id -u; command -v gcc cc make pip pip3 || echo none")
    assert told.stdout.split() == ["10001", "none"], told.stderr


def test_a_database_is_migrated_in_it(built: tuple[Engine, str]) -> None:
    url = "sqlite:////tmp/calls.db"
    told = in_container(built, "sh", "-c", f"VOICEBUS_DATABASE_URL={url} voicebus migrate")
    assert told.returncode == 0, told.stderr
    assert "up to date" in told.stdout


def test_nothing_of_the_speech_extra_is_in_it(built: tuple[Engine, str]) -> None:
    program = "from importlib.metadata import distributions as d; print(sorted(x.name.lower() for x in d()))"
    told = in_container(built, "python3", "-c", program)
    names: Mapping[str, None] = dict.fromkeys(re.findall(r"'([^']+)'", told.stdout))
    assert "voicebus" in names, told.stderr
    assert not names.keys() & {"espeakng-loader", "faster-whisper", "av", "piper-tts"}
