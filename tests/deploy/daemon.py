"""A Docker daemon of the tests' own: nothing in it at first, and gone at the end with all that it has made."""

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

PROGRAM: Final = "dockerd"
_STARTS_WITHIN_S: Final = 60
_STOPS_WITHIN_S: Final = 60
_LOOPBACK: Final = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""Runs a command in a network of its own, which has a loopback address and no more."""
_WITH_US: Final = ("setpriv", "--pdeathsig", "TERM", "--")
"""Runs a command that ends with us, also where we are killed."""


class Daemon:
    """What it stores outlives a `stop`; `remove` ends that.

    It is started in one of two ways: in this machine's network, where builds reach what the machine does, and it makes
    no networks; or `apart`, in one of its own, where it makes bridges and rules as it likes, and reaches nobody.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="voicebus-docker-"))  # short, for its sockets
        (self._folder / "daemon.json").write_text("{}", encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None
        self.environment = {"DOCKER_HOST": f"unix://{self._folder}/docker.sock"}

    def start(self, *, apart: bool = False) -> str | None:
        """None once it answers, else why it does not."""
        folder = self._folder
        command = (
            *(_WITH_US if shutil.which(_WITH_US[0]) else ()),
            *(_LOOPBACK if apart else ()),
            *(PROGRAM, f"--host={self.environment['DOCKER_HOST']}", f"--data-root={folder}/data"),
            *(f"--exec-root={folder}/exec", f"--pidfile={folder}/docker.pid", f"--config-file={folder}/daemon.json"),
            *(() if apart else ("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false")),
        )
        with (folder / "log").open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            except OSError as error:  # no unshare
                return str(error)
        until = time.monotonic() + _STARTS_WITHIN_S
        while self._process.poll() is None and time.monotonic() < until:
            if self._answers():
                return None
            time.sleep(0.2)
        told = (folder / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return told[-1] if told else f"status {self._process.poll()}"

    def inside(self, *command: str) -> tuple[str, ...]:
        """The command, to be run where the ports are that its containers publish (`apart`)."""
        assert self._process is not None
        return ("nsenter", f"--net=/proc/{self._process.pid}/ns/net", *command)

    def stop(self) -> None:
        """End it; its containers have to have ended."""
        if self._process is None:
            return
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOPS_WITHIN_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def remove(self) -> None:
        """End it, and what it stored."""
        self.stop()
        discard(self._folder)

    def _answers(self) -> bool:
        asked = subprocess.run(
            ("docker", "info"), check=False, capture_output=True, timeout=60, env={**os.environ, **self.environment}
        )
        return asked.returncode == 0


def discard(folder: Path) -> None:
    """Remove what a daemon that has ended stored."""
    # It leaves its network's namespace mounted.
    places = [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    for place in reversed([place for place in places if place.startswith(f"{folder}/")]):
        subprocess.run(("umount", "--lazy", place), check=False, capture_output=True)
    shutil.rmtree(folder)
