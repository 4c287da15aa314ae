"""The Dockerfile: any builder takes it, nothing runs as root, nothing comes in that must not."""

import fnmatch
import json
import re
import shlex
from collections.abc import Iterator

import pytest
import typer

from deploy.cluster import SERVICES, SETTINGS, WITH_TARGETS, parse
from deploy.helm import ROOT
from voicebus_services.cli import app
from voicebus_services.settings import HttpSettings

DOCKERFILE = (ROOT / "deploy/docker/Dockerfile").read_text(encoding="utf-8")


def instructions() -> Iterator[tuple[str, str]]:
    """Instruction and arguments, comments left out and continued lines joined."""
    lines = "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#"))
    for line in re.sub(r"\\\n\s*", "", lines).splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name, rest


def last(name: str) -> str:
    return [rest for instruction, rest in instructions() if instruction == name][-1]


def image_environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in shlex.split(last("ENV")))


def test_no_syntax_is_used_that_only_buildkit_knows() -> None:
    # "# syntax=" fetches a frontend, "<<" is a heredoc.
    assert not re.search(r"^#\s*(syntax|escape|check)\s*=", DOCKERFILE, re.MULTILINE)
    assert "<<" not in DOCKERFILE
    for name, rest in instructions():
        if name == "RUN":
            assert not rest.startswith("--")
        if name in {"COPY", "ADD"}:
            flags = [word for word in rest.split() if word.startswith("--")]
            assert all(flag.startswith("--from=") for flag in flags), flags


def test_the_base_is_an_argument_and_the_same_for_both_stages() -> None:
    parsed = list(instructions())
    assert parsed[0] == ("ARG", "BASE_IMAGE=python:3.11-slim-bookworm")
    assert [rest for name, rest in parsed if name == "FROM"] == ["${BASE_IMAGE} AS build", "${BASE_IMAGE}"]


def test_it_ends_as_a_numeric_user_that_is_not_root() -> None:
    user, _, group = last("USER").partition(":")
    assert int(user) >= 10_000
    assert int(group) >= 10_000
    after = [name for name, _ in instructions()]
    assert "RUN" not in after[len(after) - after[::-1].index("USER") :]


def test_the_command_is_process_one() -> None:
    # A shell form would put sh there, which passes no signal on.
    assert json.loads(last("ENTRYPOINT")) == ["voicebus"]
    assert json.loads(last("CMD")) == ["--help"]


def test_the_commands_that_containers_are_given_exist() -> None:
    group = typer.main.get_command(app)
    commands = {name: group.get_command(None, name) for name in SETTINGS}  # type: ignore[attr-defined]
    assert {name for name, command in commands.items() if command is None} == set()
    with_targets = {name for name, command in commands.items() if "target" in {p.name for p in command.params}}
    assert with_targets == set(WITH_TARGETS)


@pytest.mark.parametrize("service", SERVICES)
def test_its_environment_opens_the_ports_of_each_service(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    general = {"VOICEBUS_LOG_FORMAT", "VOICEBUS_OPS_HOST"}
    environment = {name: value for name, value in image_environment().items() if name in general}
    settings = parse(environment, service, monkeypatch)
    assert settings.ops_host == "::"
    assert settings.log_format == "json"
    exposed = last("EXPOSE").split()
    assert str(settings.ops_port) in exposed
    if isinstance(settings, HttpSettings):
        assert str(settings.http_port) in exposed


def test_every_variable_of_the_image_is_a_setting() -> None:
    names = {name for name in image_environment() if name.startswith("VOICEBUS_")}
    assert {name.removeprefix("VOICEBUS_").lower() for name in names} <= HttpSettings.model_fields.keys()


def test_nothing_is_written_to_the_root_file_system_by_python() -> None:
    environment = image_environment()
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert environment["HOME"] == "/tmp"


def test_everything_installed_is_checked_against_a_hash_or_comes_from_the_sources() -> None:
    installs = [
        command
        for name, rest in instructions()
        if name == "RUN"
        for command in rest.split("&&")
        if re.search(r"\bpip\b.*\b(install|wheel)\b", command)
    ]
    assert len(installs) == 4
    for command in installs:
        assert "--require-hashes" in command or "--no-deps" in command, command


def test_the_build_context_is_what_is_copied_and_no_more() -> None:
    ignore = [
        line
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert ignore[0] == "*"
    let_in = {line[1:] for line in ignore if line.startswith("!")}
    copied = {
        word for name, rest in instructions() if name == "COPY" and "--from" not in rest for word in rest.split()[:-1]
    }
    assert {source.split("/")[0] for source in copied} == let_in
    assert all((ROOT / source).exists() for source in copied)
    assert not any(fnmatch.fnmatch(path, pattern) for path in (".env", ".git", ".venv") for pattern in let_in)
