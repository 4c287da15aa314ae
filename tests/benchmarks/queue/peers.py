"""The other queues, each in an environment of its own: together they would hold each other at old versions."""

import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[3]
FOLDER: Final = ROOT / ".cache" / "queues"
PACKAGES: Final = {
    "taskiq": ("taskiq>=0.12", "taskiq-redis>=1.1"),
    "docket": ("pydocket>=0.27",),
    "faststream": ("faststream[cli,redis]>=0.6",),
    "celery": ("celery[redis]>=5.5",),
    "arq": ("arq>=0.26",),
}
# What makes all of them quicker, and is there for whoever knows.
_QUICKER: Final = ("hiredis", "uvloop")


def python_of(peer: str) -> Path:
    """The interpreter that has this peer; made at the first call.

    Raises:
        CalledProcessError: it cannot be installed.
    """
    python = FOLDER / peer / "bin" / "python"
    made = FOLDER / peer / "made"
    if not made.exists():
        sys.stderr.write(f"benchmarks.queue: installing {peer}\n")
        venv.create(FOLDER / peer, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES[peer], *_QUICKER], check=True)
        made.touch()
    return python
