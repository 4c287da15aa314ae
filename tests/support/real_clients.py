"""Real, unmodified clients in environments of their own, of Python and of Node, and programs that run in them.

They are made once, in the project's `.cache`, and kept for as long as their versions suffice.
"""

import fcntl
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from support import node
from support.programs import json_of
from support.recording_proxy import Recording

ROOT: Final = Path(__file__).resolve().parents[2]
PROGRAMS: Final = ROOT / "tests" / "clients" / "programs"
ENVIRONMENT: Final = ROOT / ".cache" / "clients-venv"
OLDEST: Final = {
    "openai": (3, 54), "openai-agents": (0, 24), "fastapi": (0, 120), "aiortc": (1, 14), "aiohttp": (3, 13)
}  # fmt: skip
OLDEST_NPM: Final = ("openai>=7.50", "@openai/agents>=0.20", "ws", "zod")

_VERSIONS: Final = """
import json
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in ("openai", "openai-agents", "fastapi", "aiortc", "aiohttp", "websockets"):
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Served:
    """A gateway: its address as clients are given it, what passes between it and the model, and whom to trust."""

    base_url: str
    model: Recording
    authority: Path | None = None

    @property
    def socket_url(self) -> str:
        return f"{self.base_url.replace('http', 'ws', 1)}/realtime"


def installed() -> dict[str, str]:
    """Versions of the clients in the environment; nothing where there is none."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        return {}
    answer = subprocess.run([python, "-c", _VERSIONS], capture_output=True, text=True, check=False)
    versions: dict[str, str] = json.loads(answer.stdout) if answer.returncode == 0 else {}
    return versions


def too_old(versions: dict[str, str]) -> list[str]:
    """Clients that are missing or below the oldest version that counts."""
    found = {name: tuple(int(part) for part in version.split(".")[:2]) for name, version in versions.items()}
    return [name for name, oldest in OLDEST.items() if found.get(name, (0, 0)) < oldest]


class CannotInstallError(RuntimeError):
    """The clients' environment could not be made; says what pip said."""


def ensure() -> Path:
    """The environment's interpreter; made with the newest clients where it is missing or its clients are too old.

    Raises:
        CannotInstallError: it cannot be made, as without a package registry.
    """
    ENVIRONMENT.parent.mkdir(exist_ok=True)
    with (ENVIRONMENT.parent / "clients-venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes share the environment
        if too_old(installed()):
            _make()
    return ENVIRONMENT / "bin" / "python"


def _make() -> None:
    clients = [f"{name}>={major}.{minor}" for name, (major, minor) in OLDEST.items()]
    python = str(ENVIRONMENT / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
    steps: tuple[tuple[str, list[str]], ...] = (
        ("an environment for the clients", [sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)]),
        (", ".join(clients), [*pip, *(client.replace("openai>", "openai[realtime]>") for client in clients)]),
    )
    for what, step in steps:
        sys.stderr.write(f"installing {what} in {ENVIRONMENT.relative_to(ROOT)} (once) …\n")
        sys.stderr.flush()
        made = subprocess.run(step, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise CannotInstallError(f"{what} cannot be installed: {made.stdout}{made.stderr}".strip())


def ensure_npm() -> Path:
    """The folder with the npm clients, the newest where they are missing or too old."""
    return node.packages("clients", *OLDEST_NPM)


async def run_npm_program(name: str, served: Served, **given: Any) -> Any:
    """Run `programs/NAME.mjs` with Node against a gateway over TLS; returns the JSON that it prints last."""
    trusted = {"NODE_EXTRA_CA_CERTS": str(served.authority)}
    program = PROGRAMS / f"{name}.mjs"
    return await node.run(program, json.dumps(given, default=str), modules=ensure_npm(), env=trusted, timeout_s=240)


async def run_program(name: str, *arguments: str, stdin: bytes = b"", timeout_s: float = 240) -> Any:
    """Run `programs/NAME.py ARGUMENTS…` with the environment's interpreter; returns the JSON that it prints last."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "PYTHON"))}
    command = [str(ENVIRONMENT / "bin" / "python"), str(PROGRAMS / f"{name}.py"), *arguments]
    return await json_of(command, name, env=kept, stdin=stdin, timeout_s=timeout_s)
