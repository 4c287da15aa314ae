"""Where a container engine comes from in tests, and a base image where no registry is in reach.

Tried in order: docker with its daemon; a daemon of the tests' own, where one is installed and may be started (root);
podman; buildah with chroot isolation, for machines on which no container may be made.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deploy import daemon
from deploy.daemon import Daemon

DEFAULT_BASE: Final = "python:3.11-slim-bookworm"
DEBIAN_BASE: Final = "localhost/voicebus-test-base:bookworm"

_CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class Engine:
    """A way to build and run; `probe` tells whether it works here, `has` whether an image is there. `daemon` is that of
    the tests' own, where there is one."""

    name: str
    has: Sequence[str]
    build: Sequence[str]
    probe: Sequence[str] = ("info",)
    environment: dict[str, str] = field(default_factory=dict)
    daemon: Daemon | None = None

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (self.name, *arguments),
            check=False,
            capture_output=True,
            text=True,
            timeout=1500,
            env={**os.environ, **self.environment},
        )


DOCKER: Final = Engine("docker", ("image", "inspect"), ("build",))
ENGINES: Final = (
    DOCKER,
    # Isolated by a chroot: the network, and limits of the kernel, are this machine's.
    Engine("podman", ("image", "exists"), ("build", "--isolation=chroot")),
    Engine("buildah", ("inspect", "--type=image"), ("bud", "--isolation=chroot")),
)


def last_line(result: subprocess.CompletedProcess[str]) -> str:
    return (result.stderr.strip() or result.stdout.strip() or f"status {result.returncode}").splitlines()[-1]


@contextmanager
def an_engine(missing: list[str]) -> Iterator[Engine | None]:
    """The first engine that works here; None where none does, and `missing` then says why for each."""
    for engine in ENGINES:
        if shutil.which(engine.name) is None:
            missing.append(f"{engine.name} is not on PATH")
        elif (probe := engine.run(*engine.probe)).returncode == 0:
            yield engine
            return
        else:
            missing.append(f"{engine.name} does not work here ({last_line(probe)})")
            if engine is DOCKER and shutil.which(daemon.PROGRAM) is None:
                missing.append(f"{daemon.PROGRAM} is not on PATH")
            elif engine is DOCKER and os.geteuid() != 0:
                missing.append(f"{daemon.PROGRAM} may not be started (not root)")
            elif engine is DOCKER:
                with _own_daemon(missing) as own:
                    if own is not None:
                        yield own
                        return
    yield None


@contextmanager
def _own_daemon(missing: list[str]) -> Iterator[Engine | None]:
    own = Daemon()
    try:
        why_not = own.start()
        if why_not is None:
            yield Engine("docker", DOCKER.has, ("build", "--network=host"), environment=own.environment, daemon=own)
        else:
            missing.append(f"{daemon.PROGRAM} does not start here ({why_not})")
            yield None
    finally:
        own.remove()


def base_image(engine: Engine, missing: list[str]) -> str | None:
    """A base for the Dockerfile: `VOICEBUS_BASE_IMAGE` or its own, from the engine's storage or a registry; else one
    of Debian's packages, with the authorities that this machine trusts. None where there is none."""
    wanted = os.environ.get("VOICEBUS_BASE_IMAGE", DEFAULT_BASE)
    if engine.run(*engine.has, wanted).returncode == 0:
        return wanted
    pulled = engine.run("pull", wanted)
    if pulled.returncode == 0:
        return wanted
    missing.append(f"{engine.name} has no base image {wanted} and cannot pull it ({last_line(pulled)})")
    if shutil.which("mmdebstrap") is None or os.geteuid() != 0:
        missing.append("mmdebstrap, which makes one of Debian's packages, is not on PATH, or this is not root")
        return None
    with tempfile.TemporaryDirectory(prefix="voicebus-base-") as folder:
        archive = Path(folder) / "base.tar"
        trusting = [f"--customize-hook=copy-in {_CERTIFICATES} {_CERTIFICATES.parent}"] * _CERTIFICATES.exists()
        made = subprocess.run(
            (
                *("mmdebstrap", "--quiet", "--variant=minbase", "--include=python3,python3-venv,ca-certificates"),
                *trusting,
                f'--customize-hook=printf "[global]\\ncert = {_CERTIFICATES}\\n" > "$1/etc/pip.conf"',
                *("bookworm", str(archive)),
            ),
            check=False,
            capture_output=True,
            text=True,
            timeout=1500,
        )
        if made.returncode != 0:
            missing.append(f"mmdebstrap cannot make one ({last_line(made)})")
            return None
        imported = engine.run("import", str(archive), DEBIAN_BASE)
    if imported.returncode != 0:  # buildah knows no import
        missing.append(f"{engine.name} cannot import one ({last_line(imported)})")
        return None
    return DEBIAN_BASE
